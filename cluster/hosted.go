package cluster

import (
	"context"
	"io"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

// HostedGroup is this server's part in one Raft group of the cluster: the control
// group, whose methods [Cluster] has, or one of [Config.Groups]. Its methods may
// be called from any goroutine. Errors are *[wasmatrix.Error].
//
// A group of [Config.Groups] has no leader until the servers have agreed how it
// begins; calls are NO_LEADER until then.
type HostedGroup struct {
	c    *Cluster
	conf GroupConfig
	dir  string

	changing sync.Mutex // serializes this leader's changes of the configuration

	opening sync.Mutex
	closed  bool
	opened  chan struct{} // closed once group is there
	group   *group.Group  // read it by running, but for the control group, which always runs

	acceptor acceptor
	proposer proposer
}

func newHostedGroup(c *Cluster, conf GroupConfig, dir string) *HostedGroup {
	h := &HostedGroup{c: c, conf: conf, dir: dir, opened: make(chan struct{})}
	h.acceptor.term = func() uint64 { return c.control.group.Raft().CurrentTerm() }
	h.acceptor.save = h.save
	h.proposer.group, h.proposer.ask = conf.Name, c.askAll
	return h
}

// start opens the group, unless it is open. Founders are those that it begins
// with where the log is empty; none leaves that to Bootstrap.
func (h *HostedGroup) start(founders []group.Server) error {
	h.opening.Lock()
	defer h.opening.Unlock()
	if h.closed {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "this server is shutting down")
	}
	if h.group != nil {
		return nil
	}
	c, conf := h.c, h.conf
	g, err := group.Open(group.Config{
		Name:     conf.Name,
		Dir:      h.dir,
		ID:       c.identity.Server(),
		Stream:   c.stream,
		Machine:  conf.Machine,
		Verify:   conf.Verify,
		Founders: founders,
		LogStore: c.cfg.LogStore,
		Timing:   c.cfg.Timing,
		Resolve:  c.resolve,
		Fatal:    c.fatal,
		Logger:   c.log,

		SnapshotThreshold: conf.SnapshotThreshold,
		SnapshotInterval:  conf.SnapshotInterval,
		SnapshotsKept:     conf.SnapshotsKept,
		TrailingLogs:      conf.TrailingLogs,
		StallAfter:        c.cfg.StallAfter,

		MaxCommandBytes:  conf.MaxCommandBytes,
		MaxBatchBytes:    conf.MaxBatchBytes,
		MaxBatchCommands: conf.MaxBatchCommands,
		MaxInFlight:      conf.MaxInFlight,
		QueueLimit:       conf.QueueLimit,
		QueueBytes:       conf.QueueBytes,
	})
	if err != nil {
		return err
	}
	h.group = g
	close(h.opened)
	return nil
}

func (h *HostedGroup) close() error {
	h.opening.Lock()
	h.closed = true
	g := h.group
	h.opening.Unlock()
	if g == nil {
		return nil
	}
	return g.Close()
}

// running returns the group, nil while it is not open.
func (h *HostedGroup) running() *group.Group {
	select {
	case <-h.opened:
		return h.group
	default:
		return nil
	}
}

