package examples_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
)

// TestMain is the compiler's process, too: the test binary executes itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == compile.Verb {
		os.Exit(compile.Main(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// reactor is a module that runs in the engine of nodes, for functions of bytes.
type reactor struct {
	t     *testing.T
	calls chan *engine.Call
	ended chan struct{}
	exit  engine.Exit // once ended is closed
}

// newEngine makes an engine as nodes have one.
func newEngine(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Config{Compile: compile.Config{
		Dir: t.TempDir(), Command: []string{os.Args[0], compile.Verb},
		Timeout: 5 * time.Minute, // of CPU time, which the race detector multiplies
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// loadInto loads a module of a kind into an engine.
func loadInto(t *testing.T, e *engine.Engine, wasm []byte, kind wasmatrix.ModuleKind) *engine.Module {
	t.Helper()
	m, err := e.Load(t.Context(), wasmatrix.DigestOf(wasm), engine.Bytes(wasm))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Release)
	if m.Kind() != kind {
		t.Fatalf("it is a %s", m.Kind())
	}
	return m
}

// react runs a module as a node does, until the test ends.
func react(t *testing.T, wasm []byte) *reactor {
	t.Helper()
	return begin(t, loadInto(t, newEngine(t), wasm, wasmatrix.ModuleReactor), engine.RunConfig{})
}

// begin begins to run a reactor, and returns when it takes calls.
func begin(t *testing.T, m *engine.Module, cfg engine.RunConfig) *reactor {
	t.Helper()
	r := &reactor{t: t, calls: make(chan *engine.Call), ended: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	running := make(chan struct{})
	cfg.Args, cfg.Calls, cfg.OnRunning = []string{"guest"}, r.calls, func() { close(running) }
	go func() {
		defer close(r.ended)
		r.exit = m.Run(ctx, cfg)
	}()
	t.Cleanup(func() {
		stop()
		<-r.ended
		if r.exit.Kind != engine.Cancelled {
			t.Errorf("it ended before it was told to: %+v", r.exit)
		}
	})
	select {
	case <-running:
	case <-r.ended:
		t.Fatal("it ended before it ran")
	}
	return r
}

// invoke calls a function of bytes, which returns its status and its output.
func (r *reactor) invoke(function, in string) (status int32, out string) {
	r.t.Helper()
	type answer struct {
		wasmatrix.InvocationResult
		err error
	}
	answered := make(chan answer, 1)
	call := &engine.Call{
		Invocation: wasmatrix.Invocation{Function: function, Data: []byte(in), Bytes: true},
		Deadline:   time.Now().Add(time.Minute),
		Begin:      func() bool { return true },
		Done:       func(res wasmatrix.InvocationResult, err error) { answered <- answer{res, err} },
	}
	select {
	case r.calls <- call:
	case <-r.ended:
		r.t.Fatal("it takes no more calls")
	}
	a := <-answered
	if a.err != nil {
		r.t.Fatalf("%s(%.40q): %v", function, in, a.err)
	}
	return a.Status, string(a.Data)
}

// want calls a function of bytes, and holds its answer against what it should be.
func (r *reactor) want(function, in string, status int32, out string) {
	r.t.Helper()
	if s, o := r.invoke(function, in); s != status || o != out {
		r.t.Errorf("%s(%.40q) = %d, %q, want %d, %q", function, in, s, o, status, out)
	}
}

// TestWordcount looks at the committed bytes: nothing here builds them.
func TestWordcount(t *testing.T) {
	b, err := os.ReadFile("wordcount/wordcount.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if m := load(t, b).Module; !slices.Equal(m.Imports, []string{"wasmatrix.input_read", "wasmatrix.output_write"}) {
		t.Errorf("it imports %q", m.Imports)
	}
	r := react(t, b)
	for _, c := range []struct{ in, out string }{
		{"", `{"bytes":0,"characters":0,"words":0,"lines":0}`},
		{"one", `{"bytes":3,"characters":3,"words":1,"lines":0}`},
		{"to be,\tor\nnot\r\n to be\n", `{"bytes":22,"characters":22,"words":6,"lines":3}`},
		{"öffentlich 水 𝄞", `{"bytes":20,"characters":14,"words":3,"lines":0}`},
		{strings.Repeat("äöü ", 1<<18), `{"bytes":1835008,"characters":1048576,"words":262144,"lines":0}`}, // characters across pieces
		{strings.Repeat("a", wasmatrix.MaxInvokeData), `{"bytes":4194304,"characters":4194304,"words":1,"lines":0}`},
	} {
		r.want("count", c.in, 0, c.out+"\n")
	}
	for in, offset := range map[string]string{
		"\xff": "0", "ab\x80": "2", "\xc0\xaf": "0", "\xe0\x9f\xbf": "1", "\xed\xa0\x80": "1", "\xf4\x90\x80\x80": "1", "\xf5": "0", "abc\xe2\x82": "5",
	} {
		r.want("count", in, 1, `{"error":"not UTF-8","offset":`+offset+"}\n")
	}
}

// TestCsvjson builds a reactor in Go, whose memory is its own from call to call.
func TestCsvjson(t *testing.T) {
	r := react(t, build(t, ".", "./csvjson", "-buildmode=c-shared"))
	for range 2 {
		r.want("convert", "name,age\nAnn,30\n\"Bob, jr.\",31\n", 0, `[{"age":"30","name":"Ann"},{"age":"31","name":"Bob, jr."}]`+"\n")
		r.want("convert", "name\n", 0, "[]\n")
		r.want("convert", "name,age\nAnn\n", 1, "record on line 2: wrong number of fields\n")
		r.want("convert", "", 1, "there is no first record, which names the fields\n")
	}
}
