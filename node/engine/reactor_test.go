package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// reactor is a run that takes calls. It is ended with the test.
type reactor struct {
	t      *testing.T
	calls  chan *Call
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when exit is set
	exit   Exit
	free   int // from where on nothing was put into its memory
}

// runReactor begins to run a guest of the tests, and returns when it takes calls.
func runReactor(t *testing.T, e *Engine, name string, cfg RunConfig) *reactor {
	t.Helper()
	return runModule(t, e, nodetest.Module(t, name), cfg)
}

// runModule does so with any module that is a reactor.
func runModule(t *testing.T, e *Engine, wasm []byte, cfg RunConfig) *reactor {
	t.Helper()
	m := load(t, e, wasm)
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &reactor{t: t, calls: make(chan *Call), cancel: cancel, ended: make(chan struct{})}
	running := make(chan struct{})
	cfg.Calls, cfg.OnRunning = r.calls, sync.OnceFunc(func() { close(running) })
	go func() {
		defer close(r.ended)
		r.exit = m.Run(ctx, cfg)
	}()
	t.Cleanup(func() { r.end(errTest) })
	select {
	case <-running:
	case <-r.ended:
		t.Fatalf("it has ended: %+v", r.exit)
	}
	return r
}

// end ends the run, if it has not, and returns how it did.
func (r *reactor) end(why error) Exit {
	r.cancel(why)
	return r.wait()
}

// wait waits for the run to end by itself.
func (r *reactor) wait() Exit {
	<-r.ended
	return r.exit
}

// send hands a call over, and returns the channel that its answer comes from.
// Who sends it may change the call before.
func (r *reactor) send(v wasmatrix.Invocation, change ...func(*Call)) <-chan answered {
	r.t.Helper()
	done := make(chan answered, 1)
	c := &Call{
		Invocation: v, Deadline: time.Now().Add(time.Minute), Begin: func() bool { return true },
		Done: func(res wasmatrix.InvocationResult, err error) { done <- answered{res, err} },
	}
	for _, f := range change {
		f(c)
	}
	select {
	case r.calls <- c:
	case <-r.ended:
		r.t.Fatalf("%s: the run has ended: %+v", v.Function, r.exit)
	}
	return done
}

type answered struct {
	result wasmatrix.InvocationResult
	err    error
}

// call calls a function of numbers.
func (r *reactor) call(function string, args ...string) (wasmatrix.InvocationResult, error) {
	r.t.Helper()
	a := <-r.send(wasmatrix.Invocation{Function: function, Args: args})
	return a.result, a.err
}

// bytes calls a function of bytes.
func (r *reactor) bytes(function string, data []byte) (wasmatrix.InvocationResult, error) {
	r.t.Helper()
	a := <-r.send(wasmatrix.Invocation{Function: function, Data: data, Bytes: true})
	return a.result, a.err
}

// texts are the numbers of a result.
func texts(res wasmatrix.InvocationResult) []string {
	var out []string
	for _, n := range res.Results {
		out = append(out, n.Type+" "+n.Text)
	}
	return out
}

// errTest ends runs that are to end because the test has seen enough.
var errTest = errors.New("the test has seen enough")
