package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestWhoWaitsIsEnded: in the middle of every function that waits, by the end of
// the run, by the deadline of the run, and by that of the invocation.
func TestWhoWaitsIsEnded(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	open := func(r *reactor) step { return r.do(abi.HTTPOpen, "web", "GET", "http://host/", "", 0) }
	for _, tt := range []struct {
		call  string // that waits
		steps func(r *reactor) []step
	}{
		{"get", func(r *reactor) []step { return []step{r.do(abi.KVGet, "kv", "k", buf, 0, 0)} }},
		{"set", func(r *reactor) []step { return []step{r.do(abi.KVSet, "kv", "k", "v", 0, 0)} }},
		{"set", func(r *reactor) []step { return []step{r.do(abi.KVCAS, "kv", "k", 0, "v", 0, 0)} }},
		{"delete", func(r *reactor) []step { return []step{r.do(abi.KVDelete, "kv", "k")} }},
		{"list", func(r *reactor) []step { return []step{r.do(abi.KVList, "kv", "", "", 0, buf, 0)} }},
		{"open", func(r *reactor) []step { return []step{open(r)} }},
		{"write", func(r *reactor) []step { return []step{open(r), r.do(abi.HTTPWrite, 1, "x")} }},
		{"response", func(r *reactor) []step { return []step{open(r), r.do(abi.HTTPSend, 1)} }},
		{"read", func(r *reactor) []step {
			return []step{open(r), r.do(abi.HTTPSend, 1), r.do(abi.HTTPRead, 1, buf, 10)}
		}},
		{"publish", func(r *reactor) []step { return []step{r.do(abi.MsgPublish, "msg", "t", "x")} }},
		{"subscribe", func(r *reactor) []step { return []step{r.do(abi.MsgSubscribe, "msg", "t", "", 0)} }},
		{"subscribe", func(r *reactor) []step { return []step{r.do(abi.MsgSubscribe, "msg", "t", "", 1)} }},
		{"receive", func(r *reactor) []step {
			return []step{r.do(abi.MsgSubscribe, "msg", "t", "", 0), r.do(abi.MsgReceive, 1, -1, buf, 10)}
		}},
		{"receive", func(r *reactor) []step {
			return []step{r.do(abi.MsgSubscribe, "msg", "t", "", 0), r.do(abi.MsgReceive, 1, 3_600_000, buf, 10)}
		}},
	} {
		for _, how := range []string{"run", "deadline of the run", "deadline of the invocation"} {
			t.Run(tt.call+"/"+how, func(t *testing.T) {
				t.Parallel()
				w := nodetest.NewWorld()
				waiting := make(chan struct{}, 1)
				w.Before = func(ctx context.Context, call string) error {
					if name, _, _ := strings.Cut(call, " "); name != tt.call {
						return nil
					}
					waiting <- struct{}{}
					<-ctx.Done()
					return ctx.Err()
				}
				cfg := RunConfig{Capabilities: w}
				const soon = 200 * time.Millisecond
				if how == "deadline of the run" {
					cfg.Deadline = soon
				}
				r := runModule(t, e, testModule(t, "abi"), cfg)
				steps := tt.steps(r)
				done := r.send(wasmatrix.Invocation{Function: "script", Bytes: true, Data: encodeSteps(steps)}, func(c *Call) {
					if how == "deadline of the invocation" {
						c.Deadline = time.Now().Add(soon)
					}
				})
				<-waiting
				want := Deadline
				if how == "run" {
					want = Cancelled
					r.cancel(errTest)
				}
				if exit := r.wait(); exit.Kind != want {
					t.Errorf("exit %+v", exit)
				}
				if a := <-done; a.err == nil {
					t.Errorf("the caller is told %+v", a.result)
				}
				if w.Open() != 0 {
					t.Errorf("%d are open", w.Open())
				}
			})
		}
	}
}

// TestEveryFunctionIsASafePoint for who has had the core for a slice, whatever it
// is called with.
func TestEveryFunctionIsASafePoint(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, testModule(t, "abi"))
	for i := range hostFunctions {
		ctx, cancel := context.WithCancel(t.Context())
		x := m.newExecution(ctx, &RunConfig{})
		if err := x.enter(); err != nil {
			t.Fatal(err)
		}
		cancel()
		x.resumed = time.Now().Add(-time.Second)
		func() {
			defer func() {
				if exit, ok := recover().(*sys.ExitError); !ok || exit.ExitCode() != sys.ExitCodeContextCanceled {
					t.Errorf("%s went on", hostFunctions[i].name)
				}
			}()
			hostFunctions[i].call(x, nil, make([]uint64, 9))
		}()
		x.end(&Exit{})
	}
}

// TestFloodsOfCallsEnd: a guest that is refused at once, and one that has much
// copied, come by at safe points as any other does.
func TestFloodsOfCallsEnd(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	w.Put("key", string(make([]byte, abi.MaxValue)))
	e := newEngine(t, Config{Cores: 1})
	for _, function := range []string{"flood", "copy"} {
		r := runModule(t, e, testModule(t, "abi"), RunConfig{Capabilities: w})
		r.send(wasmatrix.Invocation{Function: function, Bytes: true})
		// Others get the core meanwhile.
		other := runReactor(t, e, "callee", RunConfig{})
		for range 10 {
			if _, err := other.call("work", "1000"); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if exit := r.end(errTest); exit.Kind != Cancelled {
			t.Errorf("%s: exit %+v", function, exit)
		}
		t.Logf("%s: ended after %s", function, time.Since(began))
	}
}

// contextUntil ends when something comes from c.
func contextUntil[T any](c <-chan T, tb testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(tb.Context())
	go func() {
		select {
		case <-c:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// still has one value and nothing else.
type still struct {
	denied

	value []byte
}

func (s still) KVGet(context.Context, wasmatrix.CapabilityID, string) (capability.Entry, bool, error) {
	return capability.Entry{Value: s.value, Revision: 1}, true, nil
}
