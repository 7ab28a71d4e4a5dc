package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

func TestInvokeWaitsWhileAnInstanceStarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &callee{start: make(chan struct{})}
		n, _ := calling(t, f, Config{})
		done := invoke(t.Context(), n, call("echo", "hello", 0))
		synctest.Wait()
		if len(done) != 0 {
			t.Fatalf("answered before the guest ran: %+v", <-done)
		}
		close(f.start)
		if o := <-done; o.err != nil || string(o.result.Data) != "hello" || o.result.Fuel != 7 {
			t.Errorf("%+v", o)
		}
	})
}

func TestInvokeWaitsWhileAnInstanceIsRestarted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &callee{}
		n, _ := calling(t, f, Config{}, restart(wasmatrix.RestartAlways, 0, wasmatrix.Backoff{Initial: 10 * time.Second, Multiplier: 1, Max: 10 * time.Second}))
		began := time.Now().Add(toEnd)
		(<-invoke(t.Context(), n, call("trap", "", 0))).want(t, "trap", wasmatrix.CodeCrashDetected, wasmatrix.OutcomeUnknown)
		o := <-invoke(t.Context(), n, call("echo", "again", 0))
		if o.err != nil || string(o.result.Data) != "again" || o.at.Sub(began) != 10*time.Second || f.runs != 2 {
			t.Errorf("after %s and %d executions: %+v", o.at.Sub(began), f.runs, o)
		}
		// One that ended by itself is begun again as well.
		(<-invoke(t.Context(), n, call("exit", "", 0))).want(t, "exit", wasmatrix.CodeCrashDetected, wasmatrix.OutcomeUnknown)
		if o := <-invoke(t.Context(), n, call("echo", "third", 0)); o.err != nil || f.runs != 3 {
			t.Errorf("after %d executions: %+v", f.runs, o)
		}
	})
}

// TestInvocationsAreExecutedInOrder, one at a time, also over a restart.
func TestInvocationsAreExecutedInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &callee{}
		n, _ := calling(t, f, Config{}, restart(wasmatrix.RestartOnFailure, 0, wasmatrix.Backoff{Multiplier: 1}))
		began := time.Now()
		var done []<-chan outcome
		var want []string
		for i := range 60 {
			// All take another time, so that each would overtake others if it could.
			v := call("work", fmt.Sprintf("%dms", 1000-i), 10*time.Minute)
			if i == 20 {
				v = call("trap", "trap", 10*time.Minute)
			}
			want = append(want, string(v.Data))
			done = append(done, invoke(t.Context(), n, v))
			synctest.Wait() // it has come before the next
		}
		var due time.Duration
		for i, d := range done {
			o := <-d
			if i == 20 {
				o.want(t, "trap", wasmatrix.CodeCrashDetected, wasmatrix.OutcomeUnknown)
				due += toEnd
				continue
			}
			due += time.Duration(1000-i) * time.Millisecond
			if o.err != nil || o.at.Sub(began) != due {
				t.Errorf("call %d: after %s, want %s: %v", i, o.at.Sub(began), due, o.err)
			}
		}
		if got := f.calls(); !slices.Equal(got, want) {
			t.Errorf("executed %q", got)
		}
	})
}

func TestAQueueIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &callee{start: make(chan struct{})}
		n, _ := calling(t, f, Config{InvokeQueue: 3})
		full := func(what string) {
			t.Helper()
			synctest.Wait()
			began := time.Now()
			o := <-invoke(t.Context(), n, call("echo", "refused", 0))
			o.want(t, what, wasmatrix.CodeResourceExhausted, "")
			if !o.at.Equal(began) {
				t.Errorf("%s: refused after %s, want at once", what, o.at.Sub(began))
			}
		}
		// While it starts nothing is executed, so that all wait.
		var done []<-chan outcome
		for range 3 {
			done = append(done, invoke(t.Context(), n, call("work", "1s", 0)))
			synctest.Wait() // it has come before the next
		}
		full("three wait for the start")
		close(f.start)
		synctest.Wait() // one of them is executed
		done = append(done, invoke(t.Context(), n, call("work", "1s", 0)))
		full("three wait for the one that is executed")
		// One that gives up makes room, and one that is answered.
		ctx, cancel := context.WithCancel(t.Context())
		<-done[0]
		gone := invoke(ctx, n, call("work", "1s", 0))
		full("three wait again")
		cancel()
		if o := <-gone; !errors.Is(o.err, context.Canceled) {
			t.Errorf("who gave up: %v", o.err)
		}
		done = append(done, invoke(t.Context(), n, call("work", "1s", 0)))
		full("and again")
		for _, d := range done[1:] {
			if o := <-d; o.err != nil {
				t.Error(o.err)
			}
		}
		if got := f.calls(); len(got) != 5 || slices.Contains(got, "refused") {
			t.Errorf("executed %q", got)
		}
	})
}

func TestInvokeOfWhatIsNotThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, _ := calling(t, &callee{}, Config{})
		synctest.Wait()
		invoked := func(id wasmatrix.InstanceID) outcome {
			v := call("echo", "", 0)
			v.Instance = id
			return <-invoke(t.Context(), n, v)
		}
		invoked("never").want(t, "unknown", wasmatrix.CodeInstanceNotFound, "")
		execute(t, n, startOrder("moved", 1, spec()), startOrder("stopped", 1, spec()))
		synctest.Wait()
		execute(t, n, forgetOrder("moved", 1), stopOrder("stopped", 1))
		synctest.Wait()
		invoked("moved").want(t, "moved away", wasmatrix.CodeInstanceNotFound, "")
		invoked("stopped").want(t, "stopped", wasmatrix.CodeConflict, "")
		execute(t, n, stopOrder("here-only-to-stop", 1))
		synctest.Wait()
		invoked("here-only-to-stop").want(t, "a stop of what was not here", wasmatrix.CodeConflict, "")
		if o := invoked("i"); o.err != nil {
			t.Error(o.err)
		}
		for field, v := range map[string]wasmatrix.Invocation{
			"function": call("", "", 0), "timeout": call("echo", "", -1), "data": call("echo", strings.Repeat("x", wasmatrix.MaxInvokeData+1), 0),
		} {
			if e := wasmatrix.AsError((<-invoke(t.Context(), n, v)).err); e == nil || e.Details[wasmatrix.DetailField] != field {
				t.Errorf("%s: %v", field, e)
			}
		}
	})
}

// TestInvokeOfWhatHasEnded, whether or not the control plane knows yet.
func TestInvokeOfWhatHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &callee{}
		n, c := calling(t, f, Config{})
		synctest.Wait()
		c.set(func() { c.away = true })
		(<-invoke(t.Context(), n, call("trap", "", 0))).want(t, "trap", wasmatrix.CodeCrashDetected, wasmatrix.OutcomeUnknown)
		o := <-invoke(t.Context(), n, call("echo", "", 0))
		o.want(t, "before it is acknowledged", wasmatrix.CodeConflict, "")
		if e := wasmatrix.AsError(o.err); e.Details["status"] != "crashed" {
			t.Errorf("details %v", e.Details)
		}
		c.set(func() { c.away = false })
		time.Sleep(time.Minute)
		if len(held(n)) != 0 {
			t.Fatal("it is still held")
		}
		(<-invoke(t.Context(), n, call("echo", "", 0))).want(t, "afterwards", wasmatrix.CodeConflict, "")
		if got := f.calls(); len(got) != 1 {
			t.Errorf("executed %q", got)
		}
	})
}

func TestWhoWaitsLearnsThatAnInstanceIsOver(t *testing.T) {
	for _, tt := range []struct {
		name    string
		end     func(t *testing.T, n *Node)
		code    wasmatrix.Code
		outcome string
		under   wasmatrix.Code // what the call is told that is executed
	}{
		{"it is stopped", func(t *testing.T, n *Node) { execute(t, n, stopOrder("i", 1)) }, wasmatrix.CodeConflict, "", wasmatrix.CodeCommunication},
		{
			"it is forgotten", func(t *testing.T, n *Node) { execute(t, n, forgetOrder("i", 1)) },
			wasmatrix.CodeCommunication, wasmatrix.OutcomeNone, wasmatrix.CodeCommunication,
		},
		{"it has crashed", func(*testing.T, *Node) {}, wasmatrix.CodeConflict, "", wasmatrix.CodeTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := &callee{}
				n, _ := calling(t, f, Config{})
				executed := invoke(t.Context(), n, call("spin", "spin", 5*time.Second))
				synctest.Wait()
				waits := invoke(t.Context(), n, call("echo", "waits", time.Minute))
				synctest.Wait()
				tt.end(t, n)
				(<-waits).want(t, "who waits", tt.code, tt.outcome)
				(<-executed).want(t, "who does not", tt.under, wasmatrix.OutcomeUnknown)
				if got := f.calls(); !slices.Equal(got, []string{"spin"}) {
					t.Errorf("executed %q", got)
				}
			})
		})
	}
}

