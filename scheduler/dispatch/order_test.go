package dispatch_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// TestStopInEveryStatus: what no node holds stops at once, the rest when its
// node says so.
func TestStopInEveryStatus(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{2, 2}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 6, w.spec(queued)))
		w.await("four run", w.running(ids[:4]...))
		stop := func(name string, id wasmatrix.InstanceID) error {
			return w.d().Stop(t.Context(), request(name), id)
		}
		if err := stop("pending", ids[5]); err != nil || w.status(ids[5]) != wasmatrix.StatusStopped {
			t.Errorf("pending: %v, %s", err, w.status(ids[5]))
		}
		if err := stop("running", ids[0]); err != nil {
			t.Errorf("running: %v", err)
		}
		w.await("it is stopped, and the pending one has its place", func() bool {
			return w.status(ids[0]) == wasmatrix.StatusStopped && w.running(ids[4])()
		})
		if err := stop("final", ids[0]); err != nil {
			t.Errorf("final: %v", err)
		}
		if err := stop("unknown", "nobody"); wasmatrix.CodeOf(err) != wasmatrix.CodeInstanceNotFound {
			t.Errorf("unknown: %v", err)
		}
		// Starting: its node never says that it runs.
		nodes[0].set(func() { nodes[0].slowStart = true })
		nodes[1].set(func() { nodes[1].slowStart = true })
		if err := stop("room", ids[4]); err != nil {
			t.Error(err)
		}
		w.await("there is room", func() bool { return w.status(ids[4]) == wasmatrix.StatusStopped })
		slow := w.mustStart(item("slow", 1, w.spec()))
		if err := stop("starting", slow[0]); err != nil {
			t.Error(err)
		}
		w.await("it is stopped", func() bool { return w.status(slow[0]) == wasmatrix.StatusStopped && w.settled() })
		// Lost: its node is gone, and no other has room.
		on := map[wasmatrix.NodeID]*process{"n0": nodes[0], "n1": nodes[1]}
		fill := w.mustStart(item("fill", 1, w.spec()))
		i, _ := w.state().Instance(fill[0])
		if _, err := w.apply(wasmatrix.DrainNode{Node: "n0", Drain: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.apply(wasmatrix.DrainNode{Node: "n1", Drain: true}); err != nil {
			t.Fatal(err)
		}
		on[i.Node].kill()
		w.await("it is lost", func() bool { return w.status(fill[0]) == wasmatrix.StatusLost })
		if err := stop("lost", fill[0]); err != nil || w.status(fill[0]) != wasmatrix.StatusStopped {
			t.Errorf("lost: %v, %s", err, w.status(fill[0]))
		}
	})
}

// TestStopOfALostNodeIsDone: a node that went down before it could confirm has
// stopped it too.
func TestStopOfALostNodeIsDone(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{2, 2}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 1, w.spec()))
		w.await("it runs", w.running(ids...))
		nodes[0].stop()
		if err := w.d().Stop(t.Context(), request("s"), ids[0]); err != nil {
			t.Fatal(err)
		}
		w.await("it is stopped", func() bool { return w.status(ids[0]) == wasmatrix.StatusStopped })
		nodes[0].resume()
		w.await("also where it ran", w.settled)
	})
}

func TestConcurrentStopsShareProposals(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{300}, func(t *testing.T, w *world, _ []*process) {
		ids := w.mustStart(item("a", 300, w.spec()))
		w.await("all run", w.running(ids...))
		done := make(chan error, len(ids))
		for n, id := range ids {
			go func() { done <- w.d().Stop(t.Context(), request(fmt.Sprintf("s%d", n)), id) }()
		}
		for range ids {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		w.await("all are stopped", func() bool { return w.state().StatusCount(wasmatrix.StatusStopped) == 300 && w.settled() })
		if n := w.count(wasmatrix.StopInstances{}); n > 4 {
			t.Errorf("300 stops took %d proposals", n)
		}
	})
}

