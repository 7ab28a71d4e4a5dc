package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestMain is the compiler's process, too: the test binary executes itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == compile.Verb {
		os.Exit(compile.Main(os.Stdin, os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

func newEngine(tb testing.TB, cfg Config) *Engine {
	tb.Helper()
	if cfg.Compile.Dir == "" {
		cfg.Compile.Dir = tb.TempDir()
	}
	cfg.Compile.Command = []string{os.Args[0], compile.Verb}
	e, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

func load(tb testing.TB, e *Engine, b []byte) *Module {
	tb.Helper()
	m, err := e.Load(context.Background(), wasmatrix.DigestOf(b), Bytes(b))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Release)
	return m
}

func TestExits(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	code := func(c int32) *int32 { return &c }
	for _, tt := range []struct {
		name    string
		module  string
		cfg     RunConfig
		kind    Kind
		code    *int32
		message string // a part of it
		stack   []string
		running bool
	}{
		{name: "returns", module: "return", kind: OK, running: true},
		{name: "exit 0", module: "exit", kind: OK, code: code(0), running: true},
		{name: "exit 2", module: "exit", cfg: RunConfig{Args: []string{"a", "b"}}, kind: Failed, code: code(2), message: "exit code 2", running: true},
		{name: "exit -1", module: "exit_cancelled", kind: Failed, code: code(-1), message: "exit code -1", running: true},
		{
			name: "trap", module: "trap", kind: Trap, message: "integer divide by zero", running: true,
			stack: []string{"inner(i32) i32", "middle(i32)", "_start()"},
		},
		{name: "stack overflow", module: "overflow", kind: Stack, message: "call depth exceeded", running: true},
		{name: "fuel", module: "spin", cfg: RunConfig{Fuel: 1_000_000}, kind: CPU, message: "fuel budget used up", running: true},
		{name: "memory", module: "grow", kind: Memory, message: "memory limit of 64MiB: refused to grow to 64.1MiB; then unreachable", running: true},
		{
			name: "memory, lower", module: "grow", cfg: RunConfig{MemoryLimit: 1 << 20}, kind: Memory, running: true,
			message: "memory limit of 1MiB",
		},
		{name: "memory refused, and coped", module: "grow_cope", kind: Trap, message: "unreachable", running: true},
		{
			name: "initial memory", module: "big", cfg: RunConfig{MemoryLimit: 10 << 20}, kind: Memory,
			message: "the module begins with 20MiB of memory, over its limit of 10MiB",
		},
		{name: "initial memory fits", module: "big", kind: OK, running: true},
		{name: "import of another type", module: "signature", kind: Start, message: "signature mismatch"},
		{name: "parameters", module: "params", kind: Start, message: "expected 1 params", running: true},
		{name: "start section", module: "start_section", kind: Trap, message: "unreachable", stack: []string{"first()"}},
		{name: "initializer", module: "reactor_trap", kind: Trap, message: "unreachable", stack: []string{"init()"}},
		{name: "no host", module: "files", kind: OK, running: true},
		{name: "the host function fails", module: "poll_wrap", kind: Host, message: "index out of range", running: true},
		{name: "deadline, spinning", module: "spin", cfg: RunConfig{Deadline: 5 * time.Millisecond}, kind: Deadline, message: "the deadline passed", running: true},
		{name: "deadline, sleeping", module: "sleep", cfg: RunConfig{Deadline: 5 * time.Millisecond}, kind: Deadline, running: true},
		{name: "deadline, reactor", module: "reactor", cfg: RunConfig{Deadline: 5 * time.Millisecond}, kind: Deadline, running: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := load(t, e, nodetest.Module(t, tt.module))
			running := 0
			tt.cfg.OnRunning = func() { running++ }
			exit := m.Run(t.Context(), tt.cfg)
			if exit.Kind != tt.kind || !strings.Contains(exit.Message, tt.message) {
				t.Errorf("exit %+v, want %s with %q", exit, tt.kind, tt.message)
			}
			if (exit.Code == nil) != (tt.code == nil) || exit.Code != nil && *exit.Code != *tt.code {
				t.Errorf("code %v, want %v", exit.Code, tt.code)
			}
			if tt.stack != nil && !slices.Equal(exit.Stack, tt.stack) {
				t.Errorf("stack %q, want %q", exit.Stack, tt.stack)
			}
			if want := map[bool]int{true: 1}[tt.running]; running != want {
				t.Errorf("OnRunning called %d times, want %d", running, want)
			}
		})
	}
}

func TestCancellationEndsAnyGuest(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for _, name := range []string{"spin", "sleep", "random", "reactor", "bare", "flood"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := load(t, e, nodetest.Module(t, name))
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("asked to")
			exit := m.Run(ctx, RunConfig{OnRunning: func() { cancel(why) }})
			if exit.Kind != Cancelled || exit.Message != why.Error() || exit.Code != nil {
				t.Errorf("exit %+v", exit)
			}
			// Before it began.
			if exit := m.Run(ctx, RunConfig{OnRunning: func() { t.Error("ran") }}); exit.Kind != Cancelled {
				t.Errorf("exit %+v", exit)
			}
		})
	}
}

