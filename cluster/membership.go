package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
)

// answered is when a server last answered, and what.
type answered struct {
	at    time.Time
	stats serverStats
}

// tendMembership is the leader's work on the configuration in one term:
// autopilot makes healthy servers voters and removes dead ones; addresses that
// changed are recorded.
func (c *Cluster) tendMembership(ctx context.Context, _ uint64) {
	c.mu.Lock()
	clear(c.lastAnswer) // of an earlier term: everyone gets the whole grace again
	c.mu.Unlock()
	pilot := autopilot.New(&pilotRaft{c.control.group.Raft(), c, ctx}, &pilotView{c: c, ctx: ctx, since: time.Now()},
		autopilot.WithLogger(c.log),
		autopilot.WithUpdateInterval(c.autopilot.UpdateInterval),
		autopilot.WithReconcileInterval(c.autopilot.ReconcileInterval))
	pilot.Start(ctx)
	defer func() { <-pilot.Stop() }()
	changed, stop := c.gossip.Load().Subscribe()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			c.control.recordAddresses(ctx)
		}
	}
}

// recordAddresses writes addresses that servers have moved to into the
// configuration, so that they are found where gossip is not.
func (h *HostedGroup) recordAddresses(ctx context.Context) {
	h.changing.Lock()
	defer h.changing.Unlock()
	servers := h.Servers()
	taken := make(map[string]bool, len(servers))
	for _, s := range servers {
		taken[s.Addr] = true
	}
	for _, s := range servers {
		m, ok := h.c.member(s.ID)
		if !ok || m.Status != gossip.StatusAlive || m.RaftAddr == "" || taken[m.RaftAddr] {
			continue
		}
		add := h.group.AddNonvoter
		if s.Voter {
			add = h.group.AddVoter
		}
		if err := add(ctx, s.ID, m.RaftAddr, 0); err != nil {
			if ctx.Err() == nil {
				h.c.log.Warn("a server's new address was not recorded", "group", h.conf.Name, "server", s.ID, "addr", m.RaftAddr, "error", err)
			}
			return
		}
		h.c.log.Info("a server has moved", "group", h.conf.Name, "server", s.ID, "from", s.Addr, "to", m.RaftAddr)
	}
}

// pilotRaft is what autopilot changes.
type pilotRaft struct {
	*raft.Raft
	c   *Cluster
	ctx context.Context // of the term
}

// AddVoter gives a server its vote, once it may have one. It blocks.
func (r *pilotRaft) AddVoter(id raft.ServerID, addr raft.ServerAddress, prevIndex uint64, timeout time.Duration) raft.IndexFuture {
	control := r.c.control
	control.changing.Lock()
	defer control.changing.Unlock()
	if err := r.c.mayChangeVoters(func(p *proposer, term uint64, voters []Server) error {
		return p.mayPromote(r.ctx, term, voters, Server{ID: wasmatrix.ServerID(id), Addr: string(addr)})
	}); err != nil {
		return refusal{err}
	}
	f := r.Raft.AddVoter(id, addr, prevIndex, timeout)
	_ = f.Error() // kept in f, for autopilot
	return f
}

// refusal is a change that was not made.
type refusal struct{ err error }

func (r refusal) Error() error { return r.err }
func (refusal) Index() uint64  { return 0 }

// pilotView is what autopilot sees of one term's cluster.
type pilotView struct {
	c     *Cluster
	ctx   context.Context // of the term
	since time.Time       // when the term began here
}

var _ autopilot.ApplicationIntegration = (*pilotView)(nil)

func (v *pilotView) AutopilotConfig() *autopilot.Config {
	a := v.c.autopilot
	return &autopilot.Config{
		CleanupDeadServers:      !a.KeepDeadServers,
		LastContactThreshold:    a.LastContactThreshold,
		MaxTrailingLogs:         a.MaxTrailingLogs,
		MinQuorum:               a.MinQuorum,
		ServerStabilizationTime: a.StabilizationTime,
	}
}