func TestRestartBeginsANewEpochOnItsNode(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{2, 2}, func(t *testing.T, w *world, _ []*process) {
		ids := w.mustStart(item("a", 1, w.spec()))
		w.await("it runs", w.running(ids...))
		before, _ := w.state().Instance(ids[0])
		i, err := w.d().Restart(t.Context(), request("r"), ids[0])
		if err != nil || i.Epoch != before.Epoch+1 || i.Node != before.Node {
			t.Fatalf("%+v, %v", i, err)
		}
		w.await("it runs again", w.running(ids...))
		if i, err = w.d().Restart(t.Context(), request("r"), ids[0]); err != nil || i.Epoch != before.Epoch+1 {
			t.Errorf("the request again: epoch %d, %v", i.Epoch, err)
		}
		if _, err = w.d().Restart(t.Context(), request("r2"), "nobody"); wasmatrix.CodeOf(err) != wasmatrix.CodeInstanceNotFound {
			t.Errorf("unknown: %v", err)
		}
		if err := w.d().Stop(t.Context(), request("s"), ids[0]); err != nil {
			t.Fatal(err)
		}
		w.await("it is stopped", func() bool { return w.status(ids[0]) == wasmatrix.StatusStopped })
		if _, err = w.d().Restart(t.Context(), request("r3"), ids[0]); wasmatrix.CodeOf(err) != wasmatrix.CodeRestartPolicyViolation {
			t.Errorf("final: %v", err)
		}
	})
}

// TestOrdersArrive whatever happens to the messages that carry them.
func TestOrdersArrive(t *testing.T) {
	for name, fault := range map[string]func(p *process){
		"answers are lost":         func(p *process) { p.deaf = 3 },
		"orders are forgotten":     func(p *process) { p.ignore = 1 },
		"forgotten time and again": func(p *process) { p.ignore = 3 },
		"it cannot for a while": func(p *process) {
			p.failing = errors.New("disk full")
			time.AfterFunc(time.Minute, func() { p.set(func() { p.failing = nil }) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, dispatch.Config{}, []uint32{20}, func(t *testing.T, w *world, nodes []*process) {
				nodes[0].set(func() { fault(nodes[0]) })
				ids := w.mustStart(item("a", 5, w.spec()))
				time.Sleep(90 * time.Second)
				w.await("all run", w.running(ids...))
				nodes[0].set(func() { fault(nodes[0]) })
				for n, id := range ids {
					if err := w.d().Stop(t.Context(), request(fmt.Sprintf("s%d", n)), id); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(90 * time.Second)
				w.await("all are stopped", func() bool { return w.state().StatusCount(wasmatrix.StatusStopped) == 5 && w.settled() })
				if n := w.count(wasmatrix.MarkNodeDown{}); n != 0 {
					t.Errorf("a node that answers was marked down %d times", n)
				}
			})
		})
	}
}

// TestStopOfWhatTheNodeNeverGot is settled by what the node says it holds.
func TestStopOfWhatTheNodeNeverGot(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{20}, func(t *testing.T, w *world, nodes []*process) {
		nodes[0].set(func() { nodes[0].ignore = 1 })
		ids := w.mustStart(item("a", 1, w.spec()))
		if err := w.d().Stop(t.Context(), request("s"), ids[0]); err != nil {
			t.Fatal(err)
		}
		w.await("it is stopped", func() bool { return w.status(ids[0]) == wasmatrix.StatusStopped })
	})
}

// TestVanishedInstanceBeginsANewEpoch: one that the state has running and its
// node, in the same boot, knows nothing of.
func TestVanishedInstanceBeginsANewEpoch(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{20}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 2, w.spec()))
		w.await("both run", w.running(ids...))
		time.Sleep(10 * time.Second)
		nodes[0].set(func() { delete(nodes[0].held, ids[0]) })
		w.elect(1) // the node registers with the new leader
		w.await("both run", w.running(ids...))
		for n, want := range []uint64{2, 1} {
			if i, _ := w.state().Instance(ids[n]); i.Epoch != want {
				t.Errorf("%s is in epoch %d, not %d", i.ID, i.Epoch, want)
			}
		}
	})
}

