package agent

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
	"github.com/wasmatrix/wasmatrix/cluster/identity"
	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
	"github.com/wasmatrix/wasmatrix/module"
	"github.com/wasmatrix/wasmatrix/node"
	"github.com/wasmatrix/wasmatrix/node/engine"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// worker is one node process.
type worker struct {
	cfg  *config.Config
	opts Options
	log  hclog.Logger

	listener  net.Listener
	identity  *identity.Identity
	gossip    *gossip.Gossip
	transport *http.Transport
	control   *client.Control
	engine    *engine.Engine
	carriers  *carriers
	providers *providers
	node      *node.Node
	api       *rpc.AgentServer

	fatal chan error // the first reason why this process cannot go on

	closers []func() // called in reverse
}

func runNode(ctx context.Context, cfg *config.Config, opts Options) error {
	log := newLogger("node", cfg.Log)
	warnIfOpen(log, cfg.BindAddr)
	w := &worker{cfg: cfg, opts: opts, log: log, fatal: make(chan error, 1)}
	if err := w.open(ctx); err != nil {
		w.close()
		return err
	}
	return w.run(ctx)
}

func (w *worker) open(ctx context.Context) (err error) {
	if w.listener, err = listen(ctx, w.cfg, w.cfg.Ports.Node, "ports.node"); err != nil {
		return err
	}
	w.onClose(func() { _ = w.listener.Close() }) // the API closes it first
	addr, err := advertised(w.cfg, w.listener.Addr())
	if err != nil {
		return err
	}
	dir := filepath.Join(w.cfg.DataDir, "node")
	// Two processes would spoil each other's modules; and what the directory
	// remembers of its cluster is of no use in another.
	if w.identity, err = identity.Open(dir, w.cfg.Name); err != nil {
		return err
	}
	w.onClose(func() { w.logError("closing the data directory", w.identity.Close()) })
	store, err := w.openStore(filepath.Join(dir, "modules"))
	if err != nil {
		return err
	}
	cores := runtime.GOMAXPROCS(0)
	if w.engine, err = w.openEngine(filepath.Join(dir, "compiled"), cores); err != nil {
		return err
	}
	// A guest on a core holds a P until it comes by. The others are for all that
	// must go on meanwhile: leases, reports, the API.
	runtime.GOMAXPROCS(cores + spareProcs)
	w.onClose(func() { w.logError("closing the engine", w.engine.Close()) })
	if w.gossip, err = w.openGossip(dir, addr); err != nil {
		return err
	}
	w.onClose(func() { w.logError("closing the gossip", w.gossip.Close()) })
	w.transport = client.NewTransport()
	w.onClose(w.transport.CloseIdleConnections)
	w.control = client.NewControl(client.ControlConfig{
		Servers: w.servers, Cluster: w.identity.Cluster(), Transport: w.transport, Logger: w.log.Named("control"),
	})

	w.openProviders()
	cache := &module.Cache{Store: store, Fetch: w.fetcher()}
	nc := nodeConfig(w.cfg)
	nc.Boot, nc.Addr, nc.Version = wasmatrix.BootID(randomID(8)), addr, wasmatrix.Version
	nc.Control, nc.Modules, nc.Engine, nc.Logger = control{w.control}, cache, w.engine, w.log
	nc.Providers = w.providers
	if w.node, err = node.New(nc); err != nil {
		return err
	}
	w.onClose(func() { w.logError("closing the node", w.node.Close()) })
	w.api = rpc.NewAgentServer(rpc.AgentConfig{Agent: agentView{w.node}, Calls: w.calls(), Logger: w.log.Named("api")})
	return nil
}

func (w *worker) openStore(dir string) (*module.Store, error) {
	c := nodeStoreConfig(w.cfg)
	c.Dir, c.Logger = dir, w.log.Named("modules")
	return module.OpenStore(c)
}

func (w *worker) openEngine(dir string, cores int) (*engine.Engine, error) {
	compiler, err := compile.Self()
	if err != nil {
		return nil, err
	}
	c := engineConfig(w.cfg)
	c.Compile.Dir, c.Compile.Command = dir, compiler
	c.Cores, c.Logger = cores, w.log.Named("engine")
	return engine.New(c)
}