func (v *pilotView) NotifyState(*autopilot.State) {}

// silence is for how long a server has not answered this leader.
func (v *pilotView) silence(id wasmatrix.ServerID) (time.Duration, serverStats) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	if a, ok := v.c.lastAnswer[id]; ok {
		return time.Since(a.at), a.stats
	}
	return time.Since(v.since), serverStats{}
}

// judge says what autopilot is to think of a server by what gossip thinks, ""
// where it knows nothing, and by how long the server has not answered the leader.
// One counts as failed only when both have lost it, the leader for the whole
// grace. One that said it goes should have been removed, and has little grace.
func (a Autopilot) judge(status gossip.Status, silent time.Duration) autopilot.NodeStatus {
	switch {
	case status == gossip.StatusAlive:
		return autopilot.NodeAlive
	case silent > a.DeadServerGrace:
		return autopilot.NodeFailed
	case status == gossip.StatusLeft && silent > 3*a.LastContactThreshold:
		return autopilot.NodeLeft
	default:
		return autopilot.NodeAlive
	}
}

// KnownServers lists all servers of the configuration: autopilot would remove
// at once what is missing here.
func (v *pilotView) KnownServers() map[raft.ServerID]*autopilot.Server {
	leader := v.c.control.Leader()
	out := make(map[raft.ServerID]*autopilot.Server)
	for _, s := range v.c.control.Servers() {
		m, _ := v.c.member(s.ID)
		silent, _ := v.silence(s.ID)
		status := autopilot.NodeAlive
		if s.ID != v.c.identity.Server() {
			status = v.c.autopilot.judge(m.Status, silent)
		}
		out[raft.ServerID(s.ID)] = &autopilot.Server{
			ID:          raft.ServerID(s.ID),
			Name:        nameOf(s.ID),
			Address:     raft.ServerAddress(s.Addr),
			NodeStatus:  status,
			Version:     m.Version,
			RaftVersion: int(raft.ProtocolVersionMax),
			IsLeader:    leader.Known && leader.ID == s.ID,
			NodeType:    autopilot.NodeVoter,
		}
	}
	return out
}

// FetchServerStats asks every server. For those that do not answer it makes up
// a last contact that grows, since autopilot would keep the last good figures.
func (v *pilotView) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	targets := make([]Server, 0, len(servers))
	for id, s := range servers {
		targets = append(targets, Server{ID: wasmatrix.ServerID(id), Addr: string(s.Address)})
	}
	stats := v.c.fetchStats(ctx, targets)
	now := time.Now()
	v.c.mu.Lock()
	for id, s := range stats {
		v.c.lastAnswer[id] = answered{at: now, stats: s}
	}
	v.c.mu.Unlock()
	out := make(map[raft.ServerID]*autopilot.ServerStats, len(servers))
	for id := range servers {
		s, ok := stats[wasmatrix.ServerID(id)]
		if !ok {
			var silent time.Duration
			silent, s = v.silence(wasmatrix.ServerID(id))
			s.LastContact += silent
		}
		out[id] = &autopilot.ServerStats{LastContact: s.LastContact, LastTerm: s.LastTerm, LastIndex: s.LastIndex}
	}
	return out
}

// RemoveFailedServer removes a server that autopilot has found dead.
func (v *pilotView) RemoveFailedServer(s *autopilot.Server) {
	c, id := v.c, wasmatrix.ServerID(s.ID)
	c.mu.Lock()
	busy := c.removing[id]
	c.removing[id] = true
	c.mu.Unlock()
	if busy {
		return
	}
	c.spawn(func() {
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.removing, id)
		}()
		ctx, cancel := context.WithTimeout(v.ctx, commitTimeout)
		defer cancel()
		if err := c.control.removeServer(ctx, id); err != nil {
			if v.ctx.Err() == nil {
				c.log.Warn("a dead server could not be removed", "server", id, "error", err)
			}
			return
		}
		c.log.Warn("removed a dead server", "server", id, "grace", c.autopilot.DeadServerGrace)
	})
}
