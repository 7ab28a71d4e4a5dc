package node

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// callee is a reactor of functions: it takes its calls as one of the engine does.
//
//	echo   gives back its data
//	work   takes the time that its argument says
//	spin   ends at the deadline of the call, and the run with it
//	trap   ends the run
//	exit   ends the run, with code 0
type callee struct {
	start chan struct{} // where it is not nil, what the guest waits for before it runs

	mu       sync.Mutex // guards all below
	executed []string   // the data of calls, in the order in which they began
	runs     int
}

// toEnd is how long a callee takes to end after it has answered its last call.
const toEnd = 100 * time.Millisecond

func (f *callee) run(ctx context.Context, cfg engine.RunConfig) engine.Exit {
	cancelled := engine.Exit{Kind: engine.Cancelled, Message: "context canceled"}
	if f.start != nil {
		select {
		case <-f.start:
		case <-ctx.Done():
			return cancelled
		}
	}
	f.mu.Lock()
	f.runs++
	f.mu.Unlock()
	cfg.OnRunning()
	for {
		select {
		case <-ctx.Done():
			return cancelled
		case c := <-cfg.Calls:
			if !c.Begin() {
				continue
			}
			f.mu.Lock()
			f.executed = append(f.executed, string(c.Data))
			f.mu.Unlock()
			res, exit := f.do(ctx, c)
			if exit != nil {
				c.Done(wasmatrix.InvocationResult{}, exit.Err())
				time.Sleep(toEnd)
				return *exit
			}
			c.Done(res, nil)
		}
	}
}

func (f *callee) do(ctx context.Context, c *engine.Call) (wasmatrix.InvocationResult, *engine.Exit) {
	pass := func(d time.Duration) *engine.Exit {
		if !pause(ctx, d) {
			return &engine.Exit{Kind: engine.Cancelled, Message: "context canceled"}
		}
		return nil
	}
	switch c.Function {
	case "work":
		d, err := time.ParseDuration(string(c.Data))
		if err != nil {
			panic(err)
		}
		return wasmatrix.InvocationResult{}, pass(d)
	case "spin":
		if exit := pass(time.Until(c.Deadline)); exit != nil {
			return wasmatrix.InvocationResult{}, exit
		}
		return wasmatrix.InvocationResult{}, &engine.Exit{Kind: engine.Deadline, Message: "the deadline of an invocation passed"}
	case "trap":
		return wasmatrix.InvocationResult{}, new(exitTrap)
	case "exit":
		return wasmatrix.InvocationResult{}, &engine.Exit{Kind: engine.OK, Code: new(int32)}
	default:
		return wasmatrix.InvocationResult{Data: c.Data, Fuel: 7}, nil
	}
}

func (f *callee) calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.executed)
}

// calling is a node that runs instance "i" of a callee.
func calling(t *testing.T, f *callee, cfg Config, change ...func(*wasmatrix.Spec)) (*Node, *control) {
	t.Helper()
	c := newControl()
	cfg.Control, cfg.guests = c, &guests{run: f.run, kind: wasmatrix.ModuleReactor}
	n := fakeNode(t, cfg)
	execute(t, n, startOrder("i", 1, spec(change...)))
	return n, c
}

// call is an invocation of instance "i".
func call(function, data string, timeout time.Duration) wasmatrix.Invocation {
	return wasmatrix.Invocation{Instance: "i", Function: function, Data: []byte(data), Bytes: true, Timeout: timeout}
}

// outcome is what a call came to, and when.
type outcome struct {
	result wasmatrix.InvocationResult
	err    error
	at     time.Time
}

// invoke begins a call, whose outcome comes from the channel.
func invoke(ctx context.Context, n *Node, v wasmatrix.Invocation) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		r, err := n.Invoke(ctx, v)
		done <- outcome{r, err, time.Now()}
	}()
	return done
}

// want checks the code of an error, and what it says of the outcome.
func (o outcome) want(t *testing.T, what string, code wasmatrix.Code, details string) {
	t.Helper()
	e := wasmatrix.AsError(o.err)
	if e == nil || e.Code != code || e.Details[wasmatrix.DetailOutcome] != details {
		t.Errorf("%s: %v with %+v, want %s with the outcome %q", what, o.err, e, code, details)
	}
}
