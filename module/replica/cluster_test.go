package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
	"github.com/wasmatrix/wasmatrix/module/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCluster is some replicators on disks of their own, joined by a network
// and a log in memory.
type testCluster struct {
	refused wasmatrix.Digest // by the check of what is pushed
	servers []*server

	mu       sync.Mutex
	proposed []wasmatrix.Command
	index    uint64
}

type server struct {
	*replica.Replicator
	cluster *testCluster
	name    string
	dir     string
	store   *module.Store
	stop    func()

	mu      sync.Mutex
	changed chan struct{}
	view    view
	backlog []func(*view) // what the state has yet to apply while it lags
	lags    bool
	fault   func(ctx context.Context) error // of transfers from and to it
	hidden  bool                            // its address is not known
	corrupt bool                            // it sends something else
	stores  int                             // transfers to it that began
	fetches int                             // transfers that it began
}

// startCluster starts n servers. It is to be called within a bubble, with
// directories from outside of it.
func startCluster(t testing.TB, dir string, n int) *testCluster {
	t.Helper()
	c := &testCluster{}
	for i := range n {
		name := string(rune('a' + i))
		s := &server{cluster: c, name: name, dir: filepath.Join(dir, name), changed: make(chan struct{})}
		s.view.modules = map[wasmatrix.Digest]*wasmatrix.Module{}
		c.servers = append(c.servers, s)
	}
	for _, s := range c.servers {
		s.start(t)
	}
	t.Cleanup(c.stop)
	return c
}

func (c *testCluster) checkModule(m *wasmatrix.Module) error {
	if m.Digest == c.refused {
		return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "refused")
	}
	return nil
}

func (c *testCluster) stop() {
	for _, s := range c.servers {
		s.stop()
	}
}

// start begins, or begins anew with what is on the disk.
func (s *server) start(t testing.TB) {
	t.Helper()
	var err error
	if s.store, err = module.OpenStore(module.Config{Dir: s.dir}); err != nil {
		t.Fatal(err)
	}
	s.Replicator = replica.New(replica.Config{
		Store: s.store, Cluster: s, Copier: network{s.cluster, s}, Log: s.cluster, State: s, MaxModule: maxModule,
		Check: s.cluster.checkModule,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r := s.Replicator
	go func() { defer close(done); r.Run(ctx) }()
	s.stop = sync.OnceFunc(func() { cancel(); <-done; r.Close(); r.Close() })
}

const maxModule = 1 << 20

// Peers implements replica.Cluster.
func (s *server) Peers() []replica.Peer {
	var peers []replica.Peer
	for _, o := range s.cluster.servers {
		addr := o.name + ":7480"
		if o.hidden {
			addr = ""
		}
		peers = append(peers, replica.Peer{Name: o.name, Addr: addr, Voter: true, Self: o == s})
	}
	return append(peers, replica.Peer{Name: "learner", Addr: "learner:7480"})
}

func (s *server) Snapshot() wasmatrix.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view
	v.modules = maps.Clone(v.modules)
	return &v
}

func (s *server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *server) apply(f func(*view)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lags {
		s.backlog = append(s.backlog, f)
		return
	}
	f(&s.view)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) setLag(lags bool) {
	s.mu.Lock()
	s.lags = lags
	backlog := s.backlog
	s.backlog = nil
	s.mu.Unlock()
	for _, f := range backlog {
		s.apply(f)
	}
}

func (s *server) setFault(f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *server) fetched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

func down(context.Context) error {
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "connection refused")
}

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// view is a snapshot of the little that replicators look at.
type view struct {
	wasmatrix.Snapshot // not implemented beyond the methods below
	modules            map[wasmatrix.Digest]*wasmatrix.Module
	now                wasmatrix.Time
}

func (v *view) Now() wasmatrix.Time { return v.now }

func (v *view) Module(d wasmatrix.Digest) (*wasmatrix.Module, bool) {
	m, ok := v.modules[d]
	return m, ok
}

func (v *view) Modules() iter.Seq[*wasmatrix.Module] {
	return slices.Values(slices.SortedFunc(maps.Values(v.modules), func(a, b *wasmatrix.Module) int {
		return slices.Compare(a.Digest[:], b.Digest[:])
	}))
}

