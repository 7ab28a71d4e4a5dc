// Package examples_test builds the example guests by their recipes and runs
// them: those that are called in the engine of nodes, and programs on wazero's
// interpreter, since its compiler takes minutes for some under the race detector.
package examples_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

// build builds a Go program for wasip1 in a folder.
func build(t *testing.T, dir, pkg string, flags ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.CommandContext(t.Context(), "go", slices.Concat([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", out}, flags, []string{pkg})...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// guest is a program, compiled.
type guest struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	Module   *wasmatrix.Module
}

// load inspects and compiles a module, whose memory may grow to 64 MiB, and
// holds what Inspect says against what the engine says.
func load(t *testing.T, b []byte) *guest {
	t.Helper()
	m, err := module.InspectBytes(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCloseOnContextDone(true).WithMemoryLimitPages(1024))
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	compiled, err := r.CompileModule(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	var imports, exports []string
	for _, f := range compiled.ImportedFunctions() {
		mod, name, _ := f.Import()
		imports = append(imports, mod+"."+name)
	}
	for name := range compiled.ExportedFunctions() {
		exports = append(exports, name)
	}
	slices.Sort(imports)
	slices.Sort(exports)
	if !slices.Equal(m.Imports, slices.Compact(imports)) || !slices.Equal(m.Exports, exports) {
		t.Errorf("Inspect found %q and %q, the engine %q and %q", m.Imports, m.Exports, imports, exports)
	}
	return &guest{r, compiled, m}
}

// outcome is how a run ended.
type outcome struct {
	stdout, stderr output
	code           uint32 // of its exit; 0 where it ended by itself
	trap           error  // what ended it otherwise
}

// run runs a command to its end. It has no standard input.
func (g *guest) run(ctx context.Context, env map[string]string, args ...string) *outcome {
	o := &outcome{}
	g.runInto(ctx, o, env, args...)
	return o
}

func (g *guest) runInto(ctx context.Context, o *outcome, env map[string]string, args ...string) {
	c := wazero.NewModuleConfig().WithName("").WithArgs(append([]string{"guest"}, args...)...).
		WithStdout(&o.stdout).WithStderr(&o.stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	for k, v := range env {
		c = c.WithEnv(k, v)
	}
	m, err := g.runtime.InstantiateModule(ctx, g.compiled, c)
	if m != nil {
		_ = m.Close(context.Background()) // it has ended already
	}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		o.code = exit.ExitCode()
	} else {
		o.trap = err
	}
}

// output can be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// loadCommand builds a Go guest of this folder.
func loadCommand(t *testing.T, name string) *guest {
	t.Helper()
	return checkCommand(t, load(t, build(t, ".", "./"+name)))
}

// checkCommand sees that a guest asks for nothing but WASI.
func checkCommand(t *testing.T, g *guest) *guest {
	t.Helper()
	if g.Module.Kind != wasmatrix.ModuleCommand {
		t.Errorf("it is a %s", g.Module.Kind)
	}
	for _, imp := range g.Module.Imports {
		if !strings.HasPrefix(imp, "wasi_snapshot_preview1.") {
			t.Errorf("it imports %s", imp)
		}
	}
	return g
}

func TestHello(t *testing.T) {
	g := loadCommand(t, "hello")
	o := g.run(t.Context(), map[string]string{"B": "2", "A": "1"}, "one", "two words")
	want := "hello from a guest\nargument 1: one\nargument 2: two words\nenvironment: A=1\nenvironment: B=2\n"
	if o.code != 0 || o.trap != nil || o.stdout.String() != want {
		t.Errorf("exit %d, %v, %q", o.code, o.trap, o.stdout.String())
	}
}

func TestTicker(t *testing.T) {
	g := loadCommand(t, "ticker")
	o := g.run(t.Context(), nil, "-every", "1ms", "-n", "3")
	if o.code != 0 || o.trap != nil || strings.Count(o.stdout.String(), "tick after ") != 3 {
		t.Errorf("exit %d, %v, %q", o.code, o.trap, o.stdout.String())
	}
	if o := g.run(t.Context(), nil, "-every", "0"); o.code != 2 {
		t.Errorf("without a pause: exit %d", o.code)
	}
}

func TestPrimes(t *testing.T) {
	g := loadCommand(t, "primes")
	for limit, want := range map[string]string{"0": "0 primes", "2": "1 primes", "100": "25 primes", "10000": "1229 primes"} {
		if o := g.run(t.Context(), nil, limit); o.code != 0 || o.trap != nil || !strings.HasPrefix(o.stdout.String(), want) {
			t.Errorf("up to %s: exit %d, %v, %q, want %q", limit, o.code, o.trap, o.stdout.String(), want)
		}
	}
	if o := g.run(t.Context(), nil, "many"); o.code != 2 {
		t.Errorf("up to many: exit %d", o.code)
	}
}

func TestCrash(t *testing.T) {
	g := loadCommand(t, "crash")
	t.Run("spin", func(t *testing.T) { testSpin(t, g) })
	for how, c := range map[string]struct {
		args   []string
		code   uint32
		stderr string
		trap   string
	}{
		"exit":  {[]string{"-code", "7", "-after", "1ms"}, 7, "", ""},
		"panic": {nil, 2, "panic: crash: as asked", ""},
		"trap":  {nil, 0, "", "unreachable"},
		"oom":   {nil, 2, "out of memory", ""},
		"bogus": {nil, 64, "exit, oom, panic, spin, trap", ""},
	} {
		o := g.run(t.Context(), nil, append([]string{"-how", how}, c.args...)...)
		trapped := o.trap != nil && c.trap != "" && strings.Contains(o.trap.Error(), c.trap)
		if o.code != c.code || trapped != (c.trap != "") || (o.trap != nil) != trapped || !strings.Contains(o.stderr.String(), c.stderr) {
			t.Errorf("%s: exit %d, %v, %q", how, o.code, o.trap, o.stderr.String())
		}
	}
}

// testSpin ends a guest that spins from outside: there is no other way.
func testSpin(t *testing.T, g *guest) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := &outcome{}
	done := make(chan struct{})
	go func() { defer close(done); g.runInto(ctx, o, nil, "-how", "spin") }()
	for !strings.Contains(o.stdout.String(), "will crash by spin") {
		select {
		case <-done:
			t.Fatalf("it ended: exit %d, %v, %q", o.code, o.trap, o.stderr.String())
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	<-done
	if o.code != sys.ExitCodeContextCanceled {
		t.Errorf("exit %#x, %v", o.code, o.trap)
	}
}

// TestReactor looks at the committed bytes: nothing here builds them.
func TestReactor(t *testing.T) {
	b, err := os.ReadFile("reactor/reactor.wasm")
	if err != nil {
		t.Fatal(err)
	}
	g := load(t, b)
	if m := g.Module; m.Kind != wasmatrix.ModuleReactor || len(m.Imports) != 0 || !slices.Equal(m.Exports, []string{"add", "calls", "fib"}) {
		t.Fatalf("%+v", m)
	}
	// The second instance knows nothing of the first.
	for range 2 {
		m, err := g.runtime.InstantiateModule(t.Context(), g.compiled, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			function string
			args     []uint64
			want     uint64
		}{
			{"calls", nil, 0},
			{"add", []uint64{2, 3}, 5},
			{"fib", []uint64{0}, 0}, {"fib", []uint64{1}, 1}, {"fib", []uint64{10}, 55}, {"fib", []uint64{93}, 12200160415121876738},
			{"calls", nil, 5},
		} {
			got, err := m.ExportedFunction(c.function).Call(t.Context(), c.args...)
			if err != nil || len(got) != 1 || got[0] != c.want {
				t.Errorf("%s%v is %v, %v, want %d", c.function, c.args, got, err, c.want)
			}
		}
	}
}

// TestGojq builds and runs a program that nobody here wrote.
func TestGojq(t *testing.T) {
	if testing.Short() {
		t.Skip("building and compiling gojq takes half a minute")
	}
	g := checkCommand(t, load(t, build(t, "gojq", "github.com/itchyny/gojq/cmd/gojq")))
	for _, c := range []struct {
		args   []string
		code   uint32
		stdout string
	}{
		{[]string{"-n", "-c", "[range(1;6) | . * .]"}, 0, "[1,4,9,16,25]\n"},
		{[]string{"-n", "-r", "$ENV.WHO"}, 0, "world\n"},
		{[]string{"-n", "nonsense("}, 3, ""},
		{[]string{"-n", `error("as asked")`}, 5, ""},
	} {
		o := g.run(t.Context(), map[string]string{"WHO": "world"}, c.args...)
		if o.code != c.code || o.trap != nil || o.stdout.String() != c.stdout || (o.stderr.String() != "") != (c.code != 0) {
			t.Errorf("%q: exit %d, %v, %q, %q", c.args, o.code, o.trap, o.stdout.String(), o.stderr.String())
		}
	}
}
