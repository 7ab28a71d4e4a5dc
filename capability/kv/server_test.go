package kv_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv"
	"github.com/wasmatrix/wasmatrix/capability/kv/kvtest"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
)

// records is a state of the control plane that has only instances.
type records struct {
	wasmatrix.Snapshot
	index     uint64
	instances map[wasmatrix.InstanceID]uint64 // to the index that created the record
}

func (r *records) Index() uint64 { return r.index }

func (r *records) Instance(id wasmatrix.InstanceID) (*wasmatrix.Instance, bool) {
	created, ok := r.instances[id]
	return &wasmatrix.Instance{ID: id, CreateIndex: created}, ok
}

func owned(id wasmatrix.InstanceID, incarnation uint64) *capability.Scope {
	return kvtest.With(kvtest.Scope(id), func(s *capability.Scope) {
		s.Incarnation, s.Namespace, s.Exclusive = incarnation, capability.OwnNamespace(id, incarnation), true
	})
}

// TestWhatIsOfNoInstanceIsCollected, and only that: not of a record that the state
// here has not come to, nor what is shared.
func TestWhatIsOfNoInstanceIsCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var state atomic.Pointer[records]
		state.Store(&records{index: 50, instances: map[wasmatrix.InstanceID]uint64{"lives": 10, "renewed": 30}})
		server := newLone(t, defaults(t), func(c *kv.ServerConfig) {
			c.State = func() wasmatrix.Snapshot { return state.Load() }
		})
		write := func(s *capability.Scope, n int) {
			t.Helper()
			for i := range n {
				if _, err := server.Set(t.Context(), s, fmt.Sprint(i), []byte("v"), capability.SetOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(owned("lives", 10), 1)
		write(owned("renewed", 20), 1) // of the record before
		write(owned("renewed", 30), 1)
		write(owned("gone", 40), 2500) // more than one command drops
		write(owned("coming", 50), 1)  // its entry may not be wholly applied here
		write(owned("unheard", 60), 1)
		write(kvtest.With(owned("gone", 40), func(s *capability.Scope) { s.Namespace = capability.SharedPrefix + "x" }), 1)
		write(kvtest.With(owned("lives", 10), func(s *capability.Scope) { s.Namespace = "own/odd" }), 1)
		write(kvtest.With(owned("gone", 40), func(s *capability.Scope) { s.Provider = "other" }), 1)

		left := func() (names []string, fences []store.Fence) {
			for _, n := range server.Store.Namespaces(store.Namespace{}, 100) {
				names = append(names, n.Name)
			}
			return names, server.Store.Fences(store.Fence{}, 100)
		}
		time.Sleep(9 * time.Second)
		if names, _ := left(); len(names) != 9 {
			t.Fatalf("before it is time, there are %q", names)
		}
		time.Sleep(2 * time.Second)
		names, fences := left()
		if want := []string{"own/coming/50", "own/lives/10", "own/odd", "own/renewed/30", "own/unheard/60", "shared/x"}; !slices.Equal(names, want) {
			t.Errorf("left are %q, want %q", names, want)
		}
		want := []store.Fence{{Instance: "coming", Incarnation: 50, Epoch: 1}, {Instance: "lives", Incarnation: 10, Epoch: 1}, {Instance: "renewed", Incarnation: 30, Epoch: 1}, {Instance: "unheard", Incarnation: 60, Epoch: 1}}
		if !slices.Equal(fences, want) {
			t.Errorf("fences left: %v, want %v", fences, want)
		}
		state.Store(&records{index: 70, instances: map[wasmatrix.InstanceID]uint64{"unheard": 60}})
		time.Sleep(11 * time.Second)
		if names, _ = left(); !slices.Equal(names, []string{"own/odd", "own/unheard/60", "shared/x"}) {
			t.Errorf("left are %q", names)
		}
	})
}

// TestTimeGoesOnWithoutCalls: what runs out is removed by itself, and nearly at once.
func TestTimeGoesOnWithoutCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newLone(t, defaults(t))
		scope := kvtest.Scope("i")
		for n := range 3000 {
			if _, err := server.Set(t.Context(), scope, fmt.Sprint(n), nil, capability.SetOptions{TTL: 10 * time.Second}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := server.Set(t.Context(), scope, "soon", nil, capability.SetOptions{TTL: time.Second}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second - time.Millisecond)
		if got := server.Store.Stats().Entries; got != 3001 {
			t.Errorf("%d entries", got)
		}
		time.Sleep(60 * time.Millisecond)
		if got := server.Store.Stats().Entries; got != 3000 {
			t.Errorf("%d entries after a second", got)
		}
		time.Sleep(9 * time.Second)
		if got := server.Store.Stats().Entries; got != 0 {
			t.Errorf("%d entries after ten seconds", got)
		}
	})
}

// brokenGroup fails until it is mended.
type brokenGroup struct {
	kv.Group
	broken atomic.Bool
	calls  atomic.Int64
}

