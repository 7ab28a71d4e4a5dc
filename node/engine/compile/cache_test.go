package compile

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/node/meter"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// code lists wazero's files.
func code(tb testing.TB, c *Cache) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(c.code, "*"))
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

func TestNothingIsCompiledInThisProcess(t *testing.T) {
	t.Parallel()
	c := open(t, Config{})
	for i, name := range []string{"reactor", "return", "spin", "stateless"} {
		mustLoad(t, c, nodetest.Module(t, name))
		// What this process compiled would have been written beside.
		if n := len(code(t, c)); n != i+1 {
			t.Errorf("%s: %d files of code for %d modules", name, n, i+1)
		}
	}
	if n := len(children(t, c.Dir())); n != 4 {
		t.Errorf("%d children for 4 modules", n)
	}
	left, err := filepath.Glob(filepath.Join(c.Dir(), tempPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestArtifact(t *testing.T) {
	t.Parallel()
	c := open(t, Config{})
	a := mustLoad(t, c, nodetest.Module(t, "trap"))
	if a.Kind != wasmatrix.ModuleCommand || a.Debug != nil || a.Tables != 0 {
		t.Errorf("artifact %+v", a)
	}
	if a := mustLoad(t, c, nodetest.Module(t, "reactor")); a.Kind != wasmatrix.ModuleReactor {
		t.Errorf("kind %s", a.Kind)
	}
	a = mustLoad(t, c, nodetest.Module(t, "flood"))
	if !slices.Contains(a.Imports, abi.WASI+".fd_write") {
		t.Errorf("imports %v", a.Imports)
	}
	table := module(section(4, []byte{2, 0x70, 0, 5, 0x70, 0, 7}))
	if a := mustLoad(t, c, table); a.Tables != 12 {
		t.Errorf("tables of %d elements", a.Tables)
	}
	a = mustLoad(t, c, withLines(nodetest.Module(t, "trap")))
	if a.Debug == nil {
		t.Fatal("no debug information")
	}
	d, err := a.Debug()
	if err != nil || string(d.Sections[".debug_line"]) != "lines" || len(d.Shifts) == 0 {
		t.Errorf("debug information %+v, %v", d, err)
	}
}

func TestErrorsOfUseAndFetchAreTheirOwn(t *testing.T) {
	t.Parallel()
	c := open(t, Config{})
	src := numbered(1)
	own := errors.New("mine")
	if err := c.Load(t.Context(), wasmatrix.DigestOf(src), give(src), func(*Artifact) error { return own }); !errors.Is(err, own) {
		t.Errorf("error %v", err)
	}
	// A fetch that fails says nothing about the module, whatever its code.
	for _, code := range []wasmatrix.Code{wasmatrix.CodeResourceExhausted, wasmatrix.CodeModuleNotFound} {
		src = numbered(2)
		e := wasmatrix.Errorf(code, "no such luck")
		err := c.Load(t.Context(), wasmatrix.DigestOf(src), func(context.Context) ([]byte, error) { return nil, e }, nil)
		if !errors.Is(err, e) {
			t.Errorf("error %v", err)
		}
	}
	mustLoad(t, c, src)
}

func TestLoadsOfADigestShareAChild(t *testing.T) {
	t.Parallel()
	c := open(t, Config{})
	src := numbered(3)
	var fetches atomic.Int32
	gate := make(chan struct{})
	fetch := func(context.Context) ([]byte, error) {
		fetches.Add(1)
		<-gate
		return src, nil
	}
	var wg sync.WaitGroup
	var used atomic.Int32
	load := func(ctx context.Context) error {
		return c.Load(ctx, wasmatrix.DigestOf(src), fetch, func(*Artifact) error { used.Add(1); return nil })
	}
	for range 50 {
		wg.Go(func() {
			if err := load(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	waiting := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, f := range c.flights {
			return f.waiters
		}
		return 0
	}
	await(t, "50 waiters", func() bool { return waiting() == 50 })
	if n := c.Active(); n != 1 {
		t.Errorf("%d are compiled", n)
	}
	// One that gives up does not take the others along.
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	wg.Go(func() {
		if err := load(ctx); !errors.Is(err, reason) {
			t.Errorf("error %v", err)
		}
	})
	await(t, "one waiter more", func() bool { return waiting() == 51 })
	cancel(reason)
	await(t, "one waiter less", func() bool { return waiting() == 50 })
	close(gate)
	wg.Wait()
	if f, u, n := fetches.Load(), used.Load(), len(children(t, c.Dir())); f != 1 || u != 50 || n != 1 {
		t.Errorf("%d fetches, %d uses, %d children", f, u, n)
	}
	if n := c.Active(); n != 0 {
		t.Errorf("%d are compiled at the end", n)
	}
}

func TestTheLastWaiterEndsTheChild(t *testing.T) {
	t.Parallel()
	c := open(t, Config{Limits: loose, Parallel: 1})
	bomb := timeBomb()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Load(ctx, wasmatrix.DigestOf(bomb), give(bomb), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	await(t, "the child", func() bool { return len(children(t, c.Dir())) == 1 })
	// One that waits for its turn goes without ever having had a child.
	ctx2, cancel2 := context.WithCancel(t.Context())
	queued := numbered(4)
	fetched := make(chan struct{})
	wg.Go(func() {
		err := c.Load(ctx2, wasmatrix.DigestOf(queued), func(context.Context) ([]byte, error) { close(fetched); return queued, nil }, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	<-fetched
	cancel2()
	await(t, "the queued one's end", func() bool { return c.Active() == 1 })
	cancel()
	wg.Wait()
	// The only slot is free again, which it is not while the child lives.
	mustLoad(t, c, numbered(5))
	if n := len(children(t, c.Dir())); n != 2 {
		t.Errorf("%d children", n)
	}
	// Nobody's patience says anything about the module.
	ctx, cancel = context.WithCancel(t.Context())
	wg.Go(func() { _ = c.Load(ctx, wasmatrix.DigestOf(bomb), give(bomb), nil) })
	await(t, "another try", func() bool { return len(children(t, c.Dir())) == 3 })
	cancel()
	wg.Wait()
}

func TestSourcesInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	c := open(t, Config{Parallel: 2})
	var fetching atomic.Int32
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 20 {
		src := numbered(i)
		wg.Go(func() {
			err := c.Load(t.Context(), wasmatrix.DigestOf(src), func(context.Context) ([]byte, error) {
				if n := fetching.Add(1); n > 4 {
					t.Errorf("%d modules are in memory", n)
				}
				<-gate
				fetching.Add(-1)
				return src, nil
			}, func(*Artifact) error { return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	await(t, "20 flights, 4 of them fetching", func() bool { return c.Active() == 20 && fetching.Load() == 4 })
	close(gate)
	wg.Wait()
}

func TestClose(t *testing.T) {
	t.Parallel()
	c := open(t, Config{Limits: loose})
	bomb := timeBomb()
	var wg sync.WaitGroup
	wg.Go(func() {
		err := c.Load(t.Context(), wasmatrix.DigestOf(bomb), give(bomb), nil)
		if err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("error %v", err)
		}
	})
	await(t, "the child", func() bool { return len(children(t, c.Dir())) == 1 })
	began := time.Now()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %s", took)
	}
	wg.Wait()
	if err := c.Load(t.Context(), wasmatrix.DigestOf(bomb), give(bomb), nil); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: %v", err)
	}
	if c.Prepare(wasmatrix.DigestOf(bomb), give(bomb)) {
		t.Error("prepares after Close")
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	c := open(t, Config{Parallel: 1})
	gate := make(chan struct{})
	held := func(src []byte) Fetch {
		return func(context.Context) ([]byte, error) { <-gate; return src, nil }
	}
	for i := range 2 {
		if src := numbered(i); !c.Prepare(wasmatrix.DigestOf(src), held(src)) {
			t.Errorf("refused number %d", i)
		}
	}
	src := numbered(2)
	if c.Prepare(wasmatrix.DigestOf(src), held(src)) {
		t.Error("took on more than it has hands for")
	}
	if src := numbered(1); !c.Prepare(wasmatrix.DigestOf(src), nil) {
		t.Error("refused what is under way")
	}
	// A caller that comes and goes does not end it.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Load(ctx, wasmatrix.DigestOf(numbered(0)), nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(gate)
	await(t, "the end of both", func() bool { return c.Active() == 0 })
	for i := range 2 {
		if !c.Prepare(wasmatrix.DigestOf(numbered(i)), nil) {
			t.Errorf("number %d is not there", i)
		}
		mustLoad(t, c, numbered(i))
	}
	if n := len(children(t, c.Dir())); n != 2 {
		t.Errorf("%d children", n)
	}

	// One that a caller began goes on when it has been asked for.
	gate = make(chan struct{})
	ctx, cancel = context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Load(ctx, wasmatrix.DigestOf(src), held(src), nil) })
	await(t, "the flight", func() bool { return c.Active() == 1 })
	if !c.Prepare(wasmatrix.DigestOf(src), nil) {
		t.Error("refused what is under way")
	}
	cancel()
	wg.Wait()
	close(gate)
	await(t, "its end", func() bool { return c.Active() == 0 })
	if n := len(children(t, c.Dir())); n != 3 {
		t.Errorf("%d children", n)
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	c := open(t, Config{})
	src := nodetest.Module(t, "imports")
	err := c.Load(t.Context(), wasmatrix.DigestOf(src), give(src), nil)
	if wasmatrix.CodeOf(err) != wasmatrix.CodeWasmRuntime {
		t.Errorf("error %v", err)
	}
	for _, name := range []string{"env.abort", abi.WASI + ".sock_open", "wasmatrix.kv_rename"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in %v", name, err)
		}
	}

	// The list is what the engine provides.
	r := wazero.NewRuntime(t.Context())
	defer r.Close(t.Context())
	provided, err := wasi_snapshot_preview1.NewBuilder(r).Compile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name := range provided.ExportedFunctions() {
		if !allowed(abi.WASI, name) {
			t.Errorf("%s is not allowed", name)
		}
	}
	if have, want := len(wasiFunctions), len(provided.ExportedFunctions()); have != want {
		t.Errorf("%d functions are allowed, %d provided", have, want)
	}
	for _, bad := range [][2]string{{"wasmatrix_meter", "refill"}, {"env", "fd_write"}, {"wasmatrix", "fd_write"}, {abi.WASI, ""}} {
		if allowed(bad[0], bad[1]) {
			t.Errorf("%s is allowed", bad)
		}
	}
}

func TestFailuresAreRemembered(t *testing.T) {
	t.Parallel()
	c := open(t, Config{})
	src := nodetest.Module(t, "imports")
	first := c.Load(t.Context(), wasmatrix.DigestOf(src), give(src), nil)
	second := c.Load(t.Context(), wasmatrix.DigestOf(src), give(src), nil)
	if !strings.Contains(second.Error(), "not tried again before") || !strings.HasPrefix(second.Error(), first.Error()) ||
		wasmatrix.CodeOf(second) != wasmatrix.CodeOf(first) {
		t.Errorf("first %v, then %v", first, second)
	}
	if c.Prepare(wasmatrix.DigestOf(src), give(src)) {
		t.Error("prepares what has just failed")
	}
	if n := len(children(t, c.Dir())); n != 1 {
		t.Errorf("%d children", n)
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f failures
		f.add("a", wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "bad"))
		f.add("disk", wasmatrix.Errorf(wasmatrix.CodeStorage, "full"))
		f.add("start", wasmatrix.Errorf(wasmatrix.CodeInternal, "no process"))
		if f.find("disk") != nil || f.find("start") != nil {
			t.Error("what is not the module's fault is held against it")
		}
		time.Sleep(failureLife)
		if f.find("a") == nil {
			t.Error("forgotten too early")
		}
		time.Sleep(time.Second)
		if f.find("a") != nil || len(f.byKey) != 0 {
			t.Error("not forgotten")
		}
		for i := range 3 * maxFailures {
			f.add(string(rune(0x10000+i)), wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "bad"))
		}
		if len(f.byKey) != maxFailures || f.find(string(rune(0x10000+3*maxFailures-1))) == nil {
			t.Errorf("%d failures are kept, the last of them: %v", len(f.byKey), f.find(string(rune(0x10000+3*maxFailures-1))))
		}
	})
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: file, Command: []string{"x"}}); wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
		t.Errorf("error %v", err)
	}
	if _, err := Open(Config{Dir: t.TempDir()}); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("error %v", err)
	}
}

func TestOutputIsTheMetersOwn(t *testing.T) {
	t.Parallel()
	src := nodetest.Module(t, "stateless")
	out, err := meter.Rewrite(src, meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a := mustLoad(t, open(t, Config{}), src); !bytes.Equal(a.Wasm, out.Wasm) {
		t.Error("the output is not the meter's")
	}
}
