package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// on returns the process of the node that has an instance.
func (w *world) on(id wasmatrix.InstanceID, nodes []*process) *process {
	w.t.Helper()
	i, _ := w.state().Instance(id)
	for _, p := range nodes {
		if p.node == i.Node {
			return p
		}
	}
	w.t.Fatalf("%s is on %q", id, i.Node)
	return nil
}

// may reports whether a call succeeds on any of the nodes.
func may(nodes []*process, id wasmatrix.InstanceID, c wasmatrix.CapabilityID) bool {
	for _, p := range nodes {
		if p.may(id, c) {
			return true
		}
	}
	return false
}

func TestAssignReachesTheNode(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		id := w.mustStart(granted(item("a", 1, w.spec()), "first"))[0]
		w.await("it runs", w.running(id))
		p := w.on(id, nodes)
		p.mu.Lock()
		pushed := p.setGrants
		p.mu.Unlock()
		if !p.may(id, "first") || pushed != 0 {
			t.Errorf("the order to start it brought the assignment: %v; it was pushed %d times besides", p.may(id, "first"), pushed)
		}
		a, err := w.d().Assign(t.Context(), request("r"), kvGrant(id, "c"))
		if err != nil || a.CreateIndex == 0 || !p.may(id, "c") {
			t.Fatalf("assigned %+v, %v, and may: %v", a, err, p.may(id, "c"))
		}
		if _, err = w.d().Assign(t.Context(), request("x"), kvGrant("nobody", "c")); wasmatrix.CodeOf(err) != wasmatrix.CodeInstanceNotFound {
			t.Errorf("of no instance: %v", err)
		}
		// Nor does it depend on whoever asked for it.
		w.set(func() { w.loseNext = 1 })
		if _, err := w.d().Assign(t.Context(), request("r1"), kvGrant(id, "c1")); wasmatrix.CodeOf(err) != wasmatrix.CodeInternal {
			t.Fatalf("the answer is lost, and yet %v", err)
		}
		w.await("the node knows", func() bool { return p.may(id, "c1") })
		// It stands even though the node cannot be told, which goes on.
		p.set(func() { p.mute = true })
		began := time.Now()
		if _, err := w.d().Assign(t.Context(), request("r2"), kvGrant(id, "c2")); err != nil || time.Since(began) > 2100*time.Millisecond || p.may(id, "c2") {
			t.Errorf("%v after %s, and may: %v", err, time.Since(began), p.may(id, "c2"))
		}
		p.set(func() { p.mute = false })
		w.await("the node knows", func() bool { return p.may(id, "c2") })
		if n := w.count(wasmatrix.MarkNodeDown{}); n != 0 {
			t.Errorf("%d nodes were marked down", n)
		}
	})
}

func TestRevokeWaitsForTheNode(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		id := w.mustStart(granted(item("a", 1, w.spec()), "c", "d"))[0]
		w.await("it runs", w.running(id))
		p := w.on(id, nodes)
		p.set(func() { p.mute = true })
		done := make(chan error, 1)
		go func() { done <- w.d().Revoke(context.Background(), request("r"), id, "c") }()
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("revoked, %v, and the node may: %v", err, p.may(id, "c"))
		default:
		}
		p.set(func() { p.mute = false })
		if err := <-done; err != nil || p.may(id, "c") || !p.may(id, "d") {
			t.Errorf("revoked, %v, and the node may: %v, the other: %v", err, p.may(id, "c"), p.may(id, "d"))
		}
		began := time.Now()
		if err := w.d().Revoke(t.Context(), request("r"), id, "c"); err != nil || time.Since(began) > 50*time.Millisecond {
			t.Errorf("the same request again: %v after %s", err, time.Since(began))
		}
		if err := w.d().Revoke(t.Context(), request("r2"), id, "c"); wasmatrix.CodeOf(err) != wasmatrix.CodeCapabilityNotFound {
			t.Errorf("another: %v", err)
		}
		if err := w.d().Revoke(t.Context(), request("r3"), "nobody", "c"); wasmatrix.CodeOf(err) != wasmatrix.CodeInstanceNotFound {
			t.Errorf("of no instance: %v", err)
		}
		// A node under whose revoked capability a call goes on has not acknowledged.
		p.set(func() { p.stuck = true })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		wantCommitted(t, w.d().Revoke(ctx, request("r4"), id, "d"), p)
	})
}

// wantCommitted checks the answer to a revocation that a node has not confirmed.
func wantCommitted(t *testing.T, err error, p *process) {
	t.Helper()
	e := wasmatrix.AsError(err)
	if e == nil || e.Code != wasmatrix.CodeTimeout || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeCommitted || e.Details["node"] != string(p.node) {
		t.Errorf("got %v, %+v", err, e)
	}
}

