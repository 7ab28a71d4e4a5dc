package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// kvOnly is a provider whose gets wait for as long as their context allows, if
// that is asked for.
type kvOnly struct {
	noProviders
	store
	updates  [][]wasmatrix.PlacedProvider
	hang     bool
	stubborn chan struct{} // not nil: what a call waits for after its context has ended
	scope    *capability.Scope
}

// store has the operations that no test here calls.
type store struct{ capability.KV }

func (k *kvOnly) Update(p []wasmatrix.PlacedProvider) { k.updates = append(k.updates, p) }

func (k *kvOnly) KV(_ context.Context, s *capability.Scope) (capability.KV, error) {
	k.scope = s
	return k, nil
}

func (k *kvOnly) Get(ctx context.Context, _ *capability.Scope, _ string) (capability.Entry, bool, error) {
	if !k.hang {
		return capability.Entry{Value: []byte("v"), Revision: 1}, true, nil
	}
	<-ctx.Done()
	if k.stubborn != nil {
		<-k.stubborn
	}
	return capability.Entry{}, false, ctx.Err()
}

// caller is a guest that gets a key whenever it is told to.
type caller struct {
	call   chan struct{}
	result chan error
}

func newCaller() *caller { return &caller{make(chan struct{}), make(chan error, 16)} }

func (c *caller) run(ctx context.Context, cfg engine.RunConfig) engine.Exit {
	cfg.OnRunning()
	for {
		select {
		case <-c.call:
			_, _, err := cfg.Capabilities.KVGet(ctx, "c", "k")
			c.result <- err
		case <-ctx.Done():
			return engine.Exit{Kind: engine.Cancelled}
		}
	}
}

// get has the guest call, and returns the code of what came of it.
func (c *caller) get() wasmatrix.Code {
	c.call <- struct{}{}
	return wasmatrix.CodeOf(<-c.result)
}

func grants(t testing.TB, id wasmatrix.InstanceID, epoch, index uint64, perms ...wasmatrix.Permission) *wasmatrix.GrantSet {
	t.Helper()
	s := &wasmatrix.GrantSet{Instance: id, Epoch: epoch, Incarnation: 3, Index: index}
	if len(perms) > 0 {
		a, err := wasmatrix.NewAssignment(id, "c", wasmatrix.Grant{Type: wasmatrix.ProviderKV, Permissions: perms})
		if err != nil {
			t.Fatal(err)
		}
		a.CreateIndex = index
		s.Assignments = append(s.Assignments, a)
	}
	return s
}

func startWith(g *wasmatrix.GrantSet) wasmatrix.Order {
	o := startOrder(g.Instance, g.Epoch, spec())
	o.Grants = g
	return o
}

func TestGuestsHaveWhatTheirOrderSays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, kv, g := newControl(), &kvOnly{}, newCaller()
		n := fakeNode(t, Config{Control: c, Providers: kv, guests: &guests{run: g.run}})
		execute(t, n, startWith(grants(t, "i", 1, 9, "kv:read")))
		synctest.Wait()
		if code := g.get(); code != "" {
			t.Fatalf("the call is %s", code)
		}
		if s := kv.scope; s.Instance != "i" || s.Epoch != 1 || s.Incarnation != 3 || s.Namespace != capability.OwnNamespace("i", 3) {
			t.Fatalf("the provider is told %+v", s)
		}
		if h := held(n)["i"]; h.GrantsIndex != 9 {
			t.Fatalf("the node says it holds %+v", h)
		}
		if u := n.Usage(false); u.Calls != 1 || u.Denials != 0 {
			t.Fatalf("usage is %+v", u)
		}
	})
}

// TestRevokedIsRevoked also has orders arrive late that say what was revoked.
func TestRevokedIsRevoked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, kv, g := newControl(), &kvOnly{hang: true}, newCaller()
		n := fakeNode(t, Config{Control: c, Providers: kv, guests: &guests{run: g.run}})
		execute(t, n, startWith(grants(t, "i", 1, 9, "kv:read")))
		synctest.Wait()
		g.call <- struct{}{} // hangs at the provider
		synctest.Wait()
		if err := n.SetGrants(t.Context(), 1, "boot-1", 12, []*wasmatrix.GrantSet{grants(t, "i", 1, 12)}); err != nil {
			t.Fatal(err)
		}
		if code := wasmatrix.CodeOf(<-g.result); code != wasmatrix.CodePermissionDenied {
			t.Fatalf("the call under way is %s", code)
		}
		if code := g.get(); code != wasmatrix.CodePermissionDenied {
			t.Fatalf("a later call is %s", code)
		}
		late := n.Execute(t.Context(), 1, "boot-1", 11, []wasmatrix.Order{startWith(grants(t, "j", 1, 9, "kv:read"))})
		if wasmatrix.CodeOf(late) != wasmatrix.CodeConflict || len(held(n)) != 1 {
			t.Fatalf("an order composed before the revocation is %v", late)
		}
		if err := n.SetGrants(t.Context(), 0, "boot-1", 13, nil); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
			t.Fatalf("grants of a leader that was succeeded: %v", err)
		}
		if err := n.SetGrants(t.Context(), 1, "boot-0", 13, nil); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
			t.Fatalf("grants for another process: %v", err)
		}
	})
}

