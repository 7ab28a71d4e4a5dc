package dispatch_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// TestKilledNodeIsReplacedAtOnce: its broken stream and a refused ping say all
// there is to know. What it ran runs elsewhere, once, under the next epoch.
func TestKilledNodeIsReplacedAtOnce(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{100, 100}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 40, w.spec()))
		never := w.mustStart(item("b", 2, w.spec(func(s *wasmatrix.Spec) { s.Restart = wasmatrix.RestartPolicy{} })))
		w.await("all run", w.running(append(ids, never...)...))
		before := w.count(wasmatrix.PlaceInstances{})
		killed := time.Now()
		nodes[0].kill()
		w.await("all run elsewhere", w.running(ids...))
		if took := time.Since(killed); took > 100*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		for _, id := range ids {
			i, _ := w.state().Instance(id)
			if i.Node != "n1" || i.Epoch > 2 {
				t.Errorf("%s is on %s in epoch %d", id, i.Node, i.Epoch)
			}
		}
		if n := w.count(wasmatrix.PlaceInstances{}) - before; n > 2 {
			t.Errorf("moving 20 instances took %d proposals", n)
		}
		if n := w.count(wasmatrix.MarkNodeDown{}); n != 1 {
			t.Errorf("%d proposals that it is down", n)
		}
		for _, id := range never {
			if i, _ := w.state().Instance(id); i.Node == "n0" && i.Status != wasmatrix.StatusCrashed {
				t.Errorf("%s, whose policy forbids it to move, is %s", id, i.Status)
			}
		}
	})
}

// TestMassLossIsPlacedInBatches: thousands of instances take few commands of
// bounded size.
func TestMassLossIsPlacedInBatches(t *testing.T) {
	const count = 5000
	inWorld(t, dispatch.Config{}, []uint32{count, 1, 2 * count}, func(t *testing.T, w *world, nodes []*process) {
		spec := w.spec()
		for n := range 5 {
			it := item(fmt.Sprintf("a%d", n), count/5, spec)
			for i := range it.Placements {
				it.Placements[i].Node = "n0"
			}
			if _, err := w.apply(wasmatrix.StartInstances{Items: []wasmatrix.StartItem{it}}); err != nil {
				t.Fatal(err)
			}
		}
		w.await("n0 has all", func() bool { return w.state().StatusCount(wasmatrix.StatusRunning) == count })
		largest := 0
		w.set(func() {
			w.reject = func(cmd wasmatrix.Command) error {
				if c, ok := cmd.(wasmatrix.PlaceInstances); ok {
					w.set(func() { largest = max(largest, len(c.Items)) })
				}
				return nil
			}
		})
		nodes[0].kill()
		w.await("all run on other nodes", func() bool {
			return w.nodeStatus("n0") == wasmatrix.NodeDown && w.state().StatusCount(wasmatrix.StatusRunning) == count
		})
		if n := w.count(wasmatrix.PlaceInstances{}); n > 10 || largest > 2000 {
			t.Errorf("%d proposals, the largest of %d", n, largest)
		}
		if !w.settled() {
			t.Error("nodes hold something else than the state says")
		}
	})
}

// TestPausedNodeIsDownWhenItsLeaseIsOver, and when it goes on it stops what was
// given to others.
func TestPausedNodeIsDownWhenItsLeaseIsOver(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 6, w.spec()))
		w.await("all run", w.running(ids...))
		paused := time.Now()
		nodes[0].stop()
		w.await("it is down", func() bool { return w.nodeStatus("n0") == wasmatrix.NodeDown })
		if took := time.Since(paused); took < 2*time.Second || took > 3500*time.Millisecond {
			t.Errorf("down after %s, with a lease of 3s renewed each second", took)
		}
		w.await("n1 has all", func() bool { return len(slices.Collect(w.state().InstancesOn("n1"))) == 6 })
		if n := len(nodes[0].held); n != 3 {
			t.Fatalf("the paused node holds %d", n)
		}
		nodes[0].resume()
		w.await("it is up again and holds nothing stale", func() bool {
			return w.nodeStatus("n0") == wasmatrix.NodeUp && w.settled() && w.running(ids...)()
		})
		for _, id := range ids {
			if i, _ := w.state().Instance(id); i.Epoch > 2 {
				t.Errorf("%s is in epoch %d", id, i.Epoch)
			}
		}
	})
}

// TestShortSilenceIsForgiven: within its lease a node that hears of no suspicion
// keeps what it has, and one that is suspected but answers does too.
func TestShortSilenceIsForgiven(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 6, w.spec()))
		w.await("all run", w.running(ids...))
		nodes[0].stop()
		time.Sleep(1500 * time.Millisecond)
		nodes[0].resume()
		w.d().Suspect("n0", "gossip says it is dead")
		time.Sleep(10 * time.Second)
		if n := w.count(wasmatrix.MarkNodeDown{}); n != 0 || !w.running(ids...)() {
			t.Errorf("%d times marked down", n)
		}
	})
}