// Propose implements replica.Log.
func (c *testCluster) Propose(ctx context.Context, cmd wasmatrix.Command) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proposed = append(c.proposed, cmd)
	c.index++
	var answer any
	var f func(v *view)
	switch cmd := cmd.(type) {
	case wasmatrix.AddModule:
		m := *cmd.Module
		m.CreateIndex = c.index
		answer = &m
		f = func(v *view) { v.modules[m.Digest], v.now = &m, cmd.At }
	case wasmatrix.RemoveModule:
		f = func(v *view) { delete(v.modules, cmd.Digest); v.now = cmd.At }
	case wasmatrix.CollectGarbage: // stands for whatever else happens
		f = func(v *view) { v.now = cmd.At }
	}
	for _, s := range c.servers {
		s.apply(f)
	}
	return answer, nil
}

func (c *testCluster) proposals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.proposed)
}

// tick has something happen in the log that is no business of replicators.
func (c *testCluster) tick(t testing.TB) {
	t.Helper()
	if _, err := c.Propose(context.Background(), wasmatrix.CollectGarbage{At: wasmatrix.TimeOf(time.Now())}); err != nil {
		t.Fatal(err)
	}
}

// pass lets time go by, with something in the log before and after.
func (c *testCluster) pass(t testing.TB, d time.Duration) {
	t.Helper()
	c.tick(t)
	time.Sleep(d)
	c.tick(t)
	time.Sleep(time.Second)
	synctest.Wait()
}

// network implements replica.Copier for one server.
type network struct {
	c    *testCluster
	from *server
}

func (n network) peer(ctx context.Context, addr string) (*server, error) {
	for _, s := range n.c.servers {
		if s.name+":7480" != addr {
			continue
		}
		for _, end := range []*server{n.from, s} {
			end.mu.Lock()
			fault := end.fault
			end.mu.Unlock()
			if fault == nil {
				continue
			}
			if err := fault(ctx); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
	return nil, down(ctx)
}

func (n network) Store(ctx context.Context, addr string, d wasmatrix.Digest, size int64, r io.Reader) error {
	s, err := n.peer(ctx, addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.stores++
	s.mu.Unlock()
	return s.Store(ctx, d, size, r)
}

func (n network) Fetch(ctx context.Context, addr string, d wasmatrix.Digest, w io.Writer) error {
	n.from.mu.Lock()
	n.from.fetches++
	n.from.mu.Unlock()
	s, err := n.peer(ctx, addr)
	if err != nil {
		return err
	}
	r, size, err := s.Open(ctx, d, true)
	if err != nil {
		return err
	}
	defer r.Close()
	s.mu.Lock()
	corrupt := s.corrupt
	s.mu.Unlock()
	if corrupt {
		_, err := w.Write(make([]byte, size))
		return err
	}
	_, err = io.Copy(w, r)
	return err
}

// guest is a module that differs with i.
func guest(i int) ([]byte, wasmatrix.Digest) {
	custom := append([]byte{4, 'g', 'u', 's', 't'}, bytes.Repeat([]byte{byte(i)}, 3000)...)
	b := append([]byte("\x00asm\x01\x00\x00\x00\x00"), binary.AppendUvarint(nil, uint64(len(custom)))...)
	b = append(b, custom...)
	return b, wasmatrix.DigestOf(b)
}

// push pushes guest i at a server.
func (s *server) push(ctx context.Context, i int) (*wasmatrix.Module, bool, error) {
	b, d := guest(i)
	// A push that hangs fails its test, rather than turn the clock for ever.
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	return s.Push(ctx, replica.Header{Digest: d, Size: int64(len(b))}, bytes.NewReader(b))
}

func mustPush(t testing.TB, s *server, i int) wasmatrix.Digest {
	t.Helper()
	m, _, err := s.push(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

// holders names the servers that have a module, verified, on their disk.
func (c *testCluster) holders(t testing.TB, d wasmatrix.Digest) string {
	t.Helper()
	var names []string
	for _, s := range c.servers {
		b, err := os.ReadFile(s.file(d))
		if err == nil && wasmatrix.DigestOf(b) == d && s.store.Has(d) {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, "")
}

func (s *server) file(d wasmatrix.Digest) string {
	return filepath.Join(s.dir, strings.TrimPrefix(d.String(), "sha256:")+".wasm")
}

// unfinished counts the files that writers left in a server's store.
func (s *server) unfinished(t testing.TB) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "write-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// bubble runs f with a cluster of three servers and a clock of its own.
func bubble(t *testing.T, f func(t *testing.T, c *testCluster)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, dir, 3)
		f(t, c)
		c.stop()
	})
}