func TestStackIsBounded(t *testing.T) {
	t.Parallel()
	exit := load(t, newEngine(t, Config{}), nodetest.Module(t, "deep")).Run(t.Context(), RunConfig{})
	if len(exit.Stack) < wasmatrix.MaxCrashFrames || len(exit.Stack) > wasmatrix.MaxDetailFrames {
		t.Fatalf("%d frames", len(exit.Stack))
	}
	last := len(exit.Stack) - 1
	if exit.Stack[last] != "(deeper frames are not shown)" {
		t.Errorf("the last frame is %q", exit.Stack[last])
	}
	for _, f := range exit.Stack[:last] {
		if len(f) != wasmatrix.MaxCrashFrame || !strings.HasPrefix(f, "a_function_whose_name") || !utf8.ValidString(f) {
			t.Errorf("frame of %d bytes: %q", len(f), f)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for name, kind := range map[string]wasmatrix.ModuleKind{
		"return": wasmatrix.ModuleCommand, "reactor": wasmatrix.ModuleReactor, "bare": wasmatrix.ModuleReactor,
	} {
		if got := load(t, e, nodetest.Module(t, name)).Kind(); got != kind {
			t.Errorf("%s is a %s, want %s", name, got, kind)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for name, b := range map[string][]byte{
		"empty": {}, "text": []byte("#!/bin/sh\n"), "truncated": nodetest.Module(t, "stateless")[:200],
		"component": {0, 'a', 's', 'm', 0x0d, 0, 1, 0},
	} {
		_, err := e.Load(t.Context(), wasmatrix.DigestOf(b), Bytes(b))
		if wasmatrix.CodeOf(err) != wasmatrix.CodeWasmRuntime {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A failed fetch is told as it is, and the next load fetches again.
	b := nodetest.Module(t, "return")
	gone := wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "gone")
	if _, err := e.Load(t.Context(), wasmatrix.DigestOf(b), func(context.Context) ([]byte, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	load(t, e, b)
}

func TestLoadsOfADigestShareOneFetch(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{IdleModules: 1})
	b := nodetest.Module(t, "return")
	digest := wasmatrix.DigestOf(b)
	var fetches atomic.Int32
	gate := make(chan struct{})
	fetch := func(ctx context.Context) ([]byte, error) {
		fetches.Add(1)
		select {
		case <-gate:
			return b, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var wg sync.WaitGroup
	modules := make(chan *Module, 50)
	for range cap(modules) {
		wg.Go(func() {
			m, err := e.Load(t.Context(), digest, fetch)
			if err != nil {
				t.Error(err)
				return
			}
			modules <- m
		})
	}
	for fetches.Load() == 0 {
		runtime.Gosched()
	}
	// One that gives up does not take the others along.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Load(ctx, digest, fetch); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(gate)
	wg.Wait()
	close(modules)
	for m := range modules {
		if exit := m.Run(t.Context(), RunConfig{}); exit.Kind != OK {
			t.Errorf("exit %+v", exit)
		}
		m.Release()
		m.Release()
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}

	// Idle modules beyond the bound are freed, the least recently used first.
	load(t, e, b).Release()
	other := nodetest.Module(t, "exit")
	load(t, e, other).Release()
	e.mu.Lock()
	_, kept := e.modules[wasmatrix.DigestOf(other)]
	n := len(e.modules)
	e.mu.Unlock()
	if !kept || n != 1 {
		t.Errorf("%d modules kept, the newest of them: %v", n, kept)
	}
	if exit := load(t, e, b).Run(t.Context(), RunConfig{}); exit.Kind != OK {
		t.Errorf("after being freed: %+v", exit)
	}
}

func TestModulesInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := nodetest.Module(t, "return"), nodetest.Module(t, "exit")
	measure := newEngine(t, Config{Compile: compile.Config{Dir: dir}})
	load(t, measure, first)
	load(t, measure, second)
	both := measure.taken
	if both < int64(len(first)+len(second)) {
		t.Fatalf("%d bytes are counted for modules of %d and %d", both, len(first), len(second))
	}

	e := newEngine(t, Config{ModuleMemory: uint64(both) - 1})
	m := load(t, e, first)
	_, err := e.Load(t.Context(), wasmatrix.DigestOf(second), Bytes(second))
	if wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
		t.Fatalf("a module beyond the bound: %v", err)
	}
	if exit := m.Run(t.Context(), RunConfig{}); exit.Kind != OK {
		t.Errorf("the module in use: %+v", exit)
	}
	m.Release()
	m = load(t, e, second) // the idle one makes room
	if _, kept := e.modules[wasmatrix.DigestOf(first)]; kept || e.idle.Len() != 0 {
		t.Error("the idle module has stayed")
	}
	m.Release()
	load(t, e, first).Release()
	load(t, e, first).Release()
	if e.taken <= 0 || e.taken >= both {
		t.Errorf("%d bytes are counted for one module, of %d for both", e.taken, both)
	}
}

func TestLoadThatNobodyWaitsForIsCancelled(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	b := nodetest.Module(t, "return")
	fetching, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := e.Load(ctx, wasmatrix.DigestOf(b), func(ctx context.Context) ([]byte, error) {
			close(fetching)
			<-ctx.Done()
			close(ended)
			return nil, ctx.Err()
		})
		if err == nil {
			t.Error("loaded")
		}
	})
	<-fetching
	cancel()
	<-ended
	wg.Wait()
	load(t, e, b) // a new load, which succeeds
}

func TestCloseEndsRuns(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	m := load(t, e, nodetest.Module(t, "spin"))
	var exit Exit
	running := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { exit = m.Run(t.Context(), RunConfig{OnRunning: func() { close(running) }}) })
	<-running
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if exit.Kind != Cancelled {
		t.Errorf("exit %+v", exit)
	}
	if exit := m.Run(t.Context(), RunConfig{}); exit.Kind != Host {
		t.Errorf("after Close: %+v", exit)
	}
	if _, err := e.Load(t.Context(), m.Digest(), nil); err == nil {
		t.Error("loaded after Close")
	}
}

func TestP1_NothingOfAnEarlierExecutionIsVisible(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, nodetest.Module(t, "stateless"))
	want := map[int]Kind{1: OK, 2: Trap, 3: Failed, 4: OK, 5: Deadline}
	run := func(t *rapid.T, way int) {
		cfg := RunConfig{Args: make([]string, way), MemoryLimit: 8 * wasmatrix.WasmPage}
		if way == 5 {
			cfg.Deadline = 20 * time.Millisecond
		}
		exit := m.Run(context.Background(), cfg)
		// On a busy machine the deadline may pass before the guest has looked.
		if exit.Kind != want[way] || way == 3 && *exit.Code != 3 {
			t.Errorf("way %d: %+v", way, exit)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var wg sync.WaitGroup
		for _, lane := range rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(1, 5), 1, 4), 1, 3).Draw(t, "lanes") {
			wg.Go(func() {
				for _, way := range lane {
					run(t, way)
				}
			})
		}
		wg.Wait()
	})
}

