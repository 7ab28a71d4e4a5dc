// Package rpctest runs the API of a cluster in one process: real HTTP on
// loopback and real state machines, under a log that applies each command on
// every server at once and a leadership that the test moves.
package rpctest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// Machine is a state machine. The room cannot be imported here; tests wrap it.
type Machine interface {
	rpc.State
	Apply(index uint64, cmd wasmatrix.Command) any
}

// Cluster is a number of servers.
type Cluster struct {
	tb      testing.TB
	Servers []*Server
	Modules *Modules // shared by all
	// Deaf has no node confirm a revocation.
	Deaf atomic.Bool

	mu      sync.Mutex
	leader  int           // guarded by mu; -1 is none
	hosted  int           // guarded by mu; that of HostedGroup, -1 is none
	changed chan struct{} // guarded by mu
	index   uint64        // guarded by mu
}

// Server is one of them.
type Server struct {
	Addr    string
	API     *rpc.Server
	Machine Machine
	// Wrap is put before the API, when the test wants to see or spoil requests.
	Wrap atomic.Pointer[func(http.Handler) http.Handler]

	cluster *Cluster
	number  int
	stop    context.CancelFunc
	done    chan struct{}

	held   bool       // guarded by cluster.mu: commands wait
	queued []proposed // guarded by cluster.mu
}

type proposed struct {
	index uint64
	cmd   wasmatrix.Command
}

// New starts n servers, the first of which leads. They end with the test.
func New(tb testing.TB, n int, machine func() Machine, configure ...func(*rpc.Config)) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, changed: make(chan struct{}), Modules: newModules()}
	for i := range n {
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		s := &Server{Addr: l.Addr().String(), Machine: machine(), cluster: c, number: i, done: make(chan struct{})}
		transport := client.NewTransport()
		cfg := rpc.Config{
			State: s.Machine, Log: s, Scheduler: &scheduler{s}, Leadership: s, Cluster: &group{s}, Modules: &moduleService{s},
			Transport: transport, Name: s.Addr, LeaderWait: 2 * time.Second, MaxModule: 1 << 20,
			Logger: hclog.New(&hclog.LoggerOptions{Output: testWriter{tb}, Level: hclog.Debug}),
		}
		for _, f := range configure {
			f(&cfg)
		}
		s.API = rpc.NewServer(cfg)
		ctx, cancel := context.WithCancel(context.Background())
		s.stop = func() {
			cancel()
			<-s.done
			transport.CloseIdleConnections()
		}
		go func() {
			defer close(s.done)
			if err := rpc.Serve(ctx, l, handler{s}, rpc.HTTPConfig{Grace: 2 * time.Second}); err != nil {
				tb.Errorf("serving: %v", err)
			}
		}()
		c.Servers = append(c.Servers, s)
		tb.Cleanup(s.Stop)
	}
	if _, err := c.Servers[0].Propose(context.Background(), wasmatrix.InitCluster{At: 1, Cluster: "test"}); err != nil {
		tb.Fatal(err)
	}
	return c
}

// testWriter logs with the test, which shows it where it fails.
type testWriter struct{ tb testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.tb.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// handler is the API behind what the test put before it.
type handler struct{ s *Server }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var api http.Handler = h.s.API
	if wrap := h.s.Wrap.Load(); wrap != nil {
		api = (*wrap)(api)
	}
	api.ServeHTTP(w, r)
}

func (h handler) Close() error { return h.s.API.Close() }

func (h handler) Drain(ctx context.Context) { h.s.API.Drain(ctx) }

// Stop ends the server. It may be called more than once.
func (s *Server) Stop() { s.stop() }

// Before has f see each request of s before the API does.
func (s *Server) Before(f func(next http.Handler, w http.ResponseWriter, r *http.Request)) {
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(next, w, r) })
	}
	s.Wrap.Store(&wrap)
}

// SetLeader makes server i the leader, none where it is -1.
func (c *Cluster) SetLeader(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = i
	close(c.changed)
	c.changed = make(chan struct{})
}

// SetHostedLeader makes server i the leader of [HostedGroup], none where it is -1.
func (c *Cluster) SetHostedLeader(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosted = i
}

// Client makes a client of the given servers, of all where none is given.
func (c *Cluster) Client(configure func(*client.Config), servers ...int) *client.Client {
	c.tb.Helper()
	cfg := client.Config{RetryFor: 10 * time.Second}
	for i, s := range c.Servers {
		if len(servers) == 0 || slices.Contains(servers, i) {
			cfg.Addrs = append(cfg.Addrs, s.Addr)
		}
	}
	if configure != nil {
		configure(&cfg)
	}
	cl, err := client.New(cfg)
	if err != nil {
		c.tb.Fatal(err)
	}
	c.tb.Cleanup(cl.Close)
	return cl
}

// Hold keeps commands from being applied on s, as on a follower that lags;
// Release applies them.
func (s *Server) Hold() {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.held = true
}

