package dispatch_test

import (
	"errors"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// known returns how many lists of providers a node was given, and the last.
func (p *process) known() (int, map[wasmatrix.ProviderID]wasmatrix.PlacedProvider) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := map[wasmatrix.ProviderID]wasmatrix.PlacedProvider{}
	if n := len(p.providers); n > 0 {
		for _, one := range p.providers[n-1] {
			last[one.ID] = one
		}
	}
	return len(p.providers), last
}

func TestProvidersArePushedOncePerChange(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		before := make(map[wasmatrix.NodeID]int)
		// pushes sees that each node was told so many more times, or once more for
		// every change in between that was seen by itself.
		pushes := func(want, between int) {
			t.Helper()
			time.Sleep(10 * time.Second)
			for _, p := range nodes {
				n, _ := p.known()
				if more := n - before[p.node]; more < want || more > want+between {
					t.Errorf("%s was told of the providers %d more times, want %d", p.node, more, want)
				}
				before[p.node] = n
			}
		}
		pushes(1, 0)
		if _, all := nodes[0].known(); len(all) != 3 || !all["kv"].Everywhere || all["kv"].Stopped {
			t.Errorf("at first there are %+v", all)
		}
		put := func(p wasmatrix.Provider) {
			t.Helper()
			if _, err := w.apply(wasmatrix.PutProvider{At: wasmatrix.TimeOf(time.Now()), Provider: &p}); err != nil {
				t.Fatal(err)
			}
		}
		put(wasmatrix.Provider{ID: "kv", Type: wasmatrix.ProviderKV, Stopped: true})
		pushes(1, 0)
		if _, all := nodes[1].known(); !all["kv"].Stopped {
			t.Error("the node does not know that a provider is stopped")
		}
		// Several changes at a time are one.
		put(wasmatrix.Provider{ID: "kv", Type: wasmatrix.ProviderKV})
		put(wasmatrix.Provider{ID: "store", Type: wasmatrix.ProviderKV, Constraints: []wasmatrix.Constraint{{Key: "zone", Values: []string{"b"}}}})
		pushes(1, 1)
		if _, all := nodes[0].known(); len(all) != 4 || all["store"].Everywhere || len(all["store"].Hosts) != 0 {
			t.Errorf("there are %+v", all)
		}
		// What does not concern them is none.
		w.mustStart(granted(item("a", 3, w.spec()), "c"))
		pushes(0, 0)
		// A node that hosts one comes, and goes.
		third := w.boot("n2", 10)
		third.set(func() { third.labels = map[string]string{"zone": "b"} })
		w.up(third)
		pushes(1, 0)
		_, all := nodes[0].known()
		if hosts := all["store"].Hosts; len(hosts) != 1 || hosts[0] != (wasmatrix.ProviderHost{Node: "n2", Addr: third.addr}) {
			t.Errorf("the hosts are %+v", hosts)
		}
		if n, own := third.known(); n != 1 || len(own["store"].Hosts) != 1 {
			t.Errorf("the node itself was told %d times, last %+v", n, own)
		}
		third.kill()
		pushes(1, 0)
		if _, all := nodes[1].known(); len(all["store"].Hosts) != 0 {
			t.Errorf("the hosts are %+v", all["store"].Hosts)
		}
	})
}

// TestProvidersReachEveryProcess: those that cannot be reached just then, those
// that take another's place, and all when the leader changes.
func TestProvidersReachEveryProcess(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		has := func(p *process, id wasmatrix.ProviderID) func() bool {
			return func() bool { _, all := p.known(); _, ok := all[id]; return ok }
		}
		put := func(id wasmatrix.ProviderID) {
			t.Helper()
			if _, err := w.apply(wasmatrix.PutProvider{Provider: &wasmatrix.Provider{ID: id, Type: wasmatrix.ProviderHTTP}}); err != nil {
				t.Fatal(err)
			}
		}
		nodes[0].set(func() { nodes[0].unplaceable = errors.New("cannot just now") })
		put("web")
		w.await("the other knows", has(nodes[1], "web"))
		time.Sleep(3 * time.Second)
		nodes[0].set(func() { nodes[0].unplaceable = nil })
		w.await("it knows too", has(nodes[0], "web"))
		// A host that is another by its labels, without having been down.
		if _, err := w.apply(wasmatrix.PutProvider{Provider: &wasmatrix.Provider{
			ID: "edge", Type: wasmatrix.ProviderHTTP, Constraints: []wasmatrix.Constraint{{Key: "zone", Values: []string{"b"}}},
		}}); err != nil {
			t.Fatal(err)
		}
		w.await("both know", func() bool { return has(nodes[0], "edge")() && has(nodes[1], "edge")() })
		nodes[1].set(func() { nodes[1].labels = map[string]string{"zone": "b"} })
		nodes[1].register(t.Context())
		w.await("it is a host", func() bool { _, all := nodes[0].known(); return len(all["edge"].Hosts) == 1 })
		nodes[0].kill()
		again := w.boot("n0", 10)
		w.await("the next process knows", has(again, "web"))
		w.depose()
		put("web2")
		w.elect(1)
		w.await("all know", func() bool { return has(again, "web2")() && has(nodes[1], "web2")() })
	})
}

// TestProvidersOfAnotherFuture: the index of a restored state is below that of
// what the nodes were told.
func TestProvidersOfAnotherFuture(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
		before := w.save()
		if _, err := w.apply(wasmatrix.PutProvider{Provider: &wasmatrix.Provider{ID: "web", Type: wasmatrix.ProviderHTTP}}); err != nil {
			t.Fatal(err)
		}
		w.await("it knows", func() bool { _, all := nodes[0].known(); return len(all) == 4 })
		w.restore(before)
		w.await("it knows better", func() bool { _, all := nodes[0].known(); return len(all) == 3 })
	})
}
