package cluster

import (
	"context"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
)

// Member is an agent as gossip knows it.
type Member = gossip.Member

// Members returns all agents that gossip knows: servers first, then nodes, each
// by name.
func (c *Cluster) Members() []Member { return c.gossip.Load().Members() }

// MembersChanged returns a new channel that holds a value whenever Members may
// have changed since it was last drained, beginning with one. It lives until
// Close, so call it once for each reader.
func (c *Cluster) MembersChanged() <-chan struct{} {
	changed, _ := c.gossip.Load().Subscribe()
	return changed
}

// Peer is a server of the Raft configuration.
type Peer struct {
	ID       wasmatrix.ServerID
	Name     string
	RaftAddr string
	APIAddr  string // "" where gossip does not know the server
	Voter    bool
	Leader   bool
	// Healthy says that the server answered, is in touch with the leader, and
	// is not far behind the furthest.
	Healthy     bool
	LastIndex   uint64 // 0 where it did not answer
	Applied     uint64
	LastContact time.Duration // since it heard the leader; negative where that is unknown
	Version     string
}

// Peers returns the configuration as this server knows it, by ID, and the log
// index of that knowledge. Each server is asked for its state; one that does not
// answer within a second, or before ctx ends, is unhealthy.
func (c *Cluster) Peers(ctx context.Context) ([]Peer, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	index := c.control.group.Stats().Applied
	servers := c.control.Servers()
	stats := c.fetchStats(ctx, servers)
	leader := c.control.Leader()
	var furthest uint64
	for _, s := range stats {
		furthest = max(furthest, s.LastIndex)
	}
	peers := make([]Peer, 0, len(servers))
	for _, s := range servers {
		p := Peer{ID: s.ID, Name: nameOf(s.ID), RaftAddr: s.Addr, Voter: s.Voter, Leader: leader.Known && leader.ID == s.ID, LastContact: -1}
		if m, ok := c.member(s.ID); ok {
			p.APIAddr, p.Version = m.APIAddr, m.Version
			if m.RaftAddr != "" {
				p.RaftAddr = m.RaftAddr
			}
		}
		if st, ok := stats[s.ID]; ok {
			p.LastIndex, p.Applied, p.LastContact, p.Version = st.LastIndex, st.Applied, st.LastContact, st.Version
			p.Healthy = leader.Known && st.LastContact >= 0 && st.LastContact <= c.autopilot.LastContactThreshold &&
				st.LastIndex+c.autopilot.MaxTrailingLogs >= furthest
		}
		peers = append(peers, p)
	}
	return peers, index, nil
}

// fetchStats asks servers for their state. Those that do not answer are missing
// from the answer.
func (c *Cluster) fetchStats(ctx context.Context, servers []Server) map[wasmatrix.ServerID]serverStats {
	out := make(map[wasmatrix.ServerID]serverStats, len(servers))
	for id, a := range c.askAll(ctx, servers, request{Op: opStats}) {
		if a.err == nil && a.Stats != nil {
			out[id] = *a.Stats
		}
	}
	return out
}

func (c *Cluster) localStats() serverStats {
	out := serverStats{logStats: c.control.logStats(), Version: c.cfg.Version, Leaving: c.isLeaving()}
	for _, h := range c.hosted {
		if h.running() == nil {
			continue
		}
		if out.Groups == nil {
			out.Groups = make(map[string]logStats)
		}
		out.Groups[h.conf.Name] = h.logStats()
	}
	return out
}

// logStats needs a group that is open.
func (h *HostedGroup) logStats() logStats {
	s := h.group.Stats()
	return logStats{LastContact: s.LastContact, Term: s.Term, LastTerm: s.LastTerm, LastIndex: s.LastIndex, Applied: s.Applied}
}

// GroupStatus is this server's view of one group.
type GroupStatus struct {
	State     string // leader, follower, candidate or shutdown; "" before the group has begun
	Term      uint64
	Leader    Leader
	Commit    uint64
	Applied   uint64
	LastIndex uint64
	// LastContact is since the leader was heard, 0 on the leader, negative where
	// it never was.
	LastContact time.Duration
	Voters      int
	// FailureTolerance is how many further voters may fail before writes stop, by
	// what gossip sees; negative where that many must come back.
	FailureTolerance int
}

// Status answers from what this server knows, without asking others.
func (h *HostedGroup) Status() GroupStatus {
	g := h.running()
	if g == nil {
		return GroupStatus{LastContact: -1}
	}
	s := g.Stats()
	out := GroupStatus{
		State: strings.ToLower(s.State), Term: s.Term, Leader: h.Leader(),
		Commit: s.Commit, Applied: s.Applied, LastIndex: s.LastIndex, LastContact: s.LastContact,
	}
	alive := 0
	for _, sv := range h.Servers() {
		if !sv.Voter {
			continue
		}
		out.Voters++
		if m, ok := h.c.member(sv.ID); sv.ID == h.c.identity.Server() || ok && m.Status == gossip.StatusAlive {
			alive++
		}
	}
	if out.Voters > 0 {
		out.FailureTolerance = alive - (out.Voters/2 + 1)
	}
	return out
}

// Status is this server's view of itself and the control group.
type Status struct {
	Cluster wasmatrix.ClusterID
	Server  wasmatrix.ServerID
	Name    string
	Version string
	GroupStatus
	StartedAt time.Time
}

// Status answers from what this server knows, without asking others.
func (c *Cluster) Status() Status {
	return Status{
		Cluster: c.identity.Cluster(), Server: c.identity.Server(), Name: c.cfg.Name, Version: c.cfg.Version,
		GroupStatus: c.control.Status(), StartedAt: c.started,
	}
}
