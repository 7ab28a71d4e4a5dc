package cluster

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

const (
	// promiseFor is how long a server stands by for one set. Who collects
	// promises bootstraps within half of it, or not at all.
	promiseFor       = 10 * time.Second
	bootstrapRetry   = 500 * time.Millisecond
	firstJoinTimeout = 3 * time.Second
)

// standby is the promise of this server to be bootstrapped by one server only.
type standby struct {
	mu    sync.Mutex
	to    wasmatrix.ServerID
	until time.Time
}

// promise stands by for a server, unless it does so for another one, which it
// returns then. A server may ask again with another set: it gave up the first.
func (s *standby) promise(to wasmatrix.ServerID, now time.Time) (other wasmatrix.ServerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to != to && now.Before(s.until) {
		return s.to
	}
	s.to, s.until = to, now.Add(promiseFor)
	return ""
}

// plan is what gossip suggests to do.
type plan struct {
	servers []gossip.Member // bootstrap these, by ID
	wait    string          // why not, in words that do not change while nothing does
	loud    bool            // an operator has to look
	exists  bool            // there is a cluster to ask for admission
}

// planBootstrap decides from the members that gossip shows, own ones included.
func planBootstrap(members []gossip.Member, expect int) plan {
	var candidates []gossip.Member
	var differ []string
	for _, m := range members {
		if m.Role != gossip.RoleServer || m.Status == gossip.StatusLeft {
			continue
		}
		if m.HasState || m.Cluster != "" {
			// Dead or alive: whoever had a log may come back with it.
			return plan{exists: true, wait: "there is a cluster already: server " + m.Name + " belongs to it"}
		}
		if m.Status != gossip.StatusAlive || m.Expect == 0 {
			continue
		}
		if m.Expect != expect {
			differ = append(differ, m.Name+" has "+strconv.Itoa(m.Expect))
			continue
		}
		candidates = append(candidates, m)
	}
	switch {
	case expect == 0:
		return plan{wait: "bootstrap_expect is 0: this server waits for a cluster to join"}
	case len(differ) > 0:
		slices.Sort(differ)
		return plan{loud: true, wait: "bootstrap_expect differs between servers: here it is " + strconv.Itoa(expect) + ", but " + strings.Join(differ, ", ") + "; no cluster is made until they agree"}
	case len(candidates) < expect:
		return plan{wait: "found " + strconv.Itoa(len(candidates)) + " of the " + strconv.Itoa(expect) + " servers to make a cluster of"}
	}
	slices.SortFunc(candidates, func(a, b gossip.Member) int { return strings.Compare(string(a.Server), string(b.Server)) })
	return plan{servers: candidates}
}

// bootstrap makes a new cluster when that is due, and returns as soon as this
// server has a log, be it by itself or by replication.
func (c *Cluster) bootstrap() {
	g := c.gossip.Load()
	if c.cfg.BootstrapExpect == 1 && len(c.cfg.RetryJoin) > 0 && !c.hasState() {
		// Who is alone would make a cluster at once; give an existing one a chance.
		ctx, cancel := context.WithTimeout(c.ctx, firstJoinTimeout)
		if _, err := g.Join(ctx, c.cfg.RetryJoin); err != nil {
			c.log.Debug("no cluster found before bootstrapping one", "error", err)
		}
		cancel()
	}
	changed, stop := g.Subscribe()
	defer stop()
	ticker := time.NewTicker(bootstrapRetry)
	defer ticker.Stop()
	said := ""
	for !c.hasState() {
		p := planBootstrap(g.Members(), c.cfg.BootstrapExpect)
		switch {
		case p.wait == "" && p.servers[0].Server != c.identity.Server():
			p.wait = "server " + p.servers[0].Name + " is to make the cluster"
		case p.wait == "":
			if err := c.bootstrapWith(p.servers); err != nil {
				p.wait = "the cluster could not be made yet: " + err.Error()
			}
		}
		if p.wait != "" && p.wait != said {
			said = p.wait
			if p.loud {
				c.log.Error("not bootstrapping", "reason", p.wait)
			} else {
				c.log.Info("not bootstrapping", "reason", p.wait)
			}
		}
		select {
		case <-c.ctx.Done():
			return
		case <-changed:
		case <-ticker.C:
		}
	}
	c.announceState()
}

// announceState tells the others that this server has a log.
func (c *Cluster) announceState() {
	if err := c.gossip.Load().SetTags(func(t *gossip.Tags) { t.HasState = true }); err != nil && c.ctx.Err() == nil {
		c.log.Warn("tags were not changed", "error", err)
	}
}

// bootstrapAlone makes a cluster of this server.
func (c *Cluster) bootstrapAlone() error {
	c.log.Info("making a cluster of this server alone")
	return c.control.group.Bootstrap([]group.Server{{ID: c.identity.Server(), Addr: c.stream.Addr().String(), Voter: true}})
}

// bootstrapWith collects the promises of all others and then bootstraps this
// server's log.
func (c *Cluster) bootstrapWith(members []gossip.Member) error {
	start := time.Now()
	ids := make([]wasmatrix.ServerID, len(members))
	servers := make([]group.Server, len(members))
	for i, m := range members {
		ids[i] = m.Server
		servers[i] = group.Server{ID: m.Server, Addr: m.RaftAddr, Voter: true}
	}
	if err := c.promise(&request{From: c.identity.Server(), Servers: ids}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, controlTimeout)
	defer cancel()
	errs := make([]error, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		if m.Server == c.identity.Server() {
			continue
		}
		wg.Go(func() {
			_, errs[i] = c.ask(ctx, m.Server, m.RaftAddr, request{Op: opPromise, Servers: ids})
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return wasmatrix.Errorf(wasmatrix.CodeCommunication, "server %s: %w", members[i].Name, err)
		}
	}
	if took := time.Since(start); took > promiseFor/2 {
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the promises took too long")
	}
	if c.hasState() {
		return nil
	}
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Name
	}
	c.log.Info("making a cluster", "servers", names)
	return c.control.group.Bootstrap(servers)
}

// promise makes this server stand by to be bootstrapped by the one that asks,
// which proposes one set at a time, unless it has a log or stands by for another.
func (c *Cluster) promise(req *request) error {
	refuse := func(why string) error {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "server %s does not take part: %s", c.cfg.Name, why)
	}
	switch {
	case !slices.Contains(req.Servers, c.identity.Server()) || !slices.Contains(req.Servers, req.From):
		return refuse("it is not one of the servers")
	case c.cfg.BootstrapExpect == 0 || len(req.Servers) < c.cfg.BootstrapExpect:
		return refuse("its bootstrap_expect is " + strconv.Itoa(c.cfg.BootstrapExpect))
	case c.hasState() || c.identity.Cluster() != "":
		return refuse("it belongs to a cluster")
	}
	if other := c.standby.promise(req.From, time.Now()); other != "" {
		return refuse("it stands by for " + nameOf(other))
	}
	return nil
}