// TestVanishedAtOnce is the same right after the state has changed, when it is
// not certain yet that the node will not come to hold the instance.
func TestVanishedAtOnce(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{20}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 2, w.spec()))
		w.await("both run", w.running(ids...))
		nodes[0].set(func() { delete(nodes[0].held, ids[0]) })
		w.elect(1) // the node registers with the new leader
		w.await("both run", w.running(ids...))
		for n, want := range []uint64{2, 1} {
			if i, _ := w.state().Instance(ids[n]); i.Epoch != want {
				t.Errorf("%s is in epoch %d, not %d", i.ID, i.Epoch, want)
			}
		}
	})
}

// TestStaleReportsStopTheirCause: a node that reports an epoch that is not its
// to run is told to end it, and the state hears nothing of it.
func TestStaleReportsStopTheirCause(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{20, 20}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 2, w.spec()))
		w.await("both run", w.running(ids...))
		i, _ := w.state().Instance(ids[0])
		other := nodes[0]
		if i.Node == other.node {
			other = nodes[1]
		}
		_, facts := w.state().FactRange()
		other.mu.Lock()
		h := &holding{epoch: 1}
		other.held[ids[0]] = h
		other.say(ids[0], h, wasmatrix.StatusRunning)
		other.mu.Unlock()
		w.await("the intruder is gone", func() bool { return w.settled() && !other.unsent() })
		if _, n := w.state().FactRange(); n != facts {
			t.Errorf("%d facts", n-facts)
		}
	})
}

// TestRepeatedReportsChangeNothing, and are acknowledged by one empty entry.
func TestRepeatedReportsChangeNothing(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{20}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 1, w.spec()))
		w.await("it runs", w.running(ids...))
		index := w.state().Index()
		r := wasmatrix.Report{Instance: ids[0], Epoch: 1, Attempt: 1, Seq: 1, Status: wasmatrix.StatusRunning}
		changed, err := w.d().Report(t.Context(), "n0", nodes[0].boot, []wasmatrix.Report{r, r})
		if err != nil || len(changed) != 2 || changed[0] || changed[1] || w.state().Index() != index+1 {
			t.Errorf("%v, %v after %d entries", changed, err, w.state().Index()-index)
		}
		r.Seq = 2
		if changed, err = w.d().Report(t.Context(), "n0", nodes[0].boot, []wasmatrix.Report{r, {Instance: "nobody", Epoch: 1, Attempt: 1, Seq: 1, Status: wasmatrix.StatusStopped}}); err != nil || !changed[0] || changed[1] {
			t.Errorf("news: %v, %v", changed, err)
		}
		if _, err = w.d().Report(t.Context(), "n0", "old boot", []wasmatrix.Report{r}); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
			t.Errorf("of another boot: %v", err)
		}
		if _, err = w.d().Report(t.Context(), "nobody", "boot", []wasmatrix.Report{r}); wasmatrix.CodeOf(err) != wasmatrix.CodeNodeNotFound {
			t.Errorf("of an unknown node: %v", err)
		}
	})
}

// TestDeposedLeaderAcknowledgesNothing: one that was paused while another took
// over does not know what the other placed, and takes its end for old news.
func TestDeposedLeaderAcknowledgesNothing(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{20}, func(t *testing.T, w *world, nodes []*process) {
		old := w.servers[0]
		w.set(func() { old.frozen, w.leader = w.machine.State(), w.servers[1] })
		if _, err := w.apply(wasmatrix.StartInstances{At: wasmatrix.TimeOf(time.Now()), Items: []wasmatrix.StartItem{{
			Spec: w.spec(), Placements: []wasmatrix.Placement{{Instance: "x", Node: "n0"}},
		}}}); err != nil {
			t.Fatal(err)
		}
		end := wasmatrix.Report{Instance: "x", Epoch: 1, Attempt: 1, Seq: 2, Status: wasmatrix.StatusStopped}
		if _, err := old.d.Report(t.Context(), "n0", nodes[0].boot, []wasmatrix.Report{end}); err == nil {
			t.Error("the end of an instance was acknowledged and is known nowhere")
		}
		w.set(func() { w.leader = old })
	})
}

