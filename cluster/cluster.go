package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
	"github.com/wasmatrix/wasmatrix/cluster/group"
	"github.com/wasmatrix/wasmatrix/cluster/identity"
	"github.com/wasmatrix/wasmatrix/cluster/stream"
)

const (
	groupName = "control" // the Raft group of the control plane
	peersFile = "gossip-peers.json"
)

// Cluster is this server's part of the cluster. Its methods may be called from
// any goroutine. Errors are *[wasmatrix.Error].
type Cluster struct {
	cfg       Config
	autopilot Autopilot // with defaults
	log       hclog.Logger
	started   time.Time

	identity *identity.Identity
	stream   *stream.Listener
	group    *group.Group
	gossip   atomic.Pointer[gossip.Gossip] // nil while Open has not come so far

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	fatalOnce, closeOnce sync.Once

	closeErr error

	standby standby

	changing sync.Mutex // serializes this leader's changes of the configuration

	mu         sync.Mutex
	closed     bool
	leaving    bool                        // Leave was called: being removed is no surprise
	removing   map[wasmatrix.ServerID]bool // by autopilot, under way
	lastAnswer map[wasmatrix.ServerID]answered
	// expelled holds the servers that an operator removed through this one, with
	// the start of the process that is not to come in again.
	expelled map[wasmatrix.ServerID]int64
}

// Open takes the data directory, starts to listen, and begins to find the
// cluster; it does not wait for it. Ctx bounds the opening only.
func Open(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	c := &Cluster{
		cfg:        cfg,
		autopilot:  cfg.Autopilot.withDefaults(),
		log:        cfg.Logger,
		started:    time.Now(),
		removing:   make(map[wasmatrix.ServerID]bool),
		lastAnswer: make(map[wasmatrix.ServerID]answered),
		expelled:   make(map[wasmatrix.ServerID]int64),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	if c.identity, err = identity.Open(cfg.DataDir, cfg.Name); err != nil {
		return nil, err
	}
	advertise := ""
	if cfg.AdvertiseAddr != "" {
		advertise = net.JoinHostPort(cfg.AdvertiseAddr, "0") // the port bound
	}
	if c.stream, err = stream.Listen(stream.Config{ //nolint:contextcheck // it lives until Close
		Bind:      net.JoinHostPort(cfg.BindAddr, strconv.Itoa(cfg.RaftPort)),
		Advertise: advertise,
		Self:      c.identity.Server(),
		Cluster:   c.identity.Cluster,
		Logger:    c.log.Named("stream"),
	}); err != nil {
		return nil, err
	}
	if c.group, err = c.openGroup(); err != nil {
		return nil, err
	}
	if err := c.openGossip(); err != nil { //nolint:contextcheck // it lives until Close
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "open the cluster: %w", err)
	}
	c.stream.Handle(controlKind, c.serveControl)
	if cfg.BootstrapExpect == 1 && len(cfg.RetryJoin) == 0 && !c.hasState() {
		if err := c.bootstrapAlone(); err != nil {
			return nil, err
		}
	}
	c.wg.Go(c.bootstrap)
	c.wg.Go(c.seekMembership)
	c.wg.Go(func() { c.group.Lead(c.ctx, c.tendMembership) })
	return c, nil
}

func (c *Cluster) openGroup() (*group.Group, error) {
	return group.Open(group.Config{
		Name:     groupName,
		Dir:      filepath.Join(c.cfg.DataDir, "raft"),
		ID:       c.identity.Server(),
		Stream:   c.stream,
		Machine:  c.cfg.Machine,
		LogStore: c.cfg.LogStore,
		Timing:   c.cfg.Timing,
		Resolve:  c.resolve,
		Fatal:    c.fatal,
		Verify:   c.cfg.Verify,
		Logger:   c.log,

		SnapshotThreshold: c.cfg.SnapshotThreshold,
		SnapshotInterval:  c.cfg.SnapshotInterval,
		SnapshotsKept:     c.cfg.SnapshotsKept,
		TrailingLogs:      c.cfg.TrailingLogs,
		StallAfter:        c.cfg.StallAfter,
	})
}