// asked is running for a request.
func (h *HostedGroup) asked() (*group.Group, error) {
	if g := h.running(); g != nil {
		return g, nil
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeNoLeader, "group %s has not begun yet", h.conf.Name).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// Propose replicates a command and returns what the state machine answered, an
// error where it answered one. Errors of the replication are those of
// [group.Group.Propose]; NOT_LEADER names the API address of the group's leader,
// if known.
func (h *HostedGroup) Propose(ctx context.Context, cmd []byte) (any, error) {
	g, err := h.asked()
	if err != nil {
		return nil, err
	}
	answer, _, err := g.Propose(ctx, cmd)
	if err != nil {
		return nil, h.hint(err)
	}
	return answer, nil
}

// Read returns once everything that was acknowledged before the call is applied
// on this server, which must be the group's leader: NOT_LEADER otherwise, with
// the leader's API address where it is known.
func (h *HostedGroup) Read(ctx context.Context) error {
	g, err := h.asked()
	if err != nil {
		return err
	}
	_, err = g.Read(ctx)
	return h.hint(err)
}

// hint tells with NOT_LEADER where the leader is.
func (h *HostedGroup) hint(err error) error {
	if err == nil {
		return nil
	}
	e := wasmatrix.AsError(err)
	if e.Code == wasmatrix.CodeNotLeader && e.Details[wasmatrix.DetailLeader] == "" {
		if l := h.Leader(); l.APIAddr != "" && !l.Self {
			return e.With(wasmatrix.DetailLeader, l.APIAddr)
		}
	}
	return e
}

// Leader is the leader of a group as this server knows it.
type Leader struct {
	ID      wasmatrix.ServerID
	Name    string
	APIAddr string // "" where gossip does not know the leader yet
	Term    uint64 // the latest that this server knows
	Self    bool
	Known   bool
}

// Leader returns the leader, Known false where there is none or it is not known.
func (h *HostedGroup) Leader() Leader {
	g := h.running()
	if g == nil {
		return Leader{}
	}
	l := g.Leader()
	out := Leader{ID: l.ID, Term: l.Term, Self: l.Self, Known: l.Known}
	if !l.Known {
		return out
	}
	out.Name = nameOf(l.ID)
	if l.Self {
		out.APIAddr = h.c.cfg.APIAddr
	} else if m, ok := h.c.member(l.ID); ok {
		out.APIAddr = m.APIAddr
	}
	return out
}

// LeaderChanges returns a channel that holds a value whenever Leader may have
// changed since it was last drained: who leads, or at which address. Stop ends
// it; call it once, when nobody reads any more.
func (h *HostedGroup) LeaderChanges() (changed <-chan struct{}, stop func()) {
	members, stopMembers := h.c.gossip.Load().Subscribe()
	out, end, done := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		opened := h.opened
		var leaders <-chan group.Leader
		for {
			select {
			case <-opened:
				var stopLeaders func()
				leaders, stopLeaders = h.group.LeadershipChanged()
				defer stopLeaders()
				opened = nil
			case <-leaders:
			case <-members:
			case <-end:
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() {
		close(end)
		<-done
		stopMembers()
	}
}

// Lead runs work for each term that this server leads the group in, as
// [group.Group.Lead] says, until ctx ends or the cluster is closed.
func (h *HostedGroup) Lead(ctx context.Context, work func(ctx context.Context, term uint64)) {
	select {
	case <-h.opened:
		h.group.Lead(ctx, work)
	case <-ctx.Done():
	case <-h.c.ctx.Done():
	}
}

// SaveSnapshot writes a snapshot of the group's state to w, with everything that
// was acknowledged before the call. It is for the leader.
func (h *HostedGroup) SaveSnapshot(ctx context.Context, w io.Writer) error {
	if err := h.Read(ctx); err != nil {
		return err
	}
	_, err := h.group.SaveSnapshot(ctx, w)
	return h.hint(err)
}

// RestoreSnapshot replaces the state of the group, on all its servers, by what r
// holds. It is for the leader, and needs the Verify of [GroupConfig].
func (h *HostedGroup) RestoreSnapshot(ctx context.Context, r io.Reader) error {
	g, err := h.asked()
	if err != nil {
		return err
	}
	return h.hint(g.RestoreSnapshot(ctx, r))
}

// Server is a member of a group's configuration.
type Server = group.Server

// Servers returns the group's configuration as this server knows it, committed
// or not.
func (h *HostedGroup) Servers() []Server {
	g := h.running()
	if g == nil {
		return nil
	}
	servers, _ := g.Servers()
	return servers
}

// has reports whether a server is in the configuration, committed or not.
func (h *HostedGroup) has(id wasmatrix.ServerID) bool {
	_, ok := find(h.Servers(), id)
	return ok
}

func find(servers []Server, id wasmatrix.ServerID) (Server, bool) {
	for _, s := range servers {
		if s.ID == id {
			return s, true
		}
	}
	return Server{}, false
}
