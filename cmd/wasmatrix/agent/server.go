package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
	"github.com/wasmatrix/wasmatrix/cluster"
	"github.com/wasmatrix/wasmatrix/cluster/group"
	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/module"
	"github.com/wasmatrix/wasmatrix/module/replica"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/scheduler"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// server is one Raft peer and what it serves.
type server struct {
	cfg     *config.Config
	opts    Options
	log     hclog.Logger
	started time.Time

	listener  net.Listener
	machine   machine
	store     *store.Store      // of the embedded kv
	messaging *messaging.Server // nil where it is turned off
	cluster   *cluster.Cluster
	kv        *kv.Server
	fences    *client.Fences
	transport *http.Transport
	dispatch  *dispatch.Dispatcher
	replica   *replica.Replicator
	api       *rpc.Server
	leaders   *leadership
	hashes    hashCache
	kvHash    storeHash
	child     *child // nil where this machine runs no node

	fatal     chan error    // the first reason why this process cannot go on
	leave     chan struct{} // closed when a user asked this agent to leave
	leaveOnce sync.Once

	closers []func() // called in reverse
}

// serverGrace is how long a server may take to end: more than its node, the calls
// under way and Raft may take together, and less than supervisors wait.
const serverGrace = 45 * time.Second

func runServer(ctx context.Context, cfg *config.Config, opts Options) error {
	log := newLogger("server", cfg.Log)
	warnIfOpen(log, cfg.BindAddr)
	s := &server{
		cfg: cfg, opts: opts, log: log, started: time.Now(),
		fatal: make(chan error, 1), leave: make(chan struct{}),
	}
	if err := s.open(ctx); err != nil {
		s.close()
		return err
	}
	return s.run(ctx)
}

// open builds everything, in the order in which one needs another.
func (s *server) open(ctx context.Context) (err error) {
	if s.listener, err = listen(ctx, s.cfg, s.cfg.Ports.API, "ports.api"); err != nil {
		return err
	}
	s.onClose(func() { _ = s.listener.Close() }) // the API closes it first
	apiAddr, err := advertised(s.cfg, s.listener.Addr())
	if err != nil {
		return err
	}
	s.machine, s.store = newMachine(), store.New(store.Options{})
	if err := s.openMessaging(ctx); err != nil {
		return err
	}
	dir := filepath.Join(s.cfg.DataDir, "server")
	if s.cluster, err = cluster.Open(ctx, s.clusterConfig(dir, apiAddr)); err != nil {
		return err
	}
	s.onClose(func() {
		if err := s.cluster.Close(); err != nil {
			s.log.Error("closing the cluster", "error", err)
		}
	})
	store, err := module.OpenStore(module.Config{Dir: filepath.Join(dir, "modules"), Logger: s.log.Named("modules")})
	if err != nil {
		return err
	}
	s.transport = client.NewTransport()
	s.onClose(s.transport.CloseIdleConnections)
	s.join(store)
	if !s.cfg.Node.Enabled {
		return nil
	}
	s.child, err = newChild(s.childConfig(), s.opts, s.log)
	return err
}

// join makes the rooms that meet in this process.
func (s *server) join(store *module.Store) {
	log, state := replicatedLog{s.cluster}, replicatedState{s.machine}
	s.kv, s.fences = s.newKV(), client.NewFences(s.transport)
	policy := scheduler.Policy{}
	if s.cfg.Server.Placement == "binpack" {
		policy.Strategy = scheduler.BinPack
	}
	s.leaders = newLeadership(s.cluster)
	agents := client.NewAgents(s.transport)
	s.dispatch = dispatch.New(dispatch.Config{
		Log: log, State: state, Agents: agents, Policy: policy, LeaseTTL: s.cfg.Lease.TTL,
		Fence:     s.fence,
		KeepFinal: s.cfg.Server.Retention.Instances, MaxFinal: s.cfg.Server.Retention.MaxInstances,
		KeepModules: s.cfg.Server.Retention.Modules, Logger: s.log.Named("dispatch"),
	})
	transfer := client.NewTransfer(s.transport)
	s.replica = replica.New(replica.Config{
		Store: store, Cluster: replicaPeers{s.cluster}, Copier: moduleCopier{transfer}, Log: log, State: state,
		MaxModule: int64(s.cfg.Server.MaxModule), Check: checkImports, Logger: s.log.Named("modules"),
	})
	s.onClose(func() { s.replica.Close() })
	s.api = rpc.NewServer(rpc.Config{
		State: state, Log: log, Scheduler: s.dispatch, Leadership: s.leaders,
		Cluster: clusterView{s}, Modules: moduleService{s.replica}, Transport: s.transport,
		Calls: capability.NewHost(capability.HostConfig{Grants: s.grants, Providers: serverProviders{s}}), PromptReads: true,
		Fences: kvFences{s},
		Inspect: func(b []byte) (*wasmatrix.Module, error) {
			return module.InspectBytes(b, int64(s.cfg.Server.MaxModule))
		},
		Name: s.cfg.Name, MaxRequest: int64(s.cfg.Limits.MaxRequest), MaxModule: int64(s.cfg.Server.MaxModule),
		Logger: s.log.Named("api"),
	})
}

