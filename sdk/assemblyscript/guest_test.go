// Package assemblyscript_test runs a guest that is written with this SDK.
package assemblyscript_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
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

// TestGuest looks at the committed bytes of test/guest.ts.
func TestGuest(t *testing.T) {
	wasm, err := os.ReadFile("test/guest.wasm")
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Config{Compile: compile.Config{Dir: t.TempDir(), Command: []string{os.Args[0], compile.Verb}, Timeout: 5 * time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	m, err := e.Load(t.Context(), wasmatrix.DigestOf(wasm), engine.Bytes(wasm))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	w := nodetest.NewWorld()
	calls, ended := make(chan *engine.Call), make(chan engine.Exit, 1)
	var stderr bytes.Buffer // read once the run has ended
	go func() { ended <- m.Run(t.Context(), engine.RunConfig{Capabilities: w, Calls: calls, Stderr: &stderr}) }()
	type answer struct {
		wasmatrix.InvocationResult
		err error
	}
	call := func(function, in string) answer {
		answers := make(chan answer, 1)
		calls <- &engine.Call{
			Invocation: wasmatrix.Invocation{Function: function, Data: []byte(in), Bytes: true}, Deadline: time.Now().Add(time.Minute),
			Begin: func() bool { return true },
			Done:  func(r wasmatrix.InvocationResult, err error) { answers <- answer{r, err} },
		}
		return <-answers
	}
	for range 20 { // its collector has enough to do
		if a := call("check", ""); a.err != nil || a.Status != 0 {
			t.Fatalf("step %d: %v", a.Status, a.err)
		}
	}
	if w.Open() != 0 {
		t.Errorf("%d are open", w.Open())
	}
	if a := call("echo", "grüße"); a.err != nil || string(a.Data) != "grüße" {
		t.Errorf("%q, %v", a.Data, a.err)
	}
	if a := call("fail", "ä"); a.err == nil {
		t.Error("it did not trap")
	}
	if exit := <-ended; exit.Kind != engine.Trap || !strings.Contains(stderr.String(), "thrown: ä at sdk/assemblyscript/test/guest.ts:") {
		t.Errorf("%+v, %q", exit, stderr.String())
	}
}
