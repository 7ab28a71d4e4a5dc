package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// library gives the test's modules by digest.
type library map[wasmatrix.Digest][]byte

func (l library) Module(_ context.Context, d wasmatrix.Digest) ([]byte, error) {
	if b, ok := l[d]; ok {
		return b, nil
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "no module %s", d.Short())
}

// world is a node with a real engine under a control plane that can be waited
// for.
type world struct {
	*Node
	c       *control
	library library
	changed chan struct{} // one element: reports have arrived
}

func newWorld(tb testing.TB, cfg Config) *world {
	tb.Helper()
	e, err := engine.New(engine.Config{Compile: compile.Config{Dir: tb.TempDir(), Command: []string{os.Args[0], compile.Verb}}})
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{c: newControl(), library: library{}, changed: make(chan struct{}, 1)}
	for _, name := range nodetest.Names(tb) {
		b := nodetest.Module(tb, name)
		w.library[wasmatrix.DigestOf(b)] = b
	}
	cfg.ID, cfg.Addr, cfg.Engine, cfg.Modules, cfg.Control = "n1", "127.0.0.1:1", e, w.library, signalling{w}
	if cfg.Capacity == (wasmatrix.Capacity{}) {
		cfg.Capacity = wasmatrix.Capacity{Memory: 1 << 46, Instances: 1 << 20}
	}
	if w.Node, err = New(cfg); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	tb.Cleanup(func() {
		if err := w.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
		cancel()
		wg.Wait()
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return w
}

// signalling pokes its world after each report.
type signalling struct{ w *world }

func (s signalling) Register(ctx context.Context, r wasmatrix.Registration) (wasmatrix.Lease, error) {
	return s.w.c.Register(ctx, r)
}

func (s signalling) Renew(ctx context.Context, id wasmatrix.NodeID, boot wasmatrix.BootID) (wasmatrix.Lease, error) {
	return s.w.c.Renew(ctx, id, boot)
}

func (s signalling) ReportDenials(ctx context.Context, id wasmatrix.NodeID, boot wasmatrix.BootID, seq uint64, d []wasmatrix.Denial) error {
	return s.w.c.ReportDenials(ctx, id, boot, seq, d)
}

func (s signalling) Report(ctx context.Context, id wasmatrix.NodeID, boot wasmatrix.BootID, r []wasmatrix.Report) error {
	err := s.w.c.Report(ctx, id, boot, r)
	poke(s.w.changed)
	return err
}

// patience is for a machine that is busy: the race detector makes the compiling
// child thirty times slower, and its priority is low.
const patience = 4 * time.Minute

// until waits for what reports bring about.
func (w *world) until(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	give := time.After(patience)
	for !f() {
		select {
		case <-w.changed:
		case <-give:
			tb.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// runs starts a module, and returns its reports once it is final, or running.
func (w *world) runs(tb testing.TB, id wasmatrix.InstanceID, module []byte, change ...func(*wasmatrix.Spec)) []wasmatrix.Report {
	tb.Helper()
	w.start(tb, id, module, change...)
	w.until(tb, string(id), func() bool { return w.c.instance(id).Status.Final() })
	return w.c.reports(id)
}

func (w *world) start(tb testing.TB, id wasmatrix.InstanceID, module []byte, change ...func(*wasmatrix.Spec)) {
	tb.Helper()
	digest := wasmatrix.DigestOf(module)
	change = append(change, func(s *wasmatrix.Spec) { s.Module = digest })
	execute(tb, w.Node, startOrder(id, 1, spec(change...)))
}

func withArgs(args ...string) func(*wasmatrix.Spec) {
	return func(s *wasmatrix.Spec) { s.Args = args }
}

func TestRealGuests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{})
	guest := nodetest.GoGuest(t)
	w.library[wasmatrix.DigestOf(guest)] = guest
	module := func(name string) []byte { return nodetest.Module(t, name) }

	for _, tt := range []struct {
		id     wasmatrix.InstanceID
		module []byte
		change func(*wasmatrix.Spec)
		want   string
		kind   wasmatrix.CrashKind
		code   wasmatrix.Code
		exit   int32 // -1 is none
	}{
		{"returns", module("return"), nil, "running/1 stopped/1", "", "", -1},
		{"exits", module("exit"), withArgs("a", "b"), "running/1 crashed/1", wasmatrix.CrashExit, wasmatrix.CodeCrashDetected, 3},
		{"traps", module("trap"), nil, "running/1 crashed/1", wasmatrix.CrashTrap, wasmatrix.CodeCrashDetected, -1},
		{"grows", module("grow"), nil, "running/1 crashed/1", wasmatrix.CrashMemory, wasmatrix.CodeResourceExhausted, -1},
		{
			"spins", module("spin"), func(s *wasmatrix.Spec) { s.Limits.Deadline = 10 * time.Millisecond }, "running/1 crashed/1",
			wasmatrix.CrashDeadline, wasmatrix.CodeTimeout, -1,
		},
		{"lacks", module("imports"), nil, "crashed/1", wasmatrix.CrashStart, wasmatrix.CodeWasmRuntime, -1},
		{"unknown", []byte("never pushed"), nil, "crashed/1", wasmatrix.CrashStart, wasmatrix.CodeModuleNotFound, -1},
		{
			"retries", module("trap"), restart(wasmatrix.RestartOnFailure, 2, wasmatrix.Backoff{Multiplier: 1}),
			"running/1 backoff/1 running/2 backoff/2 running/3 crashed/3", wasmatrix.CrashTrap, wasmatrix.CodeRestartPolicyViolation, -1,
		},
		{"panics", guest, withArgs("panic"), "running/1 crashed/1", wasmatrix.CrashExit, wasmatrix.CodeCrashDetected, 2},
		{"sleeps", guest, withArgs("sleep", "10ms"), "running/1 stopped/1", "", "", 0},
	} {
		change := tt.change
		if change == nil {
			change = func(*wasmatrix.Spec) {}
		}
		reports := w.runs(t, tt.id, tt.module, change)
		last := reports[len(reports)-1]
		if got := summary(reports); got != tt.want || last.Error != tt.code {
			t.Errorf("%s: reports %s, error %q, want %s, %q", tt.id, got, last.Error, tt.want, tt.code)
			continue
		}
		if tt.kind != "" && last.Crash.Kind != tt.kind {
			t.Errorf("%s: crash %+v, want %s", tt.id, last.Crash, tt.kind)
		}
		if (last.ExitCode == nil) != (tt.exit < 0) || last.ExitCode != nil && *last.ExitCode != tt.exit {
			t.Errorf("%s: exit code %v, want %d", tt.id, last.ExitCode, tt.exit)
		}
	}
	traps := w.c.reports("traps")
	if got := strings.Join(traps[len(traps)-1].Crash.Stack, " < "); got != "inner(i32) i32 < middle(i32) < _start()" {
		t.Errorf("stack %s", got)
	}
	lacks := w.c.reports("lacks")
	if got := lacks[0].Crash.Message; !strings.Contains(got, "env.abort") || !strings.Contains(got, "wasmatrix.kv_rename") {
		t.Errorf("message %q", got)
	}
	// What the guest said is kept here, and is no part of any report.
	var mu sync.Mutex
	var said strings.Builder
	if err := w.Logs(t.Context(), "panics", LogOptions{Stream: LogStderr}, collect(&said, &mu)); err != nil || !strings.Contains(said.String(), "panic: on purpose") {
		t.Errorf("stderr %q, %v", said.String(), err)
	}
	for _, r := range w.c.arrived() {
		if strings.Contains(fmt.Sprintf("%+v %+v", r, r.Crash), "on purpose") {
			t.Errorf("the guest's output is in %+v", r)
		}
	}
}

func TestStopsRealGuests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{})
	names := []string{"spin", "sleep", "reactor", "bare", "flood"}
	for _, name := range names {
		id := wasmatrix.InstanceID(name)
		w.start(t, id, nodetest.Module(t, name))
		w.until(t, name, func() bool { return w.c.instance(id).Status == wasmatrix.StatusRunning })
	}
	for _, name := range names {
		id := wasmatrix.InstanceID(name)
		execute(t, w.Node, stopOrder(id, 1))
		w.until(t, name, func() bool { return w.c.instance(id).Status == wasmatrix.StatusStopped })
	}
}

// TestAFloodOfOutputIsBounded lets a guest write without end, and a reader
// follow it.
func TestAFloodOfOutputIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{LogRing: 8192})
	w.start(t, "flood", nodetest.Module(t, "flood"))
	var read int
	var dropped uint64
	err := w.Logs(t.Context(), "flood", LogOptions{Follow: true}, func(c LogChunk) error {
		if !bytes.Contains([]byte("a line that says nothing\na line that says nothing\n"), c.Data[:min(20, len(c.Data))]) {
			t.Errorf("read %q", c.Data)
		}
		read += len(c.Data)
		dropped += c.Dropped
		time.Sleep(time.Millisecond) // reads slower than the guest writes
		if read > 5000 && dropped > 0 {
			return errBroken
		}
		return nil
	})
	if !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	w.mu.Lock()
	ring := w.instances["flood"].logs
	w.mu.Unlock()
	ring.mu.Lock()
	defer ring.mu.Unlock()
	if ring.size > 8192 {
		t.Errorf("%d bytes kept", ring.size)
	}
}