func (g *brokenGroup) Propose(ctx context.Context, command []byte) (any, error) {
	g.calls.Add(1)
	if g.broken.Load() {
		return nil, wasmatrix.Errorf(wasmatrix.CodeNoLeader, "no leader")
	}
	return g.Group.Propose(ctx, command)
}

func TestClearingUpIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &brokenGroup{}
		server := newLone(t, defaults(t), func(c *kv.ServerConfig) {
			g.Group, c.Group = c.Group, g
		})
		if _, err := server.Set(t.Context(), kvtest.Scope("i"), "a", nil, capability.SetOptions{TTL: time.Second}); err != nil {
			t.Fatal(err)
		}
		g.broken.Store(true)
		time.Sleep(10 * time.Second)
		if n := g.calls.Load(); n < 5 || n > 20 {
			t.Errorf("%d calls in 10 s of a group without a leader", n)
		}
		g.broken.Store(false)
		time.Sleep(2 * time.Second)
		if got := server.Store.Stats().Entries; got != 0 {
			t.Errorf("%d entries are left", got)
		}
	})
}

func TestFence(t *testing.T) {
	server := newLone(t, defaults(t))
	old := owned("i", 7)
	if _, err := server.Set(t.Context(), old, "a", []byte("v"), capability.SetOptions{}); err != nil {
		t.Fatal(err)
	}
	// The leader fences before the new epoch makes a call.
	fences := make([]store.Fence, 10_000) // more than one command raises
	for n := range fences {
		fences[n] = store.Fence{Instance: wasmatrix.InstanceID(fmt.Sprint(n)), Incarnation: 1, Epoch: 2}
	}
	fences[9_999] = store.Fence{Instance: "i", Incarnation: 7, Epoch: 2}
	got, err := server.Fence(t.Context(), fences)
	if err != nil || !slices.Equal(got, fences) {
		t.Fatalf("%d in force, %v", len(got), err)
	}
	for _, stale := range []bool{false, true} {
		scope := kvtest.With(old, func(s *capability.Scope) { s.Stale = stale })
		if _, _, err := server.Get(t.Context(), scope, "a"); wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
			t.Errorf("stale %v: %v", stale, err)
		}
	}
	got, err = server.Fence(t.Context(), []store.Fence{{Instance: "i", Incarnation: 7, Epoch: 1}})
	if err != nil || len(got) != 1 || got[0].Epoch != 2 {
		t.Errorf("a lower fence: %v, %v", got, err)
	}
	if _, err := server.Set(t.Context(), kvtest.With(old, func(s *capability.Scope) { s.Epoch = 2 }), "a", nil, capability.SetOptions{}); err != nil {
		t.Errorf("the epoch that it is fenced to: %v", err)
	}
}

// TestUnknownProviders sees that the configuration is asked for before anything
// is written.
func TestUnknownProviders(t *testing.T) {
	server := newLone(t, defaults(t), func(c *kv.ServerConfig) {
		c.Provider = func(wasmatrix.ProviderID) (wasmatrix.KVConfig, error) {
			return wasmatrix.KVConfig{}, wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "no such provider")
		}
	})
	_, err := server.Set(t.Context(), kvtest.Scope("i"), "a", nil, capability.SetOptions{})
	wantError(t, err, wasmatrix.CodeCapabilityNotFound, "")
}

func TestTheStoreIsBounded(t *testing.T) {
	server := newLone(t, defaults(t), func(c *kv.ServerConfig) { c.MaxBytes = 1000 })
	for n, want := range []wasmatrix.Code{"", "", "", wasmatrix.CodeResourceExhausted} {
		_, err := server.Set(t.Context(), kvtest.Scope(wasmatrix.InstanceID(fmt.Sprint(n))), "a", make([]byte, 150), capability.SetOptions{})
		if wasmatrix.CodeOf(err) != want {
			t.Errorf("instance %d: %v", n, err)
		}
	}
}

func TestDetailIsThatOfTheContract(t *testing.T) {
	if store.DetailRevision != capability.DetailRevision {
		t.Error("the store's conflicts name the revision elsewhere than the contract says")
	}
}

func TestStaleReadsTakeNoMemory(t *testing.T) {
	server := newLone(t, defaults(t))
	scope := kvtest.With(kvtest.Scope("i"), func(s *capability.Scope) { s.Stale = true })
	if _, err := server.Set(t.Context(), scope, "a", []byte("v"), capability.SetOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok, err := server.Get(ctx, scope, "a"); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkServerStaleGet(b *testing.B) {
	server := newLone(b, defaults(b))
	scope := kvtest.With(kvtest.Scope("i"), func(s *capability.Scope) { s.Stale = true })
	keys := make([]string, 10_000)
	for n := range keys {
		keys[n] = fmt.Sprintf("users/%08d", n)
		if _, err := server.Set(b.Context(), scope, keys[n], []byte("value"), capability.SetOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for n := 0; p.Next(); n++ {
			if _, ok, err := server.Get(context.Background(), scope, keys[n%len(keys)]); !ok || err != nil {
				b.Error(ok, err)
			}
		}
	})
}