// Step applies the oldest of the commands that Hold keeps.
func (s *Server) Step() {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	p := s.queued[0]
	s.queued = s.queued[1:]
	s.Machine.Apply(p.index, p.cmd)
}

// Release ends Hold.
func (s *Server) Release() {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.held = false
	for _, p := range s.queued {
		s.Machine.Apply(p.index, p.cmd)
	}
	s.queued = nil
}

// Leader implements rpc.Leadership.
func (s *Server) Leader() (addr string, self, known bool) {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if s.cluster.leader < 0 {
		return "", false, false
	}
	return s.cluster.Servers[s.cluster.leader].Addr, s.cluster.leader == s.number, true
}

// LeaderChanged implements rpc.Leadership.
func (s *Server) LeaderChanged() <-chan struct{} {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.cluster.changed
}

// leading fails unless s leads. Call it with the cluster's mu held.
func (s *Server) leading() error { return s.leads(s.cluster.leader) }

// leads fails unless s is server leader.
func (s *Server) leads(leader int) error {
	switch leader {
	case s.number:
		return nil
	case -1:
		return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "no leader")
	default:
		return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "not the leader").With(wasmatrix.DetailLeader, s.cluster.Servers[leader].Addr)
	}
}

// Propose implements rpc.Log.
func (s *Server) Propose(_ context.Context, cmd wasmatrix.Command) (any, error) {
	c := s.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.Servers) > 0 {
		if err := s.leading(); err != nil {
			return nil, err
		}
	}
	c.index++
	var answer any
	for _, peer := range c.Servers {
		switch {
		case peer.held:
			peer.queued = append(peer.queued, proposed{c.index, cmd})
		case peer == s:
			answer = s.Machine.Apply(c.index, cmd)
		default:
			peer.Machine.Apply(c.index, cmd)
		}
	}
	if err, ok := answer.(error); ok {
		return nil, err
	}
	return answer, nil
}

// Read implements rpc.Log.
func (s *Server) Read(context.Context) error {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.leading()
}

// Modules keeps module bytes in memory.
type Modules struct {
	// Inspect checks a module. The room cannot be imported here; tests set it.
	Inspect func([]byte) (*wasmatrix.Module, error)

	mu    sync.Mutex
	bytes map[wasmatrix.Digest][]byte // guarded by mu
}

func newModules() *Modules {
	return &Modules{bytes: make(map[wasmatrix.Digest][]byte), Inspect: func(b []byte) (*wasmatrix.Module, error) {
		return &wasmatrix.Module{Digest: wasmatrix.DigestOf(b), Size: int64(len(b)), Kind: wasmatrix.ModuleCommand}, nil
	}}
}

// Put keeps a module without recording it.
func (m *Modules) Put(b []byte) wasmatrix.Digest {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := wasmatrix.DigestOf(b)
	m.bytes[d] = b
	return d
}

// Has reports whether a module's bytes are kept.
func (m *Modules) Has(d wasmatrix.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.bytes[d]
	return ok
}

type moduleService struct{ s *Server }

func (m *moduleService) Push(ctx context.Context, h rpc.ModuleHeader, r io.Reader) (*wasmatrix.Module, bool, error) {
	b, err := m.receive(h.Digest, h.Size, r)
	if err != nil {
		return nil, false, err
	}
	record, err := m.s.cluster.Modules.Inspect(b)
	if err != nil {
		return nil, false, err
	}
	_, existed := m.s.Machine.Snapshot().Module(h.Digest)
	m.s.cluster.Modules.Put(b)
	answer, err := m.s.Propose(ctx, wasmatrix.AddModule{At: now(), Request: h.Request, Module: record, Name: h.Name})
	if err != nil {
		return nil, false, err
	}
	added, _ := answer.(*wasmatrix.Module)
	return added, existed, nil
}

func (m *moduleService) receive(d wasmatrix.Digest, size int64, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(r)
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) != size:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "%d bytes came, not %d", len(b), size)
	case wasmatrix.DigestOf(b) != d:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the bytes have another digest")
	}
	return b, nil
}

func (m *moduleService) Open(_ context.Context, d wasmatrix.Digest, _ bool) (io.ReadCloser, int64, error) {
	all := m.s.cluster.Modules
	all.mu.Lock()
	defer all.mu.Unlock()
	b, ok := all.bytes[d]
	if !ok {
		return nil, 0, wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "no module %s", d)
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

func (m *moduleService) Store(_ context.Context, d wasmatrix.Digest, size int64, r io.Reader) error {
	b, err := m.receive(d, size, r)
	if err == nil {
		m.s.cluster.Modules.Put(b)
	}
	return err
}

func (m *moduleService) Remove(ctx context.Context, req wasmatrix.Request, d wasmatrix.Digest) error {
	_, err := m.s.Propose(ctx, wasmatrix.RemoveModule{At: now(), Request: req, Digest: d})
	return err
}

func now() wasmatrix.Time { return wasmatrix.TimeOf(time.Now()) }