// TestRevokeOfWhatNoNodeHas: instances that wait, or have ended on a node that
// said so.
func TestRevokeOfWhatNoNodeHas(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{1}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(granted(item("a", 2, w.spec(queued)), "c"))
		w.await("one runs", w.running(ids[0]))
		began := time.Now()
		if err := w.d().Revoke(t.Context(), request("pending"), ids[1], "c"); err != nil || time.Since(began) > 20*time.Millisecond {
			t.Errorf("pending: %v after %s", err, time.Since(began))
		}
		nodes[0].end(ids[0])
		w.await("the other runs", w.running(ids[1]))
		time.Sleep(5 * time.Second) // what the leader before may have granted is over
		if nodes[0].may(ids[1], "c") {
			t.Error("it began with what was revoked")
		}
		began = time.Now()
		if err := w.d().Revoke(t.Context(), request("final"), ids[0], "c"); err != nil || time.Since(began) > 20*time.Millisecond {
			t.Errorf("final: %v after %s", err, time.Since(began))
		}
	})
}

// TestRevokeOnANodeThatIsCutOff succeeds when the node's lease is over, and not
// before, whether the instance has a new place by then or none.
func TestRevokeOnANodeThatIsCutOff(t *testing.T) {
	for name, caps := range map[string][]uint32{"moves": {10, 10}, "cannot move": {10}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, dispatch.Config{}, caps, func(t *testing.T, w *world, nodes []*process) {
				id := w.mustStart(granted(item("a", 1, w.spec()), "c"))[0]
				w.await("it runs", w.running(id))
				p := w.on(id, nodes)
				p.set(func() { p.cut = true })
				short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				wantCommitted(t, w.d().Revoke(short, request("r"), id, "c"), p)
				if !p.may(id, "c") {
					t.Fatal("the node, which does not know, has no lease already")
				}
				// The same request waits for the same.
				if err := w.d().Revoke(t.Context(), request("r"), id, "c"); err != nil {
					t.Fatal(err)
				}
				p.mu.Lock()
				over := time.Since(p.lease)
				p.mu.Unlock()
				if may(nodes, id, "c") || over < 400*time.Millisecond || over > 2*time.Second {
					t.Errorf("revoked %s after the lease was over, and a node may: %v", over, may(nodes, id, "c"))
				}
				if len(caps) > 1 {
					w.await("it runs elsewhere", func() bool { return w.status(id) == wasmatrix.StatusRunning })
				}
				p.set(func() { p.cut = false })
				for range 5000 {
					if may(nodes, id, "c") {
						t.Fatal("it came back with the node")
					}
					time.Sleep(time.Millisecond)
				}
				w.await("all is well", w.settled)
			})
		})
	}
}

// TestRevokeAfterAMove: the node that had the instance before counts as well, for
// as long as it may act.
func TestRevokeAfterAMove(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		id := w.mustStart(granted(item("a", 1, w.spec()), "c"))[0]
		w.await("it runs", w.running(id))
		before := w.on(id, nodes)
		time.Sleep(5 * time.Second) // what the leader before may have granted is over
		before.set(func() { before.cut = true })
		w.d().Suspect(before.node, "a test says so")
		w.await("it has moved", func() bool {
			i, _ := w.state().Instance(id)
			return i.Node != before.node && w.status(id) == wasmatrix.StatusRunning
		})
		if !before.may(id, "c") {
			t.Fatal("the first node has no lease already")
		}
		now := w.on(id, nodes)
		if err := w.d().Revoke(t.Context(), request("r"), id, "c"); err != nil {
			t.Fatal(err)
		}
		if before.may(id, "c") || now.may(id, "c") {
			t.Errorf("revoked, and the first node may: %v, the other: %v", before.may(id, "c"), now.may(id, "c"))
		}
	})
}

// TestNoLeaseBeforeANodeIsClean: a node that comes back holds what has been placed
// anew, and may not act for it. So it gets no lease before it has given that up.
func TestNoLeaseBeforeANodeIsClean(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		id := w.mustStart(granted(item("a", 1, w.spec()), "c"))[0]
		w.await("it runs", w.running(id))
		p := w.on(id, nodes)
		p.set(func() { p.cut = true })
		w.await("its node is down", func() bool { return w.nodeStatus(p.node) == wasmatrix.NodeDown })
		time.Sleep(5 * time.Second)
		p.set(func() { p.cut, p.failing = false, errors.New("cannot just now") })
		w.await("its node is up again", func() bool { return w.nodeStatus(p.node) == wasmatrix.NodeUp })
		if lease, err := w.d().Renew(t.Context(), p.node, p.boot); err != nil || lease.TTL != 0 {
			t.Errorf("a renewal that arrives late is granted %+v, %v", lease, err)
		}
		for range 2000 {
			if p.may(id, "c") {
				t.Fatalf("it acts again in %s", w.describe())
			}
			time.Sleep(time.Millisecond)
		}
		p.set(func() { p.failing = nil })
		w.await("all is well", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return time.Now().Before(p.lease) && p.held[id] == nil
		})
		w.await("and settled", w.settled)
	})
}

