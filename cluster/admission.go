package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

// lonelyIntervals is after how many admission intervals without a leader, or
// outside its own configuration, a member asks whether it still is one.
const lonelyIntervals = 5

// seekMembership asks the leader for admission once after the start, whatever
// the own log says: it may be older than a removal. From then on it finds out
// when this server is removed, which only the leader's word settles: a log
// that is catching up shows configurations of the past.
func (c *Cluster) seekMembership() {
	changed, stop := c.gossip.Load().Subscribe()
	defer stop()
	ticker := time.NewTicker(c.autopilot.AdmissionInterval)
	defer ticker.Stop()
	settled := false      // the leader has said that this server is a member
	contact := time.Now() // when all was well
	var asked time.Time
	said := ""
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-changed:
			if settled {
				continue
			}
		case <-ticker.C:
		}
		if c.isLeaving() {
			continue // it may fail
		}
		l := c.control.Leader()
		well := l.Known && c.control.has(c.identity.Server())
		if well && (settled || l.Self) {
			settled, contact = true, time.Now()
			continue
		}
		if settled && time.Since(contact) < lonelyIntervals*c.autopilot.AdmissionInterval {
			continue
		}
		if time.Since(asked) < c.autopilot.AdmissionInterval/2 {
			continue // gossip is lively
		}
		asked = time.Now()
		member, err := c.askMembership(settled)
		switch refused, _ := errors.AsType[*controlError](err); {
		case c.ctx.Err() != nil:
			return
		case refused != nil && refused.Fatal:
			c.fatal(refused.err())
			return
		case err != nil:
			if errors.Is(err, errNobody) {
				asked = time.Time{} // ask as soon as gossip finds someone
			}
			if text := err.Error(); text != said {
				said = text
				c.log.Info("no leader has taken this server in yet", "reason", err)
			}
		case member:
			if !settled {
				c.log.Info("this server is a member of the cluster")
			}
			settled, contact, said = true, time.Now(), ""
		case !c.isLeaving():
			c.noticeRemoval()
			return
		}
	}
}

// askMembership asks the leader whether this server is in the configuration,
// and unless it was once, to take it in.
func (c *Cluster) askMembership(was bool) (bool, error) {
	op := opAdmit
	if was {
		op = opMember
	}
	ctx, cancel := context.WithTimeout(c.ctx, commitTimeout+controlTimeout)
	defer cancel()
	resp, err := c.control.askLeader(ctx, request{
		Op: op, Addr: c.stream.Addr().String(), State: c.hasState(), Started: c.gossip.Load().Tags().Started,
	})
	return err == nil && resp.Member, err
}

// noticeRemoval reports that this server was removed by others. It stays until the
// hosted groups need it no more for their majorities, or that takes too long.
func (c *Cluster) noticeRemoval() {
	c.setLeaving(true)
	ctx, cancel := context.WithTimeout(c.ctx, commitTimeout)
	defer cancel()
	if err := c.leaveHosted(ctx); err != nil && c.ctx.Err() == nil {
		c.log.Warn("this server is still a member of a hosted group", "error", err)
	}
	c.log.Warn("this server was removed from the cluster; started again, it asks to be taken in")
	if c.cfg.OnRemoved != nil {
		go c.cfg.OnRemoved() // may call Close
	}
}

// sleep reports whether ctx let it sleep.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (c *Cluster) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

var errNobody = wasmatrix.Errorf(wasmatrix.CodeNoLeader, "no server of a cluster is known")

