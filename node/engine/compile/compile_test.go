package compile

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestMain is the child, too: the test binary executes itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == Verb {
		os.Exit(Main(os.Stdin, os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

func open(tb testing.TB, cfg Config) *Cache {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	cfg.Command = []string{os.Args[0], Verb}
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

func bytesOf(b []byte) Fetch { return func(context.Context) ([]byte, error) { return b, nil } }

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Config{Dir: dir})
	for _, name := range []string{"reactor", "return", "spin"} {
		src := nodetest.Module(t, name)
		used := 0
		err := c.Load(t.Context(), wasmatrix.DigestOf(src), bytesOf(src), func(a *Artifact) error {
			used++
			if _, err := load(t.Context(), c.Dir(), a.Wasm); err != nil {
				t.Error(err)
			}
			return nil
		})
		if err != nil || used != 1 {
			t.Fatalf("%s: %v, used %d times", name, err, used)
		}
	}
	files, _ := filepath.Glob(filepath.Join(c.code, "*"))
	if len(files) != 3 {
		t.Errorf("%d files of code for 3 modules: something was compiled in this process", len(files))
	}
}

func BenchmarkLoadHello(b *testing.B) {
	src := nodetest.GoGuest(b)
	dir := b.TempDir()
	c := open(b, Config{Dir: dir})
	digest := wasmatrix.DigestOf(src)
	began := time.Now()
	if err := c.Load(b.Context(), digest, bytesOf(src), func(*Artifact) error { return nil }); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/cold")
	for b.Loop() {
		if err := c.Load(b.Context(), digest, bytesOf(src), func(a *Artifact) error {
			_, err := load(b.Context(), c.Dir(), a.Wasm)
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkColdSmall(b *testing.B) {
	src := nodetest.Module(b, "reactor")
	for b.Loop() {
		c := open(b, Config{Dir: b.TempDir()})
		if err := c.Load(b.Context(), wasmatrix.DigestOf(src), bytesOf(src), func(*Artifact) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
