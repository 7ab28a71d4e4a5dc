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
	"github.com/wasmatrix/wasmatrix/cluster/identity"
	"github.com/wasmatrix/wasmatrix/cluster/stream"
)

const (
	controlGroup = "control" // the name of the Raft group of the control plane
	controlDir   = "raft"    // its directory; that of another is named raft-NAME
	peersFile    = "gossip-peers.json"
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
	control  *HostedGroup
	hosted   []*HostedGroup                // beside it
	gossip   atomic.Pointer[gossip.Gossip] // nil while Open has not come so far

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	fatalOnce, closeOnce sync.Once

	closeErr error

	standby standby

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
	c.control = newHostedGroup(c, cfg.control(), filepath.Join(cfg.DataDir, controlDir))
	for _, g := range cfg.Groups {
		c.hosted = append(c.hosted, newHostedGroup(c, g, filepath.Join(cfg.DataDir, controlDir+"-"+g.Name)))
	}
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
	for _, h := range c.hosted {
		if err := h.recall(); err != nil {
			return nil, err
		}
	}
	if err := c.startControl(); err != nil {
		return nil, err
	}
	if err := c.openGossip(); err != nil { //nolint:contextcheck // it lives until Close
		return nil, err
	}
	for _, h := range c.hosted {
		if err := h.resume(); err != nil {
			return nil, err
		}
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
	c.wg.Go(func() { c.control.Lead(c.ctx, c.tendMembership) })
	for _, h := range c.hosted {
		c.wg.Go(func() { c.control.Lead(c.ctx, h.tendFounding) })
		c.wg.Go(func() { h.Lead(c.ctx, h.mirror) })
	}
	return c, nil
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

			MessagingPort: c.cfg.MessagingPort,
			RoutePort:     c.cfg.RoutePort,
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
func (c *Cluster) hasState() bool { return c.control.group.HasState() }

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

// Group returns the group of this name of [Config.Groups], nil where there is none.
func (c *Cluster) Group(name string) *HostedGroup {
	for _, h := range c.hosted {
		if h.conf.Name == name {
			return h
		}
	}
	return nil
}

// Propose is [HostedGroup.Propose] of the control group.
func (c *Cluster) Propose(ctx context.Context, cmd []byte) (any, error) {
	return c.control.Propose(ctx, cmd)
}

// Read is [HostedGroup.Read] of the control group.
func (c *Cluster) Read(ctx context.Context) error { return c.control.Read(ctx) }

// Leader is [HostedGroup.Leader] of the control group.
func (c *Cluster) Leader() Leader { return c.control.Leader() }

// LeaderChanges is [HostedGroup.LeaderChanges] of the control group.
func (c *Cluster) LeaderChanges() (changed <-chan struct{}, stop func()) {
	return c.control.LeaderChanges()
}

// Lead is [HostedGroup.Lead] of the control group.
func (c *Cluster) Lead(ctx context.Context, work func(ctx context.Context, term uint64)) {
	c.control.Lead(ctx, work)
}

// SaveSnapshot is [HostedGroup.SaveSnapshot] of the control group.
func (c *Cluster) SaveSnapshot(ctx context.Context, w io.Writer) error {
	return c.control.SaveSnapshot(ctx, w)
}

// RestoreSnapshot is [HostedGroup.RestoreSnapshot] of the control group.
func (c *Cluster) RestoreSnapshot(ctx context.Context, r io.Reader) error {
	return c.control.RestoreSnapshot(ctx, r)
}

// TransferLeadership is [HostedGroup.TransferLeadership] of the control group.
func (c *Cluster) TransferLeadership(ctx context.Context, idOrName string) (wasmatrix.ServerID, error) {
	return c.control.TransferLeadership(ctx, idOrName)
}

// Servers is [HostedGroup.Servers] of the control group.
func (c *Cluster) Servers() []Server { return c.control.Servers() }

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
		errs = append(errs, c.closeGroups())
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

// closeGroups closes all groups at the same time: each may take seconds.
func (c *Cluster) closeGroups() error {
	groups := append([]*HostedGroup{c.control}, c.hosted...)
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, h := range groups {
		wg.Go(func() { errs[i] = h.close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// spawn runs f on a goroutine that Close waits for, unless closed.
func (c *Cluster) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
}
