package node

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// TestWhoIsToldOfACrashFindsIt: when the answer comes the control plane has the
// report, however long that takes within a second, and does not say running.
func TestWhoIsToldOfACrashFindsIt(t *testing.T) {
	slow := wasmatrix.Backoff{Initial: time.Hour, Multiplier: 1, Max: time.Hour}
	for _, tt := range []struct {
		function string
		policy   func(*wasmatrix.Spec)
		code     wasmatrix.Code
		kind     string
		status   wasmatrix.Status
	}{
		{"trap", restart(wasmatrix.RestartNever, 0, slow), wasmatrix.CodeCrashDetected, "trap", wasmatrix.StatusCrashed},
		{"trap", restart(wasmatrix.RestartAlways, 0, slow), wasmatrix.CodeCrashDetected, "trap", wasmatrix.StatusBackoff},
		{"trap", restart(wasmatrix.RestartOnFailure, 3, slow), wasmatrix.CodeCrashDetected, "trap", wasmatrix.StatusBackoff},
		{"spin", restart(wasmatrix.RestartNever, 0, slow), wasmatrix.CodeTimeout, "deadline", wasmatrix.StatusCrashed},
		{"spin", restart(wasmatrix.RestartAlways, 0, slow), wasmatrix.CodeTimeout, "deadline", wasmatrix.StatusBackoff},
		{"exit", restart(wasmatrix.RestartNever, 0, slow), wasmatrix.CodeCrashDetected, "ok", wasmatrix.StatusStopped},
		{"exit", restart(wasmatrix.RestartOnFailure, 0, slow), wasmatrix.CodeCrashDetected, "ok", wasmatrix.StatusStopped},
		{"exit", restart(wasmatrix.RestartAlways, 0, slow), wasmatrix.CodeCrashDetected, "ok", wasmatrix.StatusBackoff},
	} {
		for _, delay := range []time.Duration{0, 700 * time.Millisecond} {
			t.Run(tt.function, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					n, c := calling(t, &callee{}, Config{}, tt.policy)
					synctest.Wait()
					c.hook(func(verb string, _ []wasmatrix.Report) error {
						if verb == "report" {
							time.Sleep(delay)
						}
						return nil
					})
					began := time.Now()
					o := <-invoke(t.Context(), n, call(tt.function, "", 5*time.Second))
					now := c.instance("i").Status
					o.want(t, tt.function, tt.code, wasmatrix.OutcomeUnknown)
					if now != tt.status {
						t.Errorf("the control plane says %s, want %s", now, tt.status)
					}
					if e := wasmatrix.AsError(o.err); e.Details["kind"] != tt.kind || e.Details["instance"] != "i" || e.Details["node"] != "n1" {
						t.Errorf("details %v", e.Details)
					}
					if tt.function == "spin" {
						delay += 5 * time.Second
					}
					if d := o.at.Sub(began); d != toEnd+delay {
						t.Errorf("told after %s, want %s", d, toEnd+delay)
					}
				})
			})
		}
	}
}

// TestNobodyIsToldOfACrashBeforeItIsStated: of many, none finds what seems to run.
func TestNobodyIsToldOfACrashBeforeItIsStated(t *testing.T) {
	for _, mode := range []wasmatrix.RestartMode{wasmatrix.RestartNever, wasmatrix.RestartAlways} {
		t.Run(mode.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newControl()
				n := fakeNode(t, Config{Control: c, guests: &guests{run: (&callee{}).run, kind: wasmatrix.ModuleReactor}})
				var wg sync.WaitGroup
				for i := range 200 {
					id := wasmatrix.InstanceID(fmt.Sprint("i", i))
					execute(t, n, startOrder(id, 1, spec(restart(mode, 0, wasmatrix.Backoff{Initial: time.Hour, Multiplier: 1, Max: time.Hour}))))
					wg.Go(func() {
						v := call("trap", "", 0)
						v.Instance = id
						_, err := n.Invoke(t.Context(), v)
						if status := c.instance(id).Status; wasmatrix.CodeOf(err) != wasmatrix.CodeCrashDetected || status == wasmatrix.StatusRunning {
							t.Errorf("told %v, and it is %s", err, status)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// TestWhoIsToldOfACrashDoesNotWaitForEver while nobody can be told of it.
func TestWhoIsToldOfACrashDoesNotWaitForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, c := calling(t, &callee{}, Config{})
		synctest.Wait()
		c.set(func() { c.away = true })
		began := time.Now()
		o := <-invoke(t.Context(), n, call("trap", "", 0))
		o.want(t, "trap", wasmatrix.CodeCrashDetected, wasmatrix.OutcomeUnknown)
		if d := o.at.Sub(began); d != toEnd+reportWait {
			t.Errorf("told after %s, want %s", d, toEnd+reportWait)
		}
	})
}

// TestAllWhoWaitForACrashAreTold at once, when it is acknowledged: one was
// executed, the others were not begun.
func TestAllWhoWaitForACrashAreTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &callee{}
		n, c := calling(t, f, Config{})
		synctest.Wait()
		var seen []wasmatrix.Status
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				o := <-invoke(t.Context(), n, call("trap", "", 0))
				status := c.instance("i").Status
				mu.Lock()
				defer mu.Unlock()
				if e := wasmatrix.AsError(o.err); e == nil || e.Code != wasmatrix.CodeConflict && e.Code != wasmatrix.CodeCrashDetected {
					t.Errorf("call %d: %v", i, o.err)
				} else if e.Code == wasmatrix.CodeCrashDetected {
					seen = append(seen, status)
				}
			})
		}
		wg.Wait()
		if len(seen) != 1 || seen[0] != wasmatrix.StatusCrashed || len(f.calls()) != 1 {
			t.Errorf("those who were told of a crash saw %v, executed %q", seen, f.calls())
		}
	})
}
