package group

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// Server is a member of a group.
type Server struct {
	ID    wasmatrix.ServerID
	Addr  string // of its listener
	Voter bool
}

// configuration returns the latest one, committed or not.
func (g *Group) configuration() raft.Configuration {
	return g.raft.GetConfiguration().Configuration() // answers from memory
}

// Servers returns the members, and the index of the last configuration known
// to be committed, for use as prevIndex. While a change is under way the members
// include it and the index does not: a change based on it is then CONFLICT.
func (g *Group) Servers() (servers []Server, index uint64) {
	_, index = g.machine.position()
	return serversOf(g.configuration()), index
}

// Members returns the members, and whether they are settled: known to be
// committed. While a change is under way they are not, nor on a server that has
// not applied its log yet.
func (g *Group) Members() (servers []Server, settled bool) {
	latest := g.raft.GetConfiguration()
	_, index := g.machine.position()
	return serversOf(latest.Configuration()), latest.Index() <= index
}

func serversOf(conf raft.Configuration) (servers []Server) {
	for _, s := range conf.Servers {
		servers = append(servers, Server{ID: wasmatrix.ServerID(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return servers
}

// HasState reports whether this server has ever taken part in the group.
func (g *Group) HasState() bool {
	return g.raft.LastIndex() > 0 || g.raft.CurrentTerm() > 0
}

// Bootstrap begins the group with these servers, of which this one must be a
// voter. It is done once in the life of a group, on one server; on a server
// that has state it is CONFLICT.
func (g *Group) Bootstrap(servers []Server) error {
	conf := configurationOf(servers)
	if !hasVoter(conf, raft.ServerID(g.conf.ID)) {
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "server %s cannot bootstrap a group in which it has no vote", g.conf.ID)
	}
	return g.translate(g.await(g.ctx, func() error { return g.raft.BootstrapCluster(conf).Error() }))
}

func configurationOf(servers []Server) (conf raft.Configuration) {
	for _, s := range servers {
		suffrage := raft.Nonvoter
		if s.Voter {
			suffrage = raft.Voter
		}
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Addr), Suffrage: suffrage})
	}
	return conf
}

// begin writes the founders into an empty log, before raft reads it.
func (g *Group) begin(settings *raft.Config) error {
	founders := configurationOf(g.conf.Founders)
	if !hasVoter(founders, settings.LocalID) {
		return nil
	}
	failed := func(err error) error {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "begin group %s: %w", g.conf.Name, err)
	}
	last, err := g.disk.LastIndex()
	if err != nil {
		return failed(err)
	}
	snaps, err := g.snapshots.List()
	if err != nil {
		return failed(err)
	}
	if last > 0 || len(snaps) > 0 {
		return nil
	}
	switch has, err := raft.HasExistingState(g.disk, g.disk, g.snapshots); {
	case err != nil:
		return failed(err)
	case !has:
		err = raft.BootstrapCluster(settings, g.disk, g.disk, g.snapshots, g.transport, founders)
		if err != nil {
			return failed(err)
		}
		return nil
	}
	// It has a term: a crash came before the entry. BootstrapCluster would refuse
	// for ever.
	entry := raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(founders)}
	if err := g.disk.StoreLog(&entry); err != nil {
		return failed(err)
	}
	return nil
}

// AddNonvoter adds a server that receives the log and does not vote, or gives
// one its new address. Like all changes of the members it runs on the leader,
// one at a time, and has happened when it returns without error. Unless
// prevIndex is 0 it must be that of the last change (CONFLICT).
func (g *Group) AddNonvoter(ctx context.Context, id wasmatrix.ServerID, addr string, prevIndex uint64) error {
	return g.change(ctx, func(wait time.Duration) raft.IndexFuture {
		return g.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), prevIndex, wait)
	})
}

// AddVoter adds a server with a vote, or gives one that has none its vote.
func (g *Group) AddVoter(ctx context.Context, id wasmatrix.ServerID, addr string, prevIndex uint64) error {
	return g.change(ctx, func(wait time.Duration) raft.IndexFuture {
		return g.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), prevIndex, wait)
	})
}

// DemoteVoter takes a server's vote.
func (g *Group) DemoteVoter(ctx context.Context, id wasmatrix.ServerID, prevIndex uint64) error {
	return g.change(ctx, func(wait time.Duration) raft.IndexFuture {
		return g.raft.DemoteVoter(raft.ServerID(id), prevIndex, wait)
	})
}

// RemoveServer removes a server. A leader that removes itself steps down.
func (g *Group) RemoveServer(ctx context.Context, id wasmatrix.ServerID, prevIndex uint64) error {
	return g.change(ctx, func(wait time.Duration) raft.IndexFuture {
		return g.raft.RemoveServer(raft.ServerID(id), prevIndex, wait)
	})
}

func (g *Group) change(ctx context.Context, ask func(wait time.Duration) raft.IndexFuture) error {
	wait := g.conf.WatchdogAfter
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Until(deadline), time.Millisecond) // 0 would be for ever
	}
	return g.translate(g.await(ctx, func() error { return ask(wait).Error() }))
}

// TransferLeadership makes a server the leader, any suitable one for "". It
// returns without error once this server no longer leads; the other may still
// fail to win.
func (g *Group) TransferLeadership(ctx context.Context, id wasmatrix.ServerID) error {
	if !g.leads() {
		return g.notLeader()
	}
	if id == g.conf.ID {
		return nil
	}
	ask := g.raft.LeadershipTransfer
	if id != "" {
		addr, ok := "", false
		for _, s := range g.configuration().Servers {
			if s.ID == raft.ServerID(id) && s.Suffrage == raft.Voter {
				addr, ok = string(s.Address), true
			}
		}
		if !ok {
			return wasmatrix.Errorf(wasmatrix.CodeValidation, "server %s has no vote in group %s and cannot lead it", id, g.conf.Name)
		}
		ask = func() raft.Future {
			return g.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(addr))
		}
	}
	err := g.await(ctx, func() error { return ask().Error() })
	if err == nil || g.failure.failed() || ctx.Err() != nil {
		return g.translate(err)
	}
	if !g.leads() {
		return nil
	}
	if e := wasmatrix.AsError(g.translate(err)); e.Code != wasmatrix.CodeStorage {
		return e
	}
	// Raft has no value for a transfer that came to nothing.
	return withOutcome(wasmatrix.Errorf(wasmatrix.CodeCommunication, "leadership of group %s was not handed over: %w", g.conf.Name, err), wasmatrix.OutcomeNone)
}
