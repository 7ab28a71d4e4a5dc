package meter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/wasmatrix/wasmatrix/node/meter"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

//go:generate sh -c "for f in testdata/bench/c/*.c; do clang --target=wasm32-wasi -O2 -s -Wall -o ${f%.c}.wasm $f || exit 1; done"

// programRun is all that is seen of the run of a command. The engine's clocks and
// its source of random numbers are the same in every run, unless asked otherwise.
type programRun struct {
	stdout, stderr string
	code           uint32 // of its exit
	trap           string
	memory         uint32 // bytes in the end
}

// program is a command as it is and metered, compiled once.
type program struct {
	runtime        wazero.Runtime
	host           *host
	plain, metered wazero.CompiledModule
}

func newProgram(t *testing.T, wasm []byte) *program {
	t.Helper()
	ctx := context.Background()
	p := &program{
		runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features).WithMemoryLimitPages(maxPages)),
		host:    &host{},
	}
	t.Cleanup(func() { p.runtime.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, p.runtime)
	p.host.instantiate(t, p.runtime)
	out, err := meter.Rewrite(wasm, meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if p.plain, err = p.runtime.CompileModule(ctx, wasm); err != nil {
		t.Fatal(err)
	}
	if p.metered, err = p.runtime.CompileModule(ctx, out.Wasm); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs one form of a command to its end.
func (p *program) run(form wazero.CompiledModule, env map[string]string, args ...string) programRun {
	ctx := context.Background()
	var stdout, stderr bytes.Buffer
	c := wazero.NewModuleConfig().WithName("").WithArgs(append([]string{"guest"}, args...)...).
		WithStdin(strings.NewReader("some input\n")).WithStdout(&stdout).WithStderr(&stderr).WithStartFunctions()
	for k, v := range env {
		c = c.WithEnv(k, v)
	}
	var end programRun
	m, err := p.runtime.InstantiateModule(ctx, form, c)
	if err == nil {
		if form == p.metered {
			raiseDepth(m, enoughStack)
		}
		_, err = m.ExportedFunction("_start").Call(ctx)
		end.memory = m.Memory().Size()
		m.Close(ctx)
	}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		end.code = exit.ExitCode()
	} else {
		end.trap = failure(err)
	}
	end.stdout, end.stderr = stdout.String(), stderr.String()
	return end
}

// same runs the command as it is and metered, with much fuel at once and with little.
func (p *program) same(t *testing.T, env map[string]string, args ...string) programRun {
	t.Helper()
	want := p.run(p.plain, env, args...)
	for _, slice := range []int64{2_000_000, 3_000} {
		*p.host = host{slice: slice}
		got := p.run(p.metered, env, args...)
		if got != want {
			t.Errorf("metered in slices of %d:\n%s\nunmetered:\n%s", slice, got, want)
		}
		if p.host.calls == 0 {
			t.Error("no fuel was asked for")
		}
	}
	return want
}

func (r programRun) String() string {
	return fmt.Sprintf("exit %d, trap %q, memory %d, stdout %.2000q, stderr %.2000q", r.code, r.trap, r.memory, r.stdout, r.stderr)
}

// buildProgram builds a Go program for wasip1 within a folder.
func buildProgram(t *testing.T, dir, pkg string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, b)
	}
	return read(t, out)
}

// TestGuestsOfTheTestsAreTheSame runs the small guests of the node's tests. Those
// that never end by themselves are not among them, nor are those that lack the host
// of this project, or more than one module to import from: the engine names any.
func TestGuestsOfTheTestsAreTheSame(t *testing.T) {
	left := []string{"spin", "flood", "sleep", "grow", "exit_cancelled", "random", "imports", "bytes", "bytes_bare"}
	for _, name := range nodetest.Names(t) {
		if slices.Contains(left, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			src := nodetest.Module(t, name)
			out, err := meter.Rewrite(src, meter.Options{})
			if err != nil {
				t.Fatal(err)
			}
			dir := specDir(t)
			sides := [2]*specSide{newSpecSide(t, dir, features, false), newSpecSide(t, dir, features, true)}
			var outcomes [2][]string
			for i, s := range sides {
				wasi_snapshot_preview1.MustInstantiate(t.Context(), s.runtime)
				outcomes[i] = append(outcomes[i], s.instantiate(src, "", "").String())
				for _, e := range out.Exports {
					if len(e.Params) == 0 {
						o, _ := s.do(specAction{Type: "invoke", Field: e.Name})
						outcomes[i] = append(outcomes[i], e.Name+": "+o.String())
					}
				}
			}
			if plain, metered := strings.Join(outcomes[0], "\n"), strings.Join(outcomes[1], "\n"); plain != metered {
				t.Errorf("%s\nmetered:\n%s", plain, metered)
			}
		})
	}
}