func (c *Cluster) openGossip() error {
	g, err := gossip.Open(gossip.Config{
		Role:      gossip.RoleServer,
		Name:      c.cfg.Name,
		Bind:      net.JoinHostPort(c.cfg.BindAddr, strconv.Itoa(c.cfg.GossipPort)),
		Advertise: c.cfg.AdvertiseAddr,
		Key:       c.cfg.GossipKey,
		Tags: gossip.Tags{
			Server:   c.identity.Server(),
			Cluster:  c.identity.Cluster(),
			APIAddr:  c.cfg.APIAddr,
			RaftAddr: c.stream.Addr().String(),
			Version:  c.cfg.Version,
			Expect:   c.cfg.BootstrapExpect,
			HasState: c.hasState(),
		},
		RetryJoin:  c.cfg.RetryJoin,
		PeersFile:  filepath.Join(c.cfg.DataDir, peersFile),
		Timing:     c.cfg.GossipTiming,
		OnConflict: c.fatal,
		Logger:     c.log.Named("gossip"),
	})
	if err != nil {
		return err
	}
	c.gossip.Store(g)
	return nil
}

// resolve finds the address of a server by what it says of itself; Raft falls
// back to the one in the configuration.
func (c *Cluster) resolve(id wasmatrix.ServerID) (string, bool) {
	m, ok := c.member(id)
	return m.RaftAddr, ok && m.RaftAddr != ""
}

// member returns what gossip knows of a server.
func (c *Cluster) member(id wasmatrix.ServerID) (Member, bool) {
	g := c.gossip.Load()
	if g == nil || id == "" {
		return Member{}, false
	}
	if m, ok := g.Member(gossip.RoleServer, nameOf(id)); ok && m.Server == id {
		return m, true
	}
	return Member{}, false
}

// hasState reports whether this server has a log, its own or a replicated one.
func (c *Cluster) hasState() bool { return c.group.HasState() }

// servers returns the configuration, committed or not.
func (c *Cluster) servers() []group.Server {
	servers, _ := c.group.Servers()
	return servers
}

// nameOf is the configured name of the server with this ID.
func nameOf(id wasmatrix.ServerID) string {
	if i := strings.LastIndexByte(string(id), '.'); i > 0 {
		return string(id[:i])
	}
	return string(id)
}

// fatal reports what this server cannot go on with, once.
func (c *Cluster) fatal(err error) {
	c.fatalOnce.Do(func() {
		c.log.Error("this server cannot go on", "error", err)
		if c.cfg.OnFatal != nil {
			go c.cfg.OnFatal(err) // may call Close, which waits for our goroutines
		}
	})
}

// Identity is who this server is.
type Identity struct {
	Server  wasmatrix.ServerID
	Name    string
	Cluster wasmatrix.ClusterID // "" before the server belongs to a cluster
}

// Identity returns who this server is.
func (c *Cluster) Identity() Identity {
	return Identity{Server: c.identity.Server(), Name: c.cfg.Name, Cluster: c.identity.Cluster()}
}

// Addrs are the addresses that others dial.
type Addrs struct{ Raft, Gossip, API string }

// Addrs returns the addresses that others dial, with the ports that were picked.
func (c *Cluster) Addrs() Addrs {
	return Addrs{Raft: c.stream.Addr().String(), Gossip: c.gossip.Load().Addr(), API: c.cfg.APIAddr}
}

// SetClusterID binds the data directory to the cluster for ever and tells the
// others. A directory that belongs to another cluster is CONFLICT: its process
// must not go on.
func (c *Cluster) SetClusterID(id wasmatrix.ClusterID) error {
	if err := c.identity.SetCluster(id); err != nil {
		return err
	}
	return c.gossip.Load().SetTags(func(t *gossip.Tags) { t.Cluster, t.HasState = id, true })
}