// askLeader sends req to the group's leader, which it finds by asking whom gossip
// shows to be in a cluster. The error is a *controlError where the leader refused.
func (h *HostedGroup) askLeader(ctx context.Context, req request) (*response, error) {
	c := h.c
	req.Group = h.conf.Name
	type target struct {
		id   wasmatrix.ServerID
		addr string
	}
	var targets []target
	for _, m := range c.gossip.Load().Members() {
		if m.Role == gossip.RoleServer && m.Status == gossip.StatusAlive && !m.Self && m.RaftAddr != "" && (m.HasState || m.Cluster != "") {
			targets = append(targets, target{m.Server, m.RaftAddr})
		}
	}
	tried := make(map[wasmatrix.ServerID]bool)
	first := func(id wasmatrix.ServerID) {
		if i := slices.IndexFunc(targets, func(t target) bool { return t.id == id }); i > 0 {
			t := targets[i]
			targets = slices.Insert(slices.Delete(targets, i, i+1), 0, t)
		}
	}
	if l := h.Leader(); l.Known && !l.Self {
		first(l.ID)
	}
	var last error = errNobody
	for len(targets) > 0 && ctx.Err() == nil {
		t := targets[0]
		targets = targets[1:]
		if tried[t.id] {
			continue
		}
		tried[t.id] = true
		resp, err := c.ask(ctx, t.id, t.addr, req)
		refused, ok := errors.AsType[*controlError](err)
		if err == nil || ok && refused.Code != wasmatrix.CodeNotLeader {
			return resp, err
		}
		last = err
		if ok && refused.Leader != "" {
			first(refused.Leader)
		}
	}
	return nil, last
}

// lead returns nil where this server leads the group, as a majority has just
// confirmed.
func (h *HostedGroup) lead(ctx context.Context) error {
	l := h.Leader()
	if l.Self {
		_, err := h.group.Read(ctx)
		return err
	}
	err := wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s is not the leader of group %s", h.c.cfg.Name, h.conf.Name)
	if !l.Known {
		return err
	}
	return err.With(group.DetailLeaderID, string(l.ID))
}

func (h *HostedGroup) isMember(ctx context.Context, id wasmatrix.ServerID) (*response, error) {
	if err := h.lead(ctx); err != nil {
		return nil, err
	}
	return &response{Member: h.has(id)}, nil
}

// admit is the leader's answer to a server that wants to be in the configuration.
func (c *Cluster) admit(ctx context.Context, req *request) (*response, error) {
	if err := c.control.lead(ctx); err != nil {
		return nil, err
	}
	c.heard(req.From)
	name := nameOf(req.From)
	own := c.identity.Cluster()
	switch {
	case req.Cluster != "" && own != "" && req.Cluster != own:
		return nil, &controlError{Code: wasmatrix.CodeConflict, Fatal: true,
			Message: "server " + name + " belongs to cluster " + string(req.Cluster) + ", this is cluster " + string(own)}
	case req.Addr == "":
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "server %s does not say where it is reached", name)
	}
	c.control.changing.Lock()
	defer c.control.changing.Unlock()
	for _, s := range c.control.Servers() {
		switch {
		case s.ID == req.From:
			return &response{Member: true}, nil
		case nameOf(s.ID) == name:
			return nil, &controlError{Code: wasmatrix.CodeConflict, Fatal: true,
				Message: "server " + name + " is known with another disk: its data directory was lost or replaced; " +
					"remove the old one first with: wasmatrix cluster remove-peer " + name}
		case s.Addr == req.Addr:
			return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "server %s is known at %s, where server %s says it is: remove it first with: wasmatrix cluster remove-peer %s",
				nameOf(s.ID), s.Addr, name, nameOf(s.ID))
		}
	}
	if req.State && (req.Cluster == "" || req.Cluster != own) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "server %s has a log that is not known to be of this cluster", name)
	}
	if c.wasExpelled(req) {
		return &response{}, nil
	}
	c.log.Info("taking a server in as a non-voter", "server", req.From, "addr", req.Addr)
	if err := c.control.group.AddNonvoter(ctx, req.From, req.Addr, 0); err != nil {
		return nil, err
	}
	return &response{Member: true}, nil
}

// heard notes that a server is there. Who comes back after it was removed as dead
// would otherwise be removed again for its silence before.
func (c *Cluster) heard(id wasmatrix.ServerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastAnswer[id] = answered{at: time.Now(), stats: c.lastAnswer[id].stats}
}

// wasExpelled reports whether an operator removed this very process. It may
// have been too young to know that it was a member.
func (c *Cluster) wasExpelled(req *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	started, ok := c.expelled[req.From]
	if ok && started != req.Started {
		delete(c.expelled, req.From)
	}
	return ok && started == req.Started
}