// TestP19_InstancesSeeOnlyWhatIsTheirs runs guests beside each other and finds
// in the output of each its own arguments and environment only.
func TestP19_InstancesSeeOnlyWhatIsTheirs(t *testing.T) {
	t.Setenv("WASMATRIX_TEST_SECRET", "of the host")
	e := newEngine(t, Config{})
	m := load(t, e, nodetest.GoGuest(t))
	var wg sync.WaitGroup
	for _, who := range []string{"alice", "bob", "carol"} {
		wg.Go(func() {
			var out, errs bytes.Buffer
			exit := m.Run(t.Context(), RunConfig{
				Args: []string{"guest", "world", who}, Env: map[string]string{"WHO": who, "A": "1"},
				Stdout: &out, Stderr: &errs,
			})
			want := `args ["guest" "world" "` + who + `"]
env ["A=1" "WHO=` + who + `"]
files true
files true
files true
files true
dial refused true
year true
`
			if exit.Kind != OK || out.String() != want || errs.String() != "to stderr\n" {
				t.Errorf("%s: exit %+v, stdout:\n%s\nwant:\n%s\nstderr: %s", who, exit, &out, want, &errs)
			}
		})
	}
	wg.Wait()
}

func TestGoPrograms(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	m := load(t, e, nodetest.GoGuest(t))
	run := func(ctx context.Context, cfg RunConfig, args ...string) (Exit, string, string) {
		var out, errs bytes.Buffer
		cfg.Args, cfg.Stdout, cfg.Stderr = append([]string{"guest"}, args...), &out, &errs
		exit := m.Run(ctx, cfg)
		return exit, out.String(), errs.String()
	}
	if exit, _, _ := run(t.Context(), RunConfig{}, "exit", "3"); exit.Kind != Failed || *exit.Code != 3 {
		t.Errorf("exit 3: %+v", exit)
	}
	if exit, _, errs := run(t.Context(), RunConfig{}, "panic"); exit.Kind != Failed || *exit.Code != 2 || !strings.Contains(errs, "panic: on purpose") {
		t.Errorf("panic: %+v, stderr %q", exit, errs)
	}
	if exit, out, _ := run(t.Context(), RunConfig{}, "sleep", "20ms"); exit.Kind != OK || out != "slept true\n" {
		t.Errorf("sleep: %+v, stdout %q", exit, out)
	}
	if exit, _, _ := run(t.Context(), RunConfig{MemoryLimit: 16 << 20}, "alloc"); exit.Kind != Memory || exit.MemoryPeak > 16<<20 {
		t.Errorf("alloc: %+v", exit)
	}
	for _, verb := range []string{"spin", "serve"} {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		spoke := make(chan struct{})
		var exit Exit
		wg.Go(func() {
			exit = m.Run(ctx, RunConfig{Args: []string{"guest", verb}, Stdout: &firstWrite{done: spoke}})
		})
		<-spoke
		cancel()
		wg.Wait()
		if exit.Kind != Cancelled {
			t.Errorf("%s: %+v", verb, exit)
		}
	}
}

// firstWrite closes done when it is first written to.
type firstWrite struct {
	once sync.Once
	done chan struct{}
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.done) })
	return len(p), nil
}

func BenchmarkRun(b *testing.B) {
	e := newEngine(b, Config{})
	for _, name := range []string{"return", "exit"} {
		b.Run(name, func(b *testing.B) {
			m := load(b, e, nodetest.Module(b, name))
			for b.Loop() {
				if exit := m.Run(b.Context(), RunConfig{}); exit.Kind != OK {
					b.Fatal(exit)
				}
			}
		})
	}
	b.Run("go", func(b *testing.B) {
		m := load(b, e, nodetest.GoGuest(b))
		for b.Loop() {
			if exit := m.Run(b.Context(), RunConfig{Args: []string{"guest"}}); exit.Kind != OK {
				b.Fatal(exit)
			}
		}
	})
}