// TestReactorIsTheSame calls the example in C that stays.
func TestReactorIsTheSame(t *testing.T) {
	src := read(t, "../../examples/reactor/reactor.wasm")
	p, m := plain(t, src), metered(t, src, &host{slice: 50}, meter.Options{})
	for n := range uint64(40) {
		for _, c := range []struct {
			name string
			args []uint64
		}{{"add", []uint64{n, 1<<32 - 7}}, {"fib", []uint64{n}}, {"calls", nil}} {
			want, wantTrap := p.call(c.name, c.args...)
			got, gotTrap := m.call(c.name, c.args...)
			if fmt.Sprint(got) != fmt.Sprint(want) || gotTrap != wantTrap {
				t.Errorf("%s%v: %v %s, unmetered %v %s", c.name, c.args, got, gotTrap, want, wantTrap)
			}
		}
	}
	if m.host.calls == 0 {
		t.Error("no fuel was asked for")
	}
}

// TestProgramsInCAreTheSame runs those of S9.
func TestProgramsInCAreTheSame(t *testing.T) {
	paths, err := filepath.Glob("testdata/bench/c/*.wasm")
	if err != nil || len(paths) < 10 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".wasm"), func(t *testing.T) {
			t.Parallel()
			if o := newProgram(t, read(t, path)).same(t, nil); len(o.stdout) != 17 || o.trap != "" || o.code != 0 {
				t.Error(o)
			}
		})
	}
}

// TestProgramsInGoAreTheSame runs the examples, the guest of the node's tests and the programs of S9.
func TestProgramsInGoAreTheSame(t *testing.T) {
	t.Run("hello", func(t *testing.T) {
		t.Parallel()
		newProgram(t, buildProgram(t, "../..", "./examples/hello")).same(t, map[string]string{"WHO": "you"}, "a", "b c")
	})
	t.Run("primes", func(t *testing.T) {
		t.Parallel()
		p := newProgram(t, buildProgram(t, "../..", "./examples/primes"))
		p.same(t, nil, "20000")
		p.same(t, nil, "no number")
	})
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		p := newProgram(t, buildProgram(t, "../..", "./examples/crash"))
		for _, how := range []string{"exit", "panic", "trap", "nil", "memory", "nonsense"} {
			p.same(t, nil, how)
		}
	})
	t.Run("guest", func(t *testing.T) {
		t.Parallel()
		p := newProgram(t, nodetest.GoGuest(t))
		for _, args := range [][]string{{"nothing"}, {"exit", "7"}, {"panic"}, {"world"}, {"sleep", "1ms"}, {"alloc"}} {
			p.same(t, map[string]string{"A": "1"}, args...)
		}
	})
	t.Run("bench", func(t *testing.T) {
		t.Parallel()
		p := newProgram(t, buildProgram(t, "../..", "./node/meter/testdata/bench/guest"))
		for _, kind := range []string{"nbody", "matrix", "text", "json", "regexp", "sha256", "crc32", "sort", "maps", "trees", "interpreter"} {
			if o := p.same(t, nil, kind); len(o.stdout) != 17 || o.trap != "" || o.code != 0 {
				t.Error(kind, o)
			}
		}
	})
	t.Run("gojq", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("building and compiling gojq takes half a minute")
		}
		p := newProgram(t, buildProgram(t, "../../examples/gojq", "github.com/itchyny/gojq/cmd/gojq"))
		p.same(t, nil, "-n", "-c", "[range(1;2000) | . * .] | map(tostring) | join(\"\") | length")
		p.same(t, nil, "-n", "nonsense(")
		p.same(t, nil, "-R", ".")
	})
}