// TestBuriedGuestsCallNoMore supersedes an epoch whose guest and provider take
// their time to end: it is denied at once, and grants are not acknowledged before
// its last call has ended.
func TestBuriedGuestsCallNoMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		kv, g := &kvOnly{hang: true, stubborn: make(chan struct{})}, newCaller()
		n := fakeNode(t, Config{Control: newControl(), Providers: kv, guests: &guests{run: g.run}})
		execute(t, n, startWith(grants(t, "i", 1, 9, "kv:read")))
		synctest.Wait()
		g.call <- struct{}{} // hangs at the provider, whatever its context says
		synctest.Wait()
		execute(t, n, forgetOrder("i", 1))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		set := []*wasmatrix.GrantSet{grants(t, "i", 2, 12)}
		if err := n.SetGrants(ctx, 1, "boot-1", 12, set); wasmatrix.CodeOf(err) != wasmatrix.CodeTimeout {
			t.Fatalf("with a call under way grants are answered with %v", err)
		}
		close(kv.stubborn)
		if err := n.SetGrants(t.Context(), 1, "boot-1", 12, set); err != nil {
			t.Fatal(err)
		}
		if code := wasmatrix.CodeOf(<-g.result); code != wasmatrix.CodePermissionDenied {
			t.Fatalf("the call is %s", code)
		}
		synctest.Wait()
		// One that is buried after its end is not waited for.
		for _, o := range []wasmatrix.Order{stopOrder("j", 1), forgetOrder("j", 1)} {
			if err := n.Execute(t.Context(), 1, "boot-1", 12, []wasmatrix.Order{o}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
	})
}

// TestNoCallsWithoutALease has the control plane go away and come back, while
// the guest runs on.
func TestNoCallsWithoutALease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, kv, g := newControl(), &kvOnly{}, newCaller()
		n := fakeNode(t, Config{Control: c, Providers: kv, guests: &guests{run: g.run}})
		execute(t, n, startWith(grants(t, "i", 1, 9, "kv:read")))
		synctest.Wait()
		c.set(func() { c.away = true })
		time.Sleep(time.Second)
		if code := g.get(); code != "" {
			t.Fatalf("within the lease a call is %s", code)
		}
		kv.hang = true
		g.call <- struct{}{}
		began := time.Now()
		if code := wasmatrix.CodeOf(<-g.result); code != wasmatrix.CodeProviderUnavailable {
			t.Fatalf("a call under way at the lease's end is %s", code)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Fatalf("it went on for %s", took)
		}
		if code := g.get(); code != wasmatrix.CodeProviderUnavailable {
			t.Fatalf("after the lease a call is %s", code)
		}
		if held(n)["i"].Status != wasmatrix.StatusRunning {
			t.Fatal("the guest does not run")
		}
		kv.hang = false
		c.set(func() { c.away = false })
		time.Sleep(2 * time.Second)
		if code := g.get(); code != "" {
			t.Fatalf("with a new lease a call is %s", code)
		}
	})
}

// TestDenialsBecomeKnown loses the first answer: the batch is sent again under
// its number.
func TestDenialsBecomeKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, g := newControl(), newCaller()
		lost := 0
		c.hook(func(verb string, _ []wasmatrix.Report) error {
			if verb == "denials" && lost < 2 {
				lost++
				return errBroken
			}
			return nil
		})
		n := fakeNode(t, Config{Control: c, Providers: &kvOnly{}, guests: &guests{run: g.run}})
		execute(t, n, startWith(grants(t, "i", 4, 9, "kv:write")))
		synctest.Wait()
		for range 3 {
			if code := g.get(); code != wasmatrix.CodePermissionDenied {
				t.Fatalf("the call is %s", code)
			}
		}
		time.Sleep(10 * time.Second)
		if code := g.get(); code != wasmatrix.CodePermissionDenied {
			t.Fatalf("the call is %s", code)
		}
		time.Sleep(10 * time.Second)
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.denials) != 2 || lost != 2 {
			t.Fatalf("%d batches have come", len(c.denials))
		}
		d := c.denials[1][0]
		if d.Count != 3 || d.Instance != "i" || d.Epoch != 4 || d.Capability != "c" || d.Operation != "kv.get" || d.Reason == "" || d.At == 0 {
			t.Fatalf("the denial is %+v", d)
		}
		if c.denials[2][0].Count != 1 {
			t.Fatalf("the second is %+v", c.denials[2][0])
		}
	})
}

func TestProvidersAreNotSetBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		kv := &kvOnly{}
		n := idleNode(t, Config{Control: newControl(), Providers: kv, guests: &guests{run: stay}})
		for _, index := range []uint64{5, 4, 7} {
			if err := n.SetProviders(t.Context(), 1, "boot-1", index, []wasmatrix.PlacedProvider{{Provider: &wasmatrix.Provider{Revision: index}}}); err != nil {
				t.Fatal(err)
			}
		}
		if len(kv.updates) != 2 || kv.updates[0][0].Revision != 5 || kv.updates[1][0].Revision != 7 {
			t.Fatalf("updates are %+v", kv.updates)
		}
	})
}