// TestP19_NeighboursOfACrashAreLeftAlone has one instance crash in every way,
// again and again, beside others that must not notice.
func TestP19_NeighboursOfACrashAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{})
	for i := range 10 {
		w.start(t, wasmatrix.InstanceID(fmt.Sprint("calm", i)), nodetest.Module(t, []string{"sleep", "reactor"}[i%2]))
	}
	rounds := restart(wasmatrix.RestartOnFailure, 20, wasmatrix.Backoff{Multiplier: 1})
	for _, name := range []string{"trap", "exit", "grow", "poll_wrap", "deep", "start_section", "stateless"} {
		w.start(t, wasmatrix.InstanceID(name), nodetest.Module(t, name), rounds, func(s *wasmatrix.Spec) {
			s.Args, s.Limits.Memory = []string{"x"}, 1<<20
		})
	}
	for _, name := range []string{"trap", "exit", "grow", "poll_wrap", "deep", "start_section", "stateless"} {
		id := wasmatrix.InstanceID(name)
		w.until(t, name, func() bool { return w.c.instance(id).Status == wasmatrix.StatusCrashed })
		if i := w.c.instance(id); i.Restarts != 20 {
			t.Errorf("%s: %d restarts", name, i.Restarts)
		}
	}
	for i := range 10 {
		id := wasmatrix.InstanceID(fmt.Sprint("calm", i))
		w.until(t, string(id), func() bool { return w.c.instance(id).Status == wasmatrix.StatusRunning })
		if got := summary(w.c.reports(id)); got != "running/1" {
			t.Errorf("%s: %s", id, got)
		}
	}
}

func TestAThousandStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{})
	module := nodetest.Module(t, "sleep")
	s := spec(func(s *wasmatrix.Spec) { s.Module = wasmatrix.DigestOf(module) })
	var starts, stops []wasmatrix.Order
	for i := range 1000 {
		id := wasmatrix.InstanceID(fmt.Sprint("i", i))
		starts = append(starts, startOrder(id, 1, s))
		stops = append(stops, stopOrder(id, 1))
	}
	count := func(status wasmatrix.Status) (n int) {
		w.c.set(func() {
			for _, i := range w.c.known {
				if i.Status == status {
					n++
				}
			}
		})
		return n
	}
	execute(t, w.Node, starts...)
	w.until(t, "starts", func() bool { return count(wasmatrix.StatusRunning) == 1000 })
	execute(t, w.Node, stops...)
	w.until(t, "stops", func() bool { return count(wasmatrix.StatusStopped) == 1000 })
}

// BenchmarkStartToRunning is from Execute to the report of it at the control
// plane, within the process.
func BenchmarkStartToRunning(b *testing.B) {
	for _, name := range []string{"sleep", "bare"} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, Config{})
			module := nodetest.Module(b, name)
			w.start(b, "first", module)
			w.until(b, "first", func() bool { return w.c.instance("first").Status == wasmatrix.StatusRunning })
			i := 0
			for b.Loop() {
				i++
				id := wasmatrix.InstanceID(fmt.Sprint("i", i))
				w.start(b, id, module)
				w.until(b, string(id), func() bool { return w.c.instance(id).Status == wasmatrix.StatusRunning })
			}
		})
	}
}

// BenchmarkCrashToRunning is S6: from the crash to the next execution running,
// without backoff.
func BenchmarkCrashToRunning(b *testing.B) {
	w := newWorld(b, Config{})
	w.start(b, "i", nodetest.Module(b, "trap"), restart(wasmatrix.RestartOnFailure, 0, wasmatrix.Backoff{Multiplier: 1}))
	attempts := func() uint32 {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.instances["i"].attempt
	}
	for attempts() == 1 {
		runtime.Gosched()
	}
	b.ResetTimer()
	from, began := attempts(), time.Now()
	for n := 0; n < b.N; {
		time.Sleep(time.Millisecond)
		n = int(attempts() - from)
	}
	b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(attempts()-from), "ns/restart")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkExecute is how long a push of 1,000 starts takes to be taken in.
func BenchmarkExecute(b *testing.B) {
	w := newWorld(b, Config{})
	module := nodetest.Module(b, "bare")
	s := spec(func(s *wasmatrix.Spec) { s.Module = wasmatrix.DigestOf(module) })
	epoch := uint64(0)
	for b.Loop() {
		epoch++
		orders := make([]wasmatrix.Order, 1000)
		for i := range orders {
			orders[i] = startOrder(wasmatrix.InstanceID(fmt.Sprint("i", i)), epoch, s)
		}
		execute(b, w.Node, orders...)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/order")
}

// BenchmarkIdle is S7 for the node: the memory of instances that do nothing.
func BenchmarkIdle(b *testing.B) {
	const count = 2000
	w := newWorld(b, Config{})
	module := nodetest.Module(b, "bare")
	s := spec(func(s *wasmatrix.Spec) { s.Module = wasmatrix.DigestOf(module) })
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := heap()
	for range b.N {
		orders := make([]wasmatrix.Order, count)
		for i := range orders {
			orders[i] = startOrder(wasmatrix.InstanceID(fmt.Sprint("i", i)), 1, s)
		}
		execute(b, w.Node, orders...)
		w.until(b, "all", func() bool { return len(w.c.arrived()) >= count })
	}
	b.ReportMetric(float64(heap()-before)/count, "B/instance")
}
