package kv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv"
	"github.com/wasmatrix/wasmatrix/capability/kv/kvtest"
)

// cluster is servers over one store, of which one leads and some fail.
type cluster struct {
	inner capability.KV

	mu     sync.Mutex
	addrs  []string
	leader string
	calls  []string // addresses, in the order in which they were called
	// before and after stand around a call: an error of before keeps it from being
	// made, one of after hides what came of it.
	before, after func(ctx context.Context, addr string, call int) error
}

func (c *cluster) Dial(addr string) capability.KV { return &fakeServer{c, addr} }

func (c *cluster) servers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.addrs)
}

func (c *cluster) setLeader(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = addr
}

func (c *cluster) called() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

func newFakes(inner capability.KV) *cluster {
	return &cluster{inner: inner, addrs: []string{"a:1", "b:1", "c:1"}, leader: "b:1"}
}

type fakeServer struct {
	c    *cluster
	addr string
}

func serve[T any](ctx context.Context, f *fakeServer, s *capability.Scope, write bool, do func() (T, error)) (T, error) {
	var zero T
	c := f.c
	c.mu.Lock()
	c.calls = append(c.calls, f.addr)
	n, leader, before, after := len(c.calls), c.leader, c.before, c.after
	c.mu.Unlock()
	if before != nil {
		if err := before(ctx, f.addr, n); err != nil {
			return zero, err
		}
	}
	if write || !s.Stale {
		switch {
		case leader == "":
			return zero, wasmatrix.Errorf(wasmatrix.CodeNoLeader, "electing").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
		case leader != f.addr:
			return zero, wasmatrix.Errorf(wasmatrix.CodeNotLeader, "%s leads", leader).With(wasmatrix.DetailLeader, leader).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
		}
	}
	v, err := do()
	if after != nil {
		if err := after(ctx, f.addr, n); err != nil {
			return zero, err
		}
	}
	return v, err
}

func (f *fakeServer) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	var ok bool
	e, err := serve(ctx, f, s, false, func() (e capability.Entry, err error) {
		e, ok, err = f.c.inner.Get(ctx, s, key)
		return e, err
	})
	return e, ok && err == nil, err
}

func (f *fakeServer) List(ctx context.Context, s *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	return serve(ctx, f, s, false, func() (capability.Page, error) { return f.c.inner.List(ctx, s, q) })
}

func (f *fakeServer) Set(ctx context.Context, s *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	return serve(ctx, f, s, true, func() (uint64, error) { return f.c.inner.Set(ctx, s, key, value, o) })
}

func (f *fakeServer) Delete(ctx context.Context, s *capability.Scope, key string, id capability.WriteID) (bool, error) {
	return serve(ctx, f, s, true, func() (bool, error) { return f.c.inner.Delete(ctx, s, key, id) })
}

func lost(what string) error {
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "%s", what)
}

func newClient(c *cluster) *kv.Client {
	return kv.NewClient(kv.ClientConfig{Dialer: c, Servers: c.servers})
}

func TestClientKeepsTheContract(t *testing.T) {
	kvtest.Run(t, func(t *testing.T, conf wasmatrix.KVConfig) capability.KV {
		return newClient(newFakes(newLone(t, conf)))
	})
}

// TestClientOverFailingServersKeepsTheContract: calls are lost on their way,
// answers on their way back, and the leader changes.
func TestClientOverFailingServersKeepsTheContract(t *testing.T) {
	kvtest.Run(t, func(t *testing.T, conf wasmatrix.KVConfig) capability.KV {
		c := newFakes(newLone(t, conf))
		c.before = func(_ context.Context, _ string, n int) error {
			if n%50 == 0 {
				c.setLeader(c.addrs[n/50%len(c.addrs)])
			}
			if n%7 == 3 {
				return lost("the request was lost")
			}
			return nil
		}
		c.after = func(_ context.Context, _ string, n int) error {
			if n%5 == 1 {
				return lost("the answer was lost")
			}
			return nil
		}
		return newClient(c)
	})
}

// inBubble runs a test whose time is its own. The server under the client clears
// nothing up there.
func inBubble(t *testing.T, f func(t *testing.T, c *cluster, client *kv.Client)) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakes(newLone(t, defaults(t)))
		f(t, c, newClient(c))
	})
}