// Propose replicates a command and returns what the state machine answered, an
// error where it answered one. Errors of the replication are those of
// [group.Group.Propose]; NOT_LEADER names the leader's API address, if known.
func (c *Cluster) Propose(ctx context.Context, cmd []byte) (any, error) {
	answer, _, err := c.group.Propose(ctx, cmd)
	if err != nil {
		return nil, c.hint(err)
	}
	if err, ok := answer.(error); ok {
		return nil, err
	}
	return answer, nil
}

// Read returns once everything that was acknowledged before the call is applied
// on this server, which must be the leader: NOT_LEADER otherwise, with the
// leader's API address where it is known.
func (c *Cluster) Read(ctx context.Context) error {
	_, err := c.group.Read(ctx)
	return c.hint(err)
}

// hint tells with NOT_LEADER where the leader is.
func (c *Cluster) hint(err error) error {
	if err == nil {
		return nil
	}
	e := wasmatrix.AsError(err)
	if e.Code == wasmatrix.CodeNotLeader && e.Details[wasmatrix.DetailLeader] == "" {
		if l := c.Leader(); l.APIAddr != "" && !l.Self {
			return e.With(wasmatrix.DetailLeader, l.APIAddr)
		}
	}
	return e
}

// Leader is the leader as this server knows it.
type Leader struct {
	ID      wasmatrix.ServerID
	Name    string
	APIAddr string // "" where gossip does not know the leader yet
	Term    uint64 // the latest that this server knows
	Self    bool
	Known   bool
}

// Leader returns the leader, Known false where there is none or it is not known.
func (c *Cluster) Leader() Leader {
	l := c.group.Leader()
	out := Leader{ID: l.ID, Term: l.Term, Self: l.Self, Known: l.Known}
	if !l.Known {
		return out
	}
	out.Name = nameOf(l.ID)
	if l.Self {
		out.APIAddr = c.cfg.APIAddr
	} else if m, ok := c.member(l.ID); ok {
		out.APIAddr = m.APIAddr
	}
	return out
}

// Lead runs work for each term that this server leads, as [group.Group.Lead]
// says, until ctx ends or the cluster is closed.
func (c *Cluster) Lead(ctx context.Context, work func(ctx context.Context, term uint64)) {
	c.group.Lead(ctx, work)
}

// SaveSnapshot writes a snapshot of the replicated state to w, with everything
// that was acknowledged before the call. It is for the leader.
func (c *Cluster) SaveSnapshot(ctx context.Context, w io.Writer) error {
	if err := c.Read(ctx); err != nil {
		return err
	}
	_, err := c.group.SaveSnapshot(ctx, w)
	return c.hint(err)
}

// RestoreSnapshot replaces the replicated state of the whole cluster by what r
// holds. It is for the leader.
func (c *Cluster) RestoreSnapshot(ctx context.Context, r io.Reader) error {
	return c.hint(c.group.RestoreSnapshot(ctx, r))
}

// Close stops this server without telling the others, as a restart does; to
// go for good, call Leave first. It may be called more than once.
func (c *Cluster) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.cancel()
		var errs []error
		// Raft first: with it the leader's work ends. Then what it used.
		if c.group != nil {
			errs = append(errs, c.group.Close())
		}
		if g := c.gossip.Load(); g != nil {
			errs = append(errs, g.Close())
		}
		if c.stream != nil {
			errs = append(errs, c.stream.Close())
		}
		c.wg.Wait()
		if c.identity != nil {
			errs = append(errs, c.identity.Close())
		}
		c.closeErr = errors.Join(errs...)
	})
	return c.closeErr
}

// spawn runs f on a goroutine that Close waits for, unless closed.
func (c *Cluster) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
}