// TestCommandsTakeNoInvocations: also who came before that was known is told.
func TestCommandsTakeNoInvocations(t *testing.T) {
	bubble(t, func(t *testing.T) {
		loads := make(chan struct{})
		n := fakeNode(t, Config{Control: newControl(), guests: &guests{run: stay, kind: wasmatrix.ModuleCommand, err: func() error { <-loads; return nil }}})
		execute(t, n, startOrder("i", 1, spec()))
		early := invoke(t.Context(), n, call("echo", "", 0))
		synctest.Wait()
		close(loads)
		(<-early).want(t, "while it is loaded", wasmatrix.CodeValidation, "")
		(<-invoke(t.Context(), n, call("echo", "", 0))).want(t, "while it runs", wasmatrix.CodeValidation, "")
	})
}

// TestATimeoutWhileWaiting: nothing has happened, and nothing does afterwards.
func TestATimeoutWhileWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &callee{}
		n, _ := calling(t, f, Config{})
		long := invoke(t.Context(), n, call("work", "5m", wasmatrix.MaxInvokeTimeout))
		synctest.Wait()
		began := time.Now()
		for timeout, want := range map[time.Duration]time.Duration{time.Second: time.Second, 0: wasmatrix.DefaultInvokeTimeout} {
			o := <-invoke(t.Context(), n, call("echo", "late", timeout))
			o.want(t, timeout.String(), wasmatrix.CodeTimeout, wasmatrix.OutcomeNone)
			if d := o.at.Sub(began); d != want {
				t.Errorf("told after %s, want %s", d, want)
			}
			began = o.at
		}
		if o := <-long; o.err != nil {
			t.Error(o.err)
		}
		if got := f.calls(); !slices.Equal(got, []string{"5m"}) {
			t.Errorf("executed %q", got)
		}
	})
}

// TestWhoGivesUp before the call begins has called nothing; afterwards it goes on.
func TestWhoGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &callee{}
		n, c := calling(t, f, Config{})
		why := errors.New("no longer interested")
		hasty, giveUp := context.WithCancelCause(t.Context())
		executed := invoke(hasty, n, call("work", "10s", 0))
		synctest.Wait()
		waits := invoke(hasty, n, call("echo", "waits", 0))
		synctest.Wait()
		giveUp(why)
		if o := <-waits; !errors.Is(o.err, why) {
			t.Errorf("who waits: %v", o.err)
		}
		(<-executed).want(t, "who does not", wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown)
		if o := <-invoke(t.Context(), n, call("echo", "next", 0)); o.err != nil {
			t.Error(o.err)
		}
		if got := f.calls(); !slices.Equal(got, []string{"10s", "next"}) {
			t.Errorf("executed %q", got)
		}
		if i := c.instance("i"); i.Status != wasmatrix.StatusRunning || f.runs != 1 {
			t.Errorf("%s after %d executions", i.Status, f.runs)
		}
		// Before it was sent.
		if o := <-invoke(hasty, n, call("echo", "never", 0)); o.err == nil || slices.Contains(f.calls(), "never") {
			t.Errorf("%v, executed %q", o.err, f.calls())
		}
	})
}

// TestATakenCallBeginsOnlyWhileSomebodyWaits: the guest has it in its hand when the
// caller gives up, and asks.
func TestATakenCallBeginsOnlyWhileSomebodyWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		taken, ask, began := make(chan struct{}), make(chan struct{}), make(chan bool)
		n := fakeNode(t, Config{Control: newControl(), guests: &guests{kind: wasmatrix.ModuleReactor, run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			c := <-cfg.Calls
			close(taken)
			<-ask
			began <- c.Begin()
			return exitOK
		}}})
		execute(t, n, startOrder("i", 1, spec()))
		ctx, giveUp := context.WithCancel(t.Context())
		done := invoke(ctx, n, call("echo", "", 0))
		<-taken
		giveUp()
		if o := <-done; o.err == nil {
			t.Errorf("answered %+v", o)
		}
		close(ask)
		if <-began {
			t.Error("it began")
		}
	})
}