func set(ctx context.Context, client capability.KV, key string) (uint64, error) {
	return client.Set(ctx, kvtest.Scope("i"), key, []byte("v"), capability.SetOptions{})
}

func wantError(t *testing.T, err error, code wasmatrix.Code, outcome string) {
	t.Helper()
	if wasmatrix.CodeOf(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	if got := wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome]; got != outcome {
		t.Fatalf("%v has outcome %q, want %q", err, got, outcome)
	}
}

func TestClientFollowsTheLeader(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
		for n := range 5 {
			if _, err := set(t.Context(), client, fmt.Sprint(n)); err != nil {
				t.Fatal(err)
			}
		}
		calls := c.called()
		if len(calls) > 6 || slices.ContainsFunc(calls[1:], func(a string) bool { return a != "b:1" }) {
			t.Errorf("5 writes were sent to %q", calls)
		}
		c.setLeader("c:1")
		if _, err := set(t.Context(), client, "x"); err != nil {
			t.Fatal(err)
		}
		if got := c.called()[len(calls):]; !slices.Equal(got, []string{"b:1", "c:1"}) {
			t.Errorf("after a change of the leader a write was sent to %q", got)
		}
		c.mu.Lock()
		c.before = func(_ context.Context, addr string, _ int) error {
			if addr == "c:1" {
				return lost("connection refused")
			}
			return nil
		}
		c.mu.Unlock()
		c.setLeader("a:1")
		before := time.Now()
		if _, err := set(t.Context(), client, "y"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(before); took > 100*time.Millisecond {
			t.Errorf("a write that met a dead leader took %s", took)
		}
	})
}

func TestClientWaitsForAnElection(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
		c.setLeader("")
		time.AfterFunc(3*time.Second, func() { c.setLeader("a:1") })
		began := time.Now()
		if _, err := set(t.Context(), client, "x"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
		if n := len(c.called()); n > 100 {
			t.Errorf("%d calls were made in 3 s", n)
		}
	})
}

// While the others still name a leader that is gone, it is not asked at every turn.
func TestClientDoubtsALostLeader(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
		c.before = func(ctx context.Context, addr string, _ int) error {
			if addr == "b:1" { // stopped, not dead
				<-ctx.Done()
				return wasmatrix.Errorf(wasmatrix.CodeTimeout, "no answer: %w", ctx.Err())
			}
			return nil
		}
		time.AfterFunc(2500*time.Millisecond, func() { c.setLeader("a:1") })
		began := time.Now()
		if _, err := set(t.Context(), client, "x"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3500*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

func TestClientSaysWhatMayHaveHappened(t *testing.T) {
	scope := kvtest.Scope("i")
	for name, one := range map[string]struct {
		change  func(*cluster)
		code    wasmatrix.Code
		outcome string
		took    time.Duration
	}{
		"no leader":  {func(c *cluster) { c.leader = "" }, wasmatrix.CodeTimeout, wasmatrix.OutcomeNone, 10 * time.Second},
		"no servers": {func(c *cluster) { c.addrs = nil }, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone, 10 * time.Second},
		"all dead": {func(c *cluster) {
			c.before = func(context.Context, string, int) error { return lost("connection refused") }
		}, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeUnknown, 10 * time.Second},
		"known to be undone": {func(c *cluster) {
			c.before = func(context.Context, string, int) error {
				return wasmatrix.AsError(lost("connection refused")).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
			}
		}, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone, 10 * time.Second},
		"answers lost": {func(c *cluster) {
			c.after = func(context.Context, string, int) error { return lost("reset") }
		}, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown, 10 * time.Second},
		"disk full": {func(c *cluster) {
			c.after = func(context.Context, string, int) error { return wasmatrix.Errorf(wasmatrix.CodeStorage, "disk full") }
		}, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown, 10 * time.Second},
		"refused after doubt": {func(c *cluster) {
			c.before = func(_ context.Context, _ string, n int) error {
				if n == 1 {
					return lost("reset")
				}
				return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "the capability was revoked")
			}
		}, wasmatrix.CodePermissionDenied, wasmatrix.OutcomeUnknown, 50 * time.Millisecond},
		"stopped": {func(c *cluster) {
			c.before = func(context.Context, string, int) error {
				return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the provider is stopped").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
			}
		}, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone, time.Second},
		"busy": {func(c *cluster) {
			c.before = func(context.Context, string, int) error {
				return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "too many commands wait").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
			}
		}, wasmatrix.CodeResourceExhausted, wasmatrix.OutcomeNone, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
				one.change(c)
				began := time.Now()
				_, err := client.Set(t.Context(), scope, "a", nil, capability.SetOptions{})
				wantError(t, err, one.code, one.outcome)
				if took := time.Since(began); took > one.took {
					t.Errorf("it took %s", took)
				}
				// A read has no effect, whatever became of it.
				if _, _, err := client.Get(t.Context(), scope, "a"); err == nil || wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown {
					t.Errorf("a read: %v", err)
				}
			})
		})
	}
}