func (w *worker) openGossip(dir, addr string) (*gossip.Gossip, error) {
	advertise := w.cfg.AdvertiseAddr
	if advertise == "" {
		advertise = w.cfg.BindAddr
	}
	return gossip.Open(gossip.Config{
		Role: gossip.RoleNode, Name: w.cfg.Name,
		Bind:      net.JoinHostPort(w.cfg.BindAddr, strconv.Itoa(w.cfg.Ports.NodeGossip)),
		Advertise: advertise,
		Tags:      gossip.Tags{Cluster: w.identity.Cluster(), AgentAddr: addr, Version: wasmatrix.Version},
		RetryJoin: w.cfg.Gossip.RetryJoin, PeersFile: filepath.Join(dir, "peers"),
		OnConflict: w.fail,
		Logger:     w.log.Named("gossip"),
	})
}

// servers lists the API addresses of the live servers.
func (w *worker) servers() []string {
	var out []string
	for _, m := range w.gossip.Members() {
		if m.Role == gossip.RoleServer && m.Status == gossip.StatusAlive && m.APIAddr != "" {
			out = append(out, m.APIAddr)
		}
	}
	return out
}

// fetcher fetches modules from the servers, from another one each time.
func (w *worker) fetcher() func(context.Context, wasmatrix.Digest, io.Writer) error {
	transfer := client.NewTransfer(w.transport)
	return func(ctx context.Context, d wasmatrix.Digest, out io.Writer) error {
		servers := w.servers()
		if len(servers) == 0 {
			return wasmatrix.Errorf(wasmatrix.CodeCommunication, "no server is known to fetch module %s from", d.Short())
		}
		return transfer.Fetch(ctx, servers[rand.IntN(len(servers))], d, out)
	}
}

// spareProcs is how many Ps a node has beside those that guests may hold.
const spareProcs = 2

// How long a node may take to end its guests, and then itself; together less
// than its server, or a supervisor, waits.
const (
	guestGrace = 10 * time.Second
	nodeGrace  = guestGrace + 4*time.Second
)

// run works until ctx ends, and then ends the guests. A guest that cannot be
// interrupted ends with the process.
func (w *worker) run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := rpc.Serve(work, w.listener, w.api, rpc.HTTPConfig{Logger: w.log.Named("http")}); err != nil {
			w.fail(fmt.Errorf("serving the node's API: %w", err))
		}
	})
	wg.Go(func() {
		if err := w.node.Run(work); err != nil && work.Err() == nil {
			w.fail(err)
		}
	})
	wg.Go(func() { w.keepIdentity(work) })
	wg.Go(func() { reloadLogLevel(work, w.opts, w.log, nil) })
	w.log.Info("node started", "name", w.cfg.Name, "version", wasmatrix.Version, "address", w.listener.Addr(), "gossip", w.gossip.Addr(),
		"memory", wasmatrix.FormatBytes(w.cfg.Node.Memory), "instances", w.cfg.Node.Instances, "data_dir", w.cfg.DataDir)

	var failed error
	select {
	case failed = <-w.fatal:
		w.log.Error("this node cannot go on", "error", failed)
	case <-ctx.Done():
		w.log.Info("ending")
	}
	err := ending(nodeGrace, nil, func() {
		grace, cancel := context.WithTimeout(context.Background(), guestGrace)
		w.logError("ending the guests", w.node.Shutdown(grace))
		cancel()
		w.logError("leaving the gossip", w.gossip.Leave(context.Background()))
		stop()
		wg.Wait()
		w.close()
	})
	return cmp.Or(failed, err)
}

// fail ends the process with the first error it is given.
func (w *worker) fail(err error) {
	select {
	case w.fatal <- err:
	default:
	}
}

// keepIdentity binds the data directory to the cluster that took this node in,
// and tells gossip, once it knows.
func (w *worker) keepIdentity(ctx context.Context) {
	changed, stop := w.gossip.Subscribe()
	defer stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if id := w.control.Cluster(); id != "" {
			w.logError("keeping the cluster's identity", w.identity.SetCluster(id))
			w.logError("telling gossip of the cluster", w.gossip.SetTags(func(t *gossip.Tags) { t.Cluster = id }))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

func (w *worker) logError(doing string, err error) {
	if err != nil {
		w.log.Warn(doing, "error", err)
	}
}

func (w *worker) onClose(f func()) { w.closers = append(w.closers, f) }

func (w *worker) close() {
	for _, f := range slices.Backward(w.closers) {
		f()
	}
	w.closers = nil
}

// control is the leader as the node calls it.
type control struct{ *client.Control }

// Report forgets which reports were news: the node sends none twice either way.
func (c control) Report(ctx context.Context, id wasmatrix.NodeID, boot wasmatrix.BootID, reports []wasmatrix.Report) error {
	_, err := c.Control.Report(ctx, id, boot, reports)
	return err
}