// TestGoneNodesAreForgotten after a while, and may come back.
func TestGoneNodesAreForgotten(t *testing.T) {
	inWorld(t, dispatch.Config{KeepNodes: time.Hour}, []uint32{20, 20}, func(t *testing.T, w *world, nodes []*process) {
		nodes[1].kill()
		time.Sleep(50 * time.Minute)
		if s := w.nodeStatus("n1"); s != wasmatrix.NodeDown {
			t.Errorf("%s after 50 minutes", s)
		}
		time.Sleep(15 * time.Minute)
		if s := w.nodeStatus("n1"); s != wasmatrix.NodeUnknown {
			t.Errorf("%s after an hour", s)
		}
		if s := w.nodeStatus("n0"); s != wasmatrix.NodeUp {
			t.Errorf("the other is %s", s)
		}
		w.up(w.boot("n1", 20))
	})
}

// TestASlowRegistrationHurtsNothing: what it lists is older than what the node
// was told and has reported meanwhile.
func TestASlowRegistrationHurtsNothing(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{20}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 2, w.spec()))
		w.await("both run", w.running(ids...))
		time.Sleep(8 * time.Second) // on its way, with an empty list
		if err := w.d().Stop(t.Context(), request("s"), ids[1]); err != nil {
			t.Fatal(err)
		}
		p := nodes[0]
		if _, err := w.d().Register(t.Context(), wasmatrix.Registration{
			ID: p.node, Boot: p.boot, Addr: p.addr, Version: "1", Labels: p.labels, Capacity: p.cap,
		}); err != nil {
			t.Fatal(err)
		}
		w.await("one runs and one is stopped", func() bool {
			return w.settled() && w.status(ids[0]) == wasmatrix.StatusRunning && w.status(ids[1]) == wasmatrix.StatusStopped
		})
		if i, _ := w.state().Instance(ids[0]); i.Epoch != 1 {
			t.Errorf("an instance that ran was begun anew, in epoch %d", i.Epoch)
		}
		if i, _ := w.state().Instance(ids[1]); i.Reason == "the node does not hold it" {
			t.Error("an instance that ran was taken for stopped")
		}
	})
}

// TestGarbageIsCollected when it is due, and nothing is proposed before.
func TestGarbageIsCollected(t *testing.T) {
	cfg := dispatch.Config{KeepFinal: time.Hour, MaxFinal: 3}
	inWorld(t, cfg, []uint32{20}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 6, w.spec()))
		w.await("all run", w.running(ids...))
		nodes[0].end(ids[0])
		nodes[0].end(ids[1])
		time.Sleep(50 * time.Minute)
		if n := w.count(wasmatrix.CollectGarbage{}); n != 0 || w.state().InstanceCount() != 6 {
			t.Errorf("%d proposals before anything is due", n)
		}
		time.Sleep(15 * time.Minute)
		if n := w.count(wasmatrix.CollectGarbage{}); n == 0 || n > 2 || w.state().InstanceCount() != 4 {
			t.Errorf("%d proposals left %d instances", n, w.state().InstanceCount())
		}
		for _, id := range ids[2:] {
			nodes[0].end(id)
		}
		time.Sleep(5 * time.Minute)
		if n := w.state().InstanceCount(); n != 3 {
			t.Errorf("%d final instances are kept, 3 is the limit", n)
		}
		before := w.count(wasmatrix.CollectGarbage{})
		if _, err := w.apply(wasmatrix.AddModule{At: wasmatrix.TimeOf(time.Now()), Module: &wasmatrix.Module{Digest: wasmatrix.DigestOf([]byte("x")), Size: 1}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(23 * time.Hour)
		if _, ok := w.state().Module(wasmatrix.DigestOf([]byte("x"))); !ok {
			t.Error("the module went early")
		}
		time.Sleep(2 * time.Hour)
		if _, ok := w.state().Module(wasmatrix.DigestOf([]byte("x"))); ok {
			t.Error("the module stayed")
		}
		if _, ok := w.state().Module(w.module); !ok {
			t.Error("a module with a name went")
		}
		if n := w.count(wasmatrix.CollectGarbage{}) - before; n > 8 {
			t.Errorf("%d proposals in a day", n)
		}
	})
}