// A write is sent again only for as long as the store remembers it for certain.
func TestClientGivesAWriteUpInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
		c.after = func(context.Context, string, int) error { return lost("reset") }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		_, err := set(ctx, client, "a")
		wantError(t, err, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown)
		if took := time.Since(began); took < 14*time.Second || took > 17*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestClientDrawsIDs(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
		c.after = func(_ context.Context, _ string, n int) error {
			if n%2 == 1 {
				return nil
			}
			return lost("the answer was lost")
		}
		scope := kvtest.Scope("i")
		last := uint64(0)
		for range 10 {
			// Without an ID, what has been swapped would be taken for a conflict, and
			// what has been deleted for nothing, when it comes again.
			r, err := client.Set(t.Context(), scope, "a", nil, capability.SetOptions{Expect: new(uint64)})
			if err != nil || r <= last {
				t.Fatalf("revision %d, %v", r, err)
			}
			last, err = client.Set(t.Context(), scope, "a", nil, capability.SetOptions{Expect: &r})
			if err != nil {
				t.Fatal(err)
			}
			if existed, err := client.Delete(t.Context(), scope, "a", capability.WriteID{}); err != nil || !existed {
				t.Fatalf("deleted: %v, %v", existed, err)
			}
		}
	})
}

func TestClientStopsWithTheLease(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
		c.setLeader("")
		until := time.Now().Add(time.Second)
		scope := kvtest.With(kvtest.Scope("i"), func(s *capability.Scope) {
			s.Alive = func() bool { return time.Now().Before(until) }
		})
		began := time.Now()
		_, err := client.Set(t.Context(), scope, "a", nil, capability.SetOptions{})
		wantError(t, err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

func TestClientEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
		c.before = func(ctx context.Context, _ string, _ int) error {
			<-ctx.Done()
			return wasmatrix.Errorf(wasmatrix.CodeTimeout, "no answer: %w", ctx.Err())
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err := set(ctx, client, "a")
		wantError(t, err, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown)
		if took := time.Since(began); took > 1100*time.Millisecond || !errors.Is(err, context.Canceled) {
			t.Errorf("it took %s: %v", took, err)
		}
	})
}

func TestStaleReadsStayWhereTheyAreQuick(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, client *kv.Client) {
		if _, err := set(t.Context(), client, "a"); err != nil {
			t.Fatal(err)
		}
		scope := kvtest.With(kvtest.Scope("i"), func(s *capability.Scope) { s.Stale = true })
		read := func(n int) []string {
			t.Helper()
			before := len(c.called())
			for range n {
				if _, ok, err := client.Get(t.Context(), scope, "a"); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			return c.called()[before:]
		}
		c.setLeader("") // they need none
		calls := read(6)
		if len(calls) != 6 || slices.ContainsFunc(calls, func(a string) bool { return a != calls[0] }) {
			t.Errorf("6 stale reads went to %q", calls)
		}
		first := calls[0]
		c.mu.Lock()
		c.before = func(ctx context.Context, addr string, _ int) error {
			if addr == first {
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			return nil
		}
		c.mu.Unlock()
		calls = read(8)
		if slow := len(slices.DeleteFunc(slices.Clone(calls), func(a string) bool { return a != first })); slow > 2 {
			t.Errorf("a slow server was asked %d times of %q", slow, calls)
		}
		second := calls[len(calls)-1]
		c.mu.Lock()
		c.before = func(_ context.Context, addr string, _ int) error {
			if addr == second {
				return lost("connection refused")
			}
			return nil
		}
		c.mu.Unlock()
		if got := strings.Join(read(5), " "); strings.Count(got, second) > 1 {
			t.Errorf("after %s died reads went to %q", second, got)
		}
	})
}