// TestSuspectedNodeThatDoesNotAnswerIsDown well before its lease is over.
func TestSuspectedNodeThatDoesNotAnswerIsDown(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 6, w.spec()))
		w.await("all run", w.running(ids...))
		nodes[0].set(func() { nodes[0].cut = true })
		cut := time.Now()
		w.d().Suspect("n0", "gossip says it is dead")
		w.d().Suspect("nobody", "gossip says it is dead")
		w.await("it is down", func() bool { return w.nodeStatus("n0") == wasmatrix.NodeDown })
		if took := time.Since(cut); took > 1100*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if n, _ := w.state().Node("n0"); n.Reason != "gossip says it is dead and it does not answer" {
			t.Errorf("reason %q", n.Reason)
		}
		nodes[0].set(func() { nodes[0].cut = false })
		w.await("it is back", func() bool { return w.nodeStatus("n0") == wasmatrix.NodeUp && w.settled() })
	})
}

// TestRestartedNodeBeginsAnew: another boot holds nothing of what the one
// before did, and its ping is no sign of life of that one.
func TestRestartedNodeBeginsAnew(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 6, w.spec()))
		w.await("all run", w.running(ids...))
		w.set(func() { w.processes["n0:7483"] = nil })
		second := w.boot("n0", 10) // listens before the old one is gone
		nodes[0].kill()
		w.up(second)
		w.await("all run again", w.running(ids...))
		for _, id := range ids {
			if i, _ := w.state().Instance(id); i.Epoch != 2 || i.Node != "n0" {
				t.Errorf("%s is on %s in epoch %d", id, i.Node, i.Epoch)
			}
		}
		if n := w.count(wasmatrix.MarkNodeDown{}); n != 0 {
			t.Errorf("%d times marked down: its registration says it all", n)
		}
	})
}

// TestExclusiveInstanceWaitsForTheLease: while the node that had it could still
// act for it, it is placed nowhere else, be its process gone, paused or cut off.
func TestExclusiveInstanceWaitsForTheLease(t *testing.T) {
	for name, harm := range map[string]func(w *world, p *process){
		"killed": func(_ *world, p *process) { p.kill() },
		"paused": func(_ *world, p *process) { p.stop() },
		"cut": func(w *world, p *process) {
			p.set(func() { p.cut = true })
			w.d().Suspect(p.node, "test")
		},
		"leader too": func(w *world, p *process) {
			p.set(func() { p.cut = true })
			w.elect(1)
			w.d().Suspect(p.node, "test")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, dispatch.Config{}, []uint32{2, 4}, func(t *testing.T, w *world, nodes []*process) {
				ids := w.mustStart(item("x", 2, w.spec(exclusive)))
				free := w.mustStart(item("y", 2, w.spec()))
				w.await("all run", w.running(append(ids, free...)...))
				time.Sleep(20 * time.Second) // the beginning of the term is long ago
				p := nodes[0]
				harmed := time.Now()
				harm(w, p)
				w.await("the rest moved", func() bool {
					return w.nodeStatus("n0") == wasmatrix.NodeDown && w.status("y-0") != wasmatrix.StatusLost && w.status("y-1") != wasmatrix.StatusLost
				})
				lost := w.state().StatusCount(wasmatrix.StatusLost)
				if time.Since(harmed) < 2*time.Second && lost == 0 {
					t.Error("the exclusive one was placed at once")
				}
				w.await("all run on the other", func() bool { return len(slices.Collect(w.state().InstancesOn("n1"))) == 4 })
				took := time.Since(harmed)
				if took < 2500*time.Millisecond || took > 7500*time.Millisecond {
					t.Errorf("it took %s", took)
				}
				if len(w.lapsed) > 0 {
					t.Error(w.lapsed)
				}
			})
		})
	}
}

// TestCondemnedNodeIsGrantedNothing: from the moment at which a node is taken
// for gone, its lease cannot grow, or what it has could not be placed in time.
func TestCondemnedNodeIsGrantedNothing(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{2, 2}, func(t *testing.T, w *world, nodes []*process) {
		synctest.Wait()
		p := nodes[0]
		p.set(func() { p.cut = true })
		w.set(func() { w.delay = time.Second })
		w.d().Suspect("n0", "test")
		time.Sleep(1500 * time.Millisecond) // two pings in vain, and the proposal is under way
		if s := w.nodeStatus("n0"); s != wasmatrix.NodeUp {
			t.Fatalf("n0 is %s already", s)
		}
		if l, err := w.d().Renew(t.Context(), "n0", p.boot); err != nil || l.TTL != 0 || !l.Resync {
			t.Errorf("%+v, %v", l, err)
		}
		w.await("it is down", func() bool { return w.nodeStatus("n0") == wasmatrix.NodeDown })
	})
}