// TestOrdersOfAnOlderStateAreComposedAnew: the node knows of a later state than
// the leader's index tells, as after the state was replaced.
func TestOrdersOfAnOlderStateAreComposedAnew(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
		p := nodes[0]
		p.set(func() { p.floor = w.state().Index() + 2 })
		began := time.Now()
		id := w.mustStart(item("a", 1, w.spec()))[0]
		w.await("it runs", w.running(id))
		p.mu.Lock()
		refused := p.refused
		p.mu.Unlock()
		if refused != 1 || time.Since(began) > 100*time.Millisecond {
			t.Errorf("%d times the order was refused, and it took %s", refused, time.Since(began))
		}
		if n := w.count(wasmatrix.MarkNodeDown{}); n != 0 {
			t.Errorf("%d nodes were marked down", n)
		}
	})
}

// TestLateOrdersBringNothingBack: an order that was given up and arrives after the
// revocation changes nothing, also where both were composed at one log index.
func TestLateOrdersBringNothingBack(t *testing.T) {
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprintf("same index %v", same), func(t *testing.T) {
			inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
				p := nodes[0]
				p.set(func() { p.astray = true })
				w.set(func() {
					w.sameIndex = func(c wasmatrix.Command) bool { _, ok := c.(wasmatrix.RevokeCapability); return same && ok }
				})
				id := w.mustStart(granted(item("a", 1, w.spec()), "c"))[0]
				w.await("an order went astray", func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					return len(p.strays) > 0
				})
				if err := w.d().Revoke(t.Context(), request("r"), id, "c"); err != nil {
					t.Fatal(err)
				}
				p.mu.Lock()
				first := p.strays[0]
				p.mu.Unlock()
				first()
				if p.may(id, "c") {
					t.Error("a late order brought the assignment back")
				}
				p.set(func() { p.astray = false })
				w.await("it runs", w.running(id))
				if p.may(id, "c") {
					t.Error("it runs with what was revoked")
				}
			})
		})
	}
}

// TestRevokeThroughAnElection: the leader goes while it waits for a node. The next
// one, asked again, waits for the same node.
func TestRevokeThroughAnElection(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		id := w.mustStart(granted(item("a", 1, w.spec()), "c"))[0]
		w.await("it runs", w.running(id))
		p := w.on(id, nodes)
		p.set(func() { p.mute = true })
		done := make(chan error, 1)
		go func() { done <- w.servers[0].d.Revoke(context.Background(), request("r"), id, "c") }()
		time.Sleep(100 * time.Millisecond)
		w.elect(1)
		e := wasmatrix.AsError(<-done)
		if e == nil || !e.Retryable() || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeCommitted {
			t.Fatalf("the old leader answered %v, %+v", e, e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		wantCommitted(t, w.d().Revoke(ctx, request("r"), id, "c"), p)
		p.set(func() { p.mute = false })
		if err := w.d().Revoke(t.Context(), request("r"), id, "c"); err != nil || p.may(id, "c") {
			t.Errorf("%v, and the node may: %v", err, p.may(id, "c"))
		}
	})
}

// TestGrantsConvergeAfterAnElection: what the leader before could not tell a node,
// the next one does, though nobody asks again.
func TestGrantsConvergeAfterAnElection(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
		id := w.mustStart(granted(item("a", 1, w.spec()), "c"))[0]
		w.await("it runs", w.running(id))
		w.depose()
		if _, err := w.apply(wasmatrix.RevokeCapability{Instance: id, Capability: "c"}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.apply(wasmatrix.AssignCapability{Assignment: kvGrant(id, "d")}); err != nil {
			t.Fatal(err)
		}
		w.elect(1)
		w.await("the node knows", func() bool { return !nodes[0].may(id, "c") && nodes[0].may(id, "d") })
	})
}

// TestRevokeAfterAnElectionCountsLeasesAnew: nobody knows what a node that is down
// was granted by the leader before.
func TestRevokeAfterAnElectionCountsLeasesAnew(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(granted(item("a", 2, w.spec()), "c"))
		w.await("both run", w.running(ids...))
		lost := w.on(ids[0], nodes)
		other := ids[1]
		if w.on(other, nodes) == lost {
			t.Fatal("both are on one node")
		}
		lost.set(func() { lost.cut = true })
		w.await("its node is down", func() bool { return w.nodeStatus(lost.node) == wasmatrix.NodeDown })
		w.await("it has moved", func() bool { return w.status(ids[0]) == wasmatrix.StatusRunning })
		elected := time.Now()
		w.elect(1)
		if err := w.d().Revoke(t.Context(), request("r0"), other, "c"); err != nil || time.Since(elected) > time.Second {
			t.Errorf("of one that never was on the lost node: %v after %s", err, time.Since(elected))
		}
		if err := w.d().Revoke(t.Context(), request("r1"), ids[0], "c"); err != nil || time.Since(elected) < 3500*time.Millisecond || may(nodes, ids[0], "c") {
			t.Errorf("of one that was: %v after %s", err, time.Since(elected))
		}
	})
}
