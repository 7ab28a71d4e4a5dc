package compile

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
)

// Verbs of the test binary besides [Verb]. Each is a child that behaves otherwise.
const (
	verbCounted = "counted" // notes its process ID in the file named by the next argument, then compiles
	verbPanics  = "panics"  // takes its request and dies
	verbLies    = "lies"    // answers with the text of the next argument
	verbNode    = "node"    // the parent of a child, see runNode

	verbRemoved = "removed" // another one, see runRemoved

	verbFullDisk = "full-disk" // and another, see onFullDisk
)

// TestMain is the child, too: the test binary executes itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case Verb:
			os.Exit(Main(os.Stdin, os.Stdout))
		case verbCounted:
			note(os.Args[2])
			os.Exit(Main(os.Stdin, os.Stdout))
		case verbPanics:
			panic("on purpose")
		case verbLies:
			_ = json.NewDecoder(os.Stdin).Decode(new(request)) // or the node could not write it
			fmt.Println(os.Args[2])
			os.Exit(0)
		case verbFullDisk:
			os.Exit(onFullDisk(os.Args[2]))
		case verbRemoved:
			os.Exit(runRemoved(os.Args[2]))
		case verbNode:
			os.Exit(runNode(os.Args[2], os.Args[3]))
		}
	}
	goleak.VerifyTestMain(m)
}

func note(path string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		panic(err)
	}
	f.Close()
}

// runNode loads a module in a process of its own, and prints how many files of
// code there are then: more than one if this process has compiled.
func runNode(dir, source string) int {
	src, err := os.ReadFile(source)
	if err != nil {
		panic(err)
	}
	c, err := Open(Config{
		Dir: dir, Command: []string{os.Args[0], verbCounted, filepath.Join(dir, "children")},
		Limits: loose, Timeout: 10 * time.Minute,
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	err = c.Load(ctx, wasmatrix.DigestOf(src), give(src), func(a *Artifact) error {
		_, err := load(ctx, c.Dir(), a.Wasm)
		return err
	})
	if err != nil {
		panic(err)
	}
	files, err := filepath.Glob(filepath.Join(c.code, "*"))
	if err != nil {
		panic(err)
	}
	fmt.Println(len(files))
	return 0
}

// runRemoved removes its own file before it loads a module.
func runRemoved(dir string) int {
	command, err := Self()
	if err != nil {
		panic(err)
	}
	// Where a program cannot be executed without its file, it is not replaced here.
	if runtime.GOOS == "linux" {
		if err := os.Remove(os.Args[0]); err != nil {
			panic(err)
		}
	}
	c, err := Open(Config{Dir: dir, Command: command})
	if err != nil {
		panic(err)
	}
	src := numbered(1)
	if err := c.Load(context.Background(), wasmatrix.DigestOf(src), give(src), func(*Artifact) error { return nil }); err != nil {
		panic(err)
	}
	return 0
}

// open opens a cache in cfg.Dir, or in a new directory, whose children are
// counted unless cfg says otherwise.
func open(tb testing.TB, cfg Config) *Cache {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	if cfg.Command == nil {
		cfg.Command = []string{os.Args[0], verbCounted, filepath.Join(cfg.Dir, "children")}
	}
	c, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// children are the process IDs of the children that have been started in a
// directory.
func children(tb testing.TB, dir string) []string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "children"))
	if err != nil && !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	return strings.Fields(string(b))
}

// await waits until a condition holds, which the test's deadline bounds.
func await(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatal("not seen in a minute: " + what)
		}
	}
}

func give(b []byte) Fetch { return func(context.Context) ([]byte, error) { return b, nil } }

// mustLoad loads a module as a node does.
func mustLoad(tb testing.TB, c *Cache, src []byte) *Artifact {
	tb.Helper()
	var artifact *Artifact
	err := c.Load(tb.Context(), wasmatrix.DigestOf(src), give(src), func(a *Artifact) error {
		artifact = a
		_, err := load(tb.Context(), c.Dir(), a.Wasm)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return artifact
}

// Parts of modules, as bytes.

func module(sections ...[]byte) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		out = append(out, s...)
	}
	return out
}

func section(id byte, content []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(content))), content...)
}

func name(s string) []byte { return append(binary.AppendUvarint(nil, uint64(len(s))), s...) }

func custom(s string, content []byte) []byte { return section(0, append(name(s), content...)) }

// numbered is a small module, for each n another.
func numbered(n int) []byte {
	body := append(binary.AppendVarint([]byte{0, 0x41}, int64(n)), 0x1a, 0x0b)
	return functions(body)
}

// functions is a module of functions without parameters and results.
func functions(bodies ...[]byte) []byte {
	declared := binary.AppendUvarint(nil, uint64(len(bodies)))
	code := slices.Clip(declared)
	for _, b := range bodies {
		declared = append(declared, 0)
		code = append(binary.AppendUvarint(code, uint64(len(b))), b...)
	}
	return module(section(1, []byte{1, 0x60, 0, 0}), section(3, declared), section(10, code))
}