// TestUnreachableNodeIsRefused: a node to which no order could be sent, or
// whose address is another's, is not up.
func TestUnreachableNodeIsRefused(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
		ctx := t.Context()
		_, err := w.d().Register(ctx, wasmatrix.Registration{ID: "deaf", Boot: "b", Addr: "nowhere:1"})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("nothing listens: %v", err)
		}
		_, err = w.d().Register(ctx, wasmatrix.Registration{ID: "thief", Boot: "b", Addr: "n0:7483"})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("another's address: %v", err)
		}
		_, err = w.d().Register(ctx, wasmatrix.Registration{ID: "n0", Boot: "b", Addr: "elsewhere:1"})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
			t.Errorf("a second process of the name: %v", err)
		}
		for _, reg := range []wasmatrix.Registration{{Boot: "b", Addr: "a:1"}, {ID: "n", Addr: "a:1"}, {ID: "n", Boot: "b"}} {
			if _, err := w.d().Register(ctx, reg); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
				t.Errorf("%+v: %v", reg, err)
			}
		}
		if w.nodeStatus("deaf") != wasmatrix.NodeUnknown || w.nodeStatus("thief") != wasmatrix.NodeUnknown {
			t.Error("a refused node has a record")
		}
	})
}

// TestRenewalsCostNoLogEntry, nor do registrations that change nothing.
func TestRenewalsCostNoLogEntry(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		index := w.state().Index()
		time.Sleep(10 * time.Minute)
		if n := w.state().Index(); n != index {
			t.Errorf("%d log entries in ten idle minutes", n-index)
		}
		w.elect(1)
		time.Sleep(10 * time.Minute)
		if n := w.state().Index(); n != index {
			t.Errorf("%d log entries after an election and ten idle minutes", n-index)
		}
		// A change of its labels costs one.
		p := nodes[0]
		p.set(func() { p.labels = map[string]string{"zone": "b"} })
		if _, err := w.d().Register(t.Context(), wasmatrix.Registration{ID: p.node, Boot: p.boot, Addr: p.addr, Version: "1", Labels: p.labels, Capacity: p.cap}); err != nil {
			t.Fatal(err)
		}
		if n, _ := w.state().Node("n0"); n.Labels["zone"] != "b" || w.state().Index() != index+1 {
			t.Errorf("labels %v after %d entries", n.Labels, w.state().Index()-index)
		}
	})
}

// TestNewCapacityOfAKnownNodeIsUsed, though the state records no fact of it.
func TestNewCapacityOfAKnownNodeIsUsed(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{1}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 2, w.spec(queued)))
		w.await("one runs", w.running(ids[0]))
		p := nodes[0]
		p.cap = wasmatrix.Capacity{Memory: 1 << 40, Instances: 10}
		if _, err := w.d().Register(t.Context(), wasmatrix.Registration{
			ID: p.node, Boot: p.boot, Addr: p.addr, Version: "1", Labels: p.labels, Capacity: p.cap,
			Holding: []wasmatrix.Holding{{Instance: ids[0], Epoch: 1, Status: wasmatrix.StatusRunning}},
		}); err != nil {
			t.Fatal(err)
		}
		w.await("both run", w.running(ids...))
	})
}

// TestLeaseTellsTheTerm and asks for a registration where one is due.
func TestLeaseTellsTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, dispatch.Config{})
		defer w.close()
		w.elect(0)
		renew := func(node wasmatrix.NodeID, boot wasmatrix.BootID) wasmatrix.Lease {
			t.Helper()
			l, err := w.d().Renew(t.Context(), node, boot)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		if l := renew("n0", "b"); !l.Resync || l.TTL != 0 || l.Term != 1 {
			t.Errorf("an unknown node: %+v", l)
		}
		p := w.boot("n0", 1)
		w.up(p)
		synctest.Wait()
		if l := renew("n0", p.boot); l.Resync || l.TTL != int64(3*time.Second) {
			t.Errorf("a registered node: %+v", l)
		}
		if l := renew("n0", "other"); !l.Resync || l.TTL != 0 {
			t.Errorf("another boot: %+v", l)
		}
		w.elect(1)
		if l := renew("n0", p.boot); !l.Resync || l.TTL != int64(3*time.Second) || l.Term != 2 {
			t.Errorf("in a new term: %+v", l)
		}
	})
}

// TestANodeThatDiesUnadmittedIsDown: its registration was committed, the leader
// was not told, and the node does not ask again.
func TestANodeThatDiesUnadmittedIsDown(t *testing.T) {
	for _, before := range []string{"new", "known"} {
		t.Run(before, func(t *testing.T) {
			inWorld(t, dispatch.Config{}, []uint32{1}, func(_ *testing.T, w *world, _ []*process) {
				if before == "known" {
					p := w.boot("n1", 20)
					w.up(p)
					p.kill()
				}
				w.set(func() { w.loseNext = 1 })
				p := w.boot("n1", 20)
				for n, _ := w.state().Node("n1"); n == nil || n.Boot != p.boot; n, _ = w.state().Node("n1") {
					time.Sleep(time.Millisecond)
				}
				p.kill()
				ids := w.mustStart(item("a", 2, w.spec(queued)))
				w.await("the node is down", func() bool { return w.nodeStatus("n1") == wasmatrix.NodeDown })
				w.up(w.boot("n1", 20))
				w.await("all run", w.running(ids...))
			})
		})
	}
}
