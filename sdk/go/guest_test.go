package wasmatrix_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/engine"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestMain is the compiler's process, too: the test binary executes itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == compile.Verb {
		os.Exit(compile.Main(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// run runs a program of testdata as a guest, which says "all is well" if it is.
func run(t *testing.T, program string, w *nodetest.World) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", out, "./testdata/"+program)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Config{Compile: compile.Config{
		Dir: t.TempDir(), Command: []string{os.Args[0], compile.Verb},
		Timeout: 5 * time.Minute, // of CPU time, which the race detector multiplies
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	m, err := e.Load(t.Context(), wasmatrix.DigestOf(wasm), engine.Bytes(wasm))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	var said bytes.Buffer
	exit := m.Run(t.Context(), engine.RunConfig{Args: []string{program}, Capabilities: w, Stdout: &said, Stderr: &said})
	if exit.Kind != engine.OK || said.String() != "all is well\n" {
		t.Errorf("%+v: %s", exit, said.String())
	}
	if w.Open() != 0 {
		t.Errorf("%d are open", w.Open())
	}
}

func TestGuest(t *testing.T) {
	w := nodetest.NewWorld()
	run(t, "guest", w)
	if calls := w.Called(); !slices.Contains(calls, "set kv 2ms") { // of 1.5
		t.Errorf("called %q", calls[:20])
	}
	if h := w.Requests()[0].Header; !slices.Contains(h, capability.Field{Name: "Content-Length", Value: "200000"}) {
		t.Errorf("sent as %v", h)
	}
	if h := w.Requests()[1].Header; slices.ContainsFunc(h, func(f capability.Field) bool { return f.Name == "Content-Length" }) {
		t.Errorf("a stream was sent as %v", h)
	}
}

func TestNetHTTP(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("compiling net/http takes half a minute, and many under the race detector")
	}
	w := nodetest.NewWorld()
	w.Before = func(ctx context.Context, call string) error {
		if all := w.Requests(); call == "response" && strings.HasSuffix(all[len(all)-1].URL, "/slow") {
			time.Sleep(all[len(all)-1].Timeout) // as the provider would
			return wasmatrix.Errorf(wasmatrix.CodeTimeout, "too slow")
		}
		return ctx.Err()
	}
	run(t, "nethttp", w)
	q := w.Requests()[0]
	want := []capability.Field{{Name: "Host", Value: "virtual"}, {Name: "X-Two", Value: "1"}, {Name: "X-Two", Value: "2"}}
	if q.Method != http.MethodPut || q.URL != "http://host/path?q=1" || !slices.Equal(q.Header, want) {
		t.Errorf("requested %+v", q)
	}
	if h := w.Requests()[1].Header; !slices.Contains(h, capability.Field{Name: "Content-Length", Value: "5"}) {
		t.Errorf("sent as %v", h)
	}
	if d := w.Requests()[2].Timeout; d <= 0 || d > 50*time.Millisecond || d%time.Millisecond != 0 {
		t.Errorf("the timeout is %s", d)
	}
}
