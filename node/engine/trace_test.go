package engine

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// Without wasm-opt on PATH: clang would have it optimize what it links, which
// leaves no lines.
//
//go:generate sh -c "cd testdata/lines && for v in 4 5; do clang --target=wasm32 -gdwarf-${DOLLAR}v -O1 -fno-inline -fno-optimize-sibling-calls -fdebug-compilation-dir=. -nostdlib -Wl,--no-entry -o lines${DOLLAR}v.wasm main.c divide.c || exit 1; done"

// linesModule is the guest of testdata/lines, with debug information of a
// version of DWARF.
func linesModule(tb testing.TB, version string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "lines", "lines"+version+".wasm"))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// linesStack is the stack of its trap: the line of each call, not of the function.
var linesStack = []string{
	"divide(i32,i32) i32 divide.c:3:14",
	"middle(i32) i32 main.c:7:16",
	"start() main.c:16:9",
}

func TestStacksHaveTheLinesOfTheSource(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for _, version := range []string{"4", "5"} {
		exit := load(t, e, linesModule(t, version)).Run(t.Context(), RunConfig{})
		if exit.Kind != Trap || !slices.Equal(exit.Stack, linesStack) {
			t.Errorf("DWARF %s: %s, %s, stack %q; want %q", version, exit.Kind, exit.Message, exit.Stack, linesStack)
		}
	}
}

// TestStacksOfGoHaveNames: the linker of Go writes no debug information for
// WebAssembly, so that there are no lines.
func TestStacksOfGoHaveNames(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "crash.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, "github.com/wasmatrix/wasmatrix/examples/crash")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	exit := load(t, newEngine(t, Config{}), b).Run(t.Context(), RunConfig{Args: []string{"crash", "-how", "trap"}})
	if exit.Kind != Trap || len(exit.Stack) < 3 || !strings.HasPrefix(exit.Stack[0], "main.trap(") {
		t.Errorf("%s, %s, stack %q", exit.Kind, exit.Message, exit.Stack)
	}
}

// TestDamagedDebugInformationDoesNoHarm: it is the guest's own, who may write into it
// what it wants. The trap is told as it is, its functions by name.
func TestDamagedDebugInformationDoesNoHarm(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, linesModule(t, "4"))
	good, err := m.s.debug()
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(good.Sections))
	if !slices.Contains(names, ".debug_line") {
		t.Fatalf("sections %q", names)
	}
	lines := 0
	rapid.Check(t, func(t *rapid.T) {
		bad := maps.Clone(good.Sections)
		for range rapid.IntRange(1, 8).Draw(t, "bytes") {
			name := rapid.SampledFrom(names).Draw(t, "section")
			b := slices.Clone(bad[name])
			b[rapid.IntRange(0, len(b)-1).Draw(t, "where")] = rapid.Byte().Draw(t, "byte")
			bad[name] = b[:len(b)-rapid.SampledFrom([]int{0, 0, 0, 1, len(b) / 2}).Draw(t, "short")]
			if len(bad[name]) == 0 {
				bad[name] = []byte{0}
			}
		}
		m.s.debug = func() (*meter.Debug, error) { return &meter.Debug{Shifts: good.Shifts, Sections: bad}, nil }
		exit := m.Run(context.Background(), RunConfig{})
		if exit.Kind != Trap || exit.Message != "integer divide by zero" || len(exit.Stack) != len(linesStack) {
			t.Fatalf("exit %+v", exit)
		}
		for i, f := range exit.Stack {
			name, _, _ := strings.Cut(linesStack[i], " ")
			if !strings.HasPrefix(f, name) || len(f) > wasmatrix.MaxCrashFrame || !utf8.ValidString(f) {
				t.Fatalf("frame %q", f)
			}
			if f == linesStack[i] {
				lines++
			}
		}
	})
	t.Logf("%d lines were found all the same", lines)

	// Where they cannot be had at all, the trap is told without them.
	for name, debug := range map[string]func() (*meter.Debug, error){
		"unreadable": func() (*meter.Debug, error) { return nil, errTest },
		"none":       nil,
		"empty":      func() (*meter.Debug, error) { return &meter.Debug{}, nil },
	} {
		m.s.debug = debug
		if exit := m.Run(t.Context(), RunConfig{}); exit.Kind != Trap || len(exit.Stack) != 3 || strings.Contains(exit.Stack[0], ".c:") {
			t.Errorf("%s: exit %+v", name, exit)
		}
	}
}

// TestAModuleOfDamagedDebugInformationRuns: it is read when a guest has trapped, and
// is no reason to refuse one.
func TestAModuleOfDamagedDebugInformationRuns(t *testing.T) {
	t.Parallel()
	b := bytes.ReplaceAll(linesModule(t, "5"), []byte("main.c"), []byte("\xff\xff\xff\xff\xff\xff"))
	for _, name := range []string{".debug_abbrev", ".debug_rnglists"} {
		at := bytes.Index(b, []byte(name)) + len(name)
		copy(b[at:], bytes.Repeat([]byte{0xff}, 16))
	}
	exit := load(t, newEngine(t, Config{}), b).Run(t.Context(), RunConfig{})
	if exit.Kind != Trap || len(exit.Stack) != 3 || !strings.HasPrefix(exit.Stack[0], "divide(") {
		t.Errorf("exit %+v", exit)
	}
}

// TestNothingOfTheMeterIsInAStack: of the functions that it adds, such as that
// which counts depth, none has a frame.
func TestNothingOfTheMeterIsInAStack(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for module, cfg := range map[string]RunConfig{
		"overflow": {}, "spin": {Fuel: 1000}, "trap": {}, "deep": {},
	} {
		exit := load(t, e, nodetest.Module(t, module)).Run(t.Context(), cfg)
		for _, f := range exit.Stack {
			if strings.Contains(f, "refuel") || strings.Contains(f, "meter") || strings.HasPrefix(f, ".") {
				t.Errorf("%s: frame %q", module, f)
			}
		}
		if len(exit.Stack) == 0 {
			t.Errorf("%s: no stack: %+v", module, exit)
		}
	}
}

// TestFunctionsWithoutNamesHaveTheirIndices: what the meter imports does not count.
func TestFunctionsWithoutNamesHaveTheirIndices(t *testing.T) {
	t.Parallel()
	// (import "wasi_snapshot_preview1" "proc_exit") (func unreachable) (func (export "_start") (call 1))
	b := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x08\x02\x60\x00\x00\x60\x01\x7f\x00" +
		"\x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\x00\x01" +
		"\x03\x03\x02\x00\x00" + "\x07\x0a\x01\x06_start\x00\x02" + "\x0a\x0a\x02\x03\x00\x00\x0b\x04\x00\x10\x01\x0b")
	exit := load(t, newEngine(t, Config{}), b).Run(t.Context(), RunConfig{})
	if want := []string{"$1()", "$2()"}; exit.Kind != Trap || !slices.Equal(exit.Stack, want) {
		t.Errorf("%+v, want the stack %q", exit, want)
	}
}
