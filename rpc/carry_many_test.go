package rpc_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// TestManyCalls has 10,000 calls under way, more than one stream takes.
func TestManyCalls(t *testing.T) {
	host := newFakeHost()
	var now, most atomic.Int64
	_, carrier := carryCluster(t, &countingHost{host, &now, &most})
	const calls = 10_000
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range calls {
		wg.Go(func() {
			<-start
			key := fmt.Sprint("key", i%500)
			value := []byte(fmt.Sprint("value", i%500))
			if _, err := carrier.KV().Set(t.Context(), scopeOf("i"), key, value, capability.SetOptions{}); err != nil {
				t.Errorf("set %d: %v", i, err)
				return
			}
			if e, found, err := carrier.KV().Get(t.Context(), scopeOf("i"), key); err != nil || !found || string(e.Value) != string(value) {
				t.Errorf("get %d: %q, %t, %v", i, e.Value, found, err)
			}
		})
	}
	close(start)
	wg.Wait()
	if n := most.Load(); n > wire.MaxCarried || n == 0 {
		t.Errorf("%d calls were under way, at most %d may be", n, wire.MaxCarried)
	}
	// Those that wait for their turn can be given up, without a loss to others.
	ctx, cancel := context.WithCancel(t.Context())
	var blocked sync.WaitGroup
	for range 2 * wire.MaxCarried {
		blocked.Go(func() {
			if _, _, err := carrier.KV().Get(ctx, scopeOf("i"), "block"); err == nil {
				t.Error("a blocked call succeeded")
			}
		})
	}
	if err := host.await(wait(t), wire.MaxCarried); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, _, err := carrier.KV().Get(t.Context(), scopeOf("i"), "key1")
		waiting <- err
	}()
	cancel()
	blocked.Wait()
	select {
	case err := <-waiting:
		if err != nil {
			t.Error(err)
		}
	case <-wait(t).Done():
		t.Error("a call waits for a turn that was given to one that had gone")
	}
	// Exchanges and subscriptions have a bound of their own.
	var open []capability.Subscription
	for range wire.MaxCarried + 100 {
		sub, err := carrier.Messaging().Subscribe(t.Context(), scopeOf("i"), "t", "")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, sub)
	}
	for _, sub := range open {
		if err := sub.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// countingHost counts the calls that are under way.
type countingHost struct {
	*fakeHost
	now, most *atomic.Int64
}

func (h *countingHost) Admit(ctx context.Context, s *capability.Scope) (*capability.Scope, error) {
	n := h.now.Add(1)
	defer h.now.Add(-1)
	for old := h.most.Load(); n > old && !h.most.CompareAndSwap(old, n); old = h.most.Load() {
	}
	time.Sleep(time.Millisecond) // so that they meet
	return h.fakeHost.Admit(ctx, s)
}

// TestPromptReadsHoldNothingUp: one that has to wait after all does so beside the
// others, and is cancelled as they are.
func TestPromptReadsHoldNothingUp(t *testing.T) {
	host := newFakeHost()
	_, carrier := carryCluster(t, host, func(cfg *rpc.Config) { cfg.PromptReads = true })
	if _, err := carrier.KV().Set(t.Context(), scopeOf("i"), "k", []byte("v"), capability.SetOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	blocked := make(chan error, 1)
	go func() {
		_, _, err := carrier.KV().Get(ctx, scopeOf("i"), "block")
		blocked <- err
	}()
	if err := host.await(wait(t), 1); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		key  string
		code wasmatrix.Code
	}{"what is there": {"k", ""}, "what fails": {"fail/CONFLICT", wasmatrix.CodeConflict}, "what panics": {"fail/panic", wasmatrix.CodeInternal}} {
		e, found, err := carrier.KV().Get(t.Context(), scopeOf("i"), tt.key)
		if tt.code == "" && (err != nil || !found || string(e.Value) != "v") {
			t.Errorf("%s: %q, %t, %v", what, e.Value, found, err)
		} else if tt.code != "" {
			wantCode(t, what, err, tt.code, "")
		}
	}
	cancel()
	wantCode(t, "what waits", <-blocked, wasmatrix.CodeTimeout, wasmatrix.OutcomeNone)
	if err := host.await(wait(t), 0); err != nil {
		t.Error(err)
	}
}

// TestWhoReceivesChanges: callers that are alone receive for themselves, and others
// must not be left without anybody who does, whoever comes, is cancelled or goes.
func TestWhoReceivesChanges(t *testing.T) {
	for _, prompt := range []bool{false, true} {
		t.Run(fmt.Sprintf("prompt %t", prompt), func(t *testing.T) {
			host := newFakeHost()
			_, carrier := carryCluster(t, host, func(cfg *rpc.Config) { cfg.PromptReads = prompt })
			if _, err := carrier.KV().Set(t.Context(), scopeOf("i"), "k", []byte("v"), capability.SetOptions{}); err != nil {
				t.Fatal(err)
			}
			get := func() {
				if e, found, err := carrier.KV().Get(wait(t), scopeOf("i"), "k"); err != nil || !found || string(e.Value) != "v" {
					t.Errorf("get: %q, %t, %v", e.Value, found, err)
				}
			}
			cancelled := func(after time.Duration) {
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				_, _, err := carrier.KV().Get(ctx, scopeOf("i"), "block")
				wantCode(t, "a call that was cancelled", err, wasmatrix.CodeTimeout, "")
			}
			subscribed := func() {
				sub, err := carrier.Messaging().Subscribe(wait(t), scopeOf("i"), "t", "")
				if err == nil {
					err = carrier.Messaging().Publish(wait(t), scopeOf("i"), "t", []byte("m"))
				}
				if err == nil {
					_, err = sub.Receive(wait(t))
				}
				if err == nil {
					err = sub.Close()
				}
				if err != nil {
					t.Errorf("subscription: %v", err)
				}
			}
			rapid.Check(t, func(rt *rapid.T) {
				var wg sync.WaitGroup
				for range rapid.IntRange(1, 4).Draw(rt, "callers") {
					steps := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 20).Draw(rt, "steps")
					wg.Go(func() {
						for _, step := range steps {
							switch step {
							case 0:
								cancelled(time.Duration(len(steps)) * 50 * time.Microsecond)
							case 1:
								cancelled(0)
							case 2:
								subscribed()
							case 3:
								time.Sleep(100 * time.Microsecond)
							default:
								get()
							}
						}
					})
				}
				wg.Wait()
				if t.Failed() {
					rt.FailNow()
				}
			})
			if err := host.await(wait(t), 0); err != nil {
				t.Error(err)
			}
		})
	}
}