func (s *server) clusterConfig(dir, apiAddr string) cluster.Config {
	raft, pilot := s.cfg.Server.Raft, s.cfg.Server.Autopilot
	var messagingPort, routePort int
	if s.messaging != nil {
		messagingPort, routePort = s.cfg.Ports.Messaging, s.cfg.Ports.MessagingRoutes
	}
	return cluster.Config{
		MessagingPort: messagingPort, RoutePort: routePort,
		Name: s.cfg.Name, DataDir: dir, BindAddr: s.cfg.BindAddr, AdvertiseAddr: s.cfg.AdvertiseAddr,
		RaftPort: s.cfg.Ports.Raft, GossipPort: s.cfg.Ports.Gossip, APIAddr: apiAddr,
		BootstrapExpect: s.cfg.Server.BootstrapExpect, RetryJoin: s.cfg.Gossip.RetryJoin,
		LogStore: s.cfg.Server.LogStore, Version: wasmatrix.Version, Machine: s.machine,
		Timing:            group.Timing{Heartbeat: raft.Heartbeat, Election: raft.Election, LeaderLease: raft.LeaderLease, Commit: group.DefaultTiming().Commit},
		SnapshotThreshold: raft.SnapshotThreshold, SnapshotInterval: raft.SnapshotInterval,
		SnapshotsKept: raft.SnapshotRetain, TrailingLogs: raft.TrailingLogs, StallAfter: raft.DiskStall,
		OnFatal:   s.fail,
		OnRemoved: func() { s.fail(errRemoved()) },
		Autopilot: cluster.Autopilot{
			StabilizationTime: pilot.Stabilization, KeepDeadServers: !pilot.CleanupDeadServers,
			DeadServerGrace: pilot.DeadServerGrace, MinQuorum: uint(pilot.MinQuorum),
		},
		Verify: func(r io.Reader) error {
			_, err := fsm.InspectSnapshot(r)
			return err
		},
		Groups: []cluster.GroupConfig{s.kvGroup()},
		Logger: s.log.Named("cluster"),
	}
}

// childConfig is the configuration of the node of this machine: it finds the
// cluster through its own server.
func (s *server) childConfig() *config.Config {
	c := *s.cfg
	c.Server.Enabled = false
	c.Gossip.RetryJoin = append([]string{s.cluster.Addrs().Gossip}, s.cfg.Gossip.RetryJoin...)
	return &c
}

// run serves until ctx ends, a user asks this agent to leave, or something
// fails for good.
func (s *server) run(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	nodeWork, stopNode := context.WithCancel(work)
	defer stopNode()

	var wg, nodeWG sync.WaitGroup
	wg.Go(func() { s.cluster.Lead(work, s.lead) })
	wg.Go(func() { s.cluster.Group(kvGroup).Lead(work, func(ctx context.Context, _ uint64) { s.kv.Run(ctx) }) })
	wg.Go(func() { s.replica.Run(work) })
	wg.Go(func() { s.routeMessaging(work) })
	wg.Go(func() { s.keepIdentity(work) })
	wg.Go(func() { s.watchNodes(work) })
	wg.Go(func() { s.leaders.follow(work) })
	wg.Go(func() { paceCollections(work) })
	wg.Go(func() {
		if err := rpc.Serve(work, s.listener, s.api, s.httpConfig()); err != nil {
			s.fail(fmt.Errorf("serving the API: %w", err))
		}
	})
	wg.Go(func() { reloadLogLevel(work, s.opts, s.log, s.signalChild) })
	if s.child != nil {
		nodeWG.Go(func() { s.child.run(nodeWork) })
	}
	addrs := s.cluster.Addrs()
	s.log.Info("server started", "name", s.cfg.Name, "version", wasmatrix.Version, "api", s.listener.Addr(), "raft", addrs.Raft, "gossip", addrs.Gossip, "data_dir", s.cfg.DataDir)
	if s.opts.Dev {
		wg.Go(func() { s.announce(work) })
	}

	select {
	case err := <-s.fatal:
		// The process must end now: closing could wait for the disk that failed.
		s.log.Error("this server cannot go on", "error", err)
		return err
	case <-s.leave:
		s.log.Info("left the cluster, ending")
	case <-ctx.Done():
		s.log.Info("ending")
	}
	return ending(serverGrace, s.fatal, func() {
		stopNode()
		nodeWG.Wait()
		s.handOver()
		stopWork()
		wg.Wait()
		s.close()
	})
}

func (s *server) httpConfig() rpc.HTTPConfig {
	return rpc.HTTPConfig{
		HeaderTimeout: s.cfg.Limits.HeaderTimeout, IdleTimeout: s.cfg.Limits.IdleTimeout, Logger: s.log.Named("http"),
	}
}

// handOver passes leadership of both groups on, so that the others need no election.
func (s *server) handOver() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for name, g := range map[string]interface {
		Leader() cluster.Leader
		Servers() []cluster.Server
		TransferLeadership(ctx context.Context, idOrName string) (wasmatrix.ServerID, error)
	}{"control": s.cluster, kvGroup: s.cluster.Group(kvGroup)} {
		if !g.Leader().Self || len(g.Servers()) < 2 {
			continue
		}
		wg.Go(func() {
			if _, err := g.TransferLeadership(ctx, ""); err != nil {
				s.log.Info("leadership was not handed over", "group", name, "reason", err)
			}
		})
	}
	wg.Wait()
}

func (s *server) signalChild(sig os.Signal) {
	if s.child != nil {
		s.child.signal(sig)
	}
}

// fail ends the process with the first error it is given.
func (s *server) fail(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

func (s *server) onClose(f func()) { s.closers = append(s.closers, f) }

func (s *server) close() {
	for _, f := range slices.Backward(s.closers) {
		f()
	}
	s.closers = nil
}

func errRemoved() error {
	return wasmatrix.Errorf(wasmatrix.CodeConflict, "this server was removed from the cluster; started again, it asks to be taken in, and with an empty data directory it does so as a new server")
}

// randomID draws n bytes.
func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
