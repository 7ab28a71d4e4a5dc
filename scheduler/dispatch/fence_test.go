package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// store is the fences of a kv store.
type store struct {
	mu      sync.Mutex
	failing bool
	calls   int
	raised  []wasmatrix.Fence
	inForce map[wasmatrix.InstanceID]wasmatrix.Fence
	// answering, where it is set, may change what is answered; it is called without mu.
	answering func(inForce []wasmatrix.Fence) []wasmatrix.Fence
}

func (s *store) fence(ctx context.Context, fences []wasmatrix.Fence) ([]wasmatrix.Fence, error) {
	if !pause(ctx, time.Millisecond) {
		return nil, ctx.Err()
	}
	s.mu.Lock()
	s.calls++
	if s.failing {
		s.mu.Unlock()
		return nil, errors.New("no leader")
	}
	if s.inForce == nil {
		s.inForce = make(map[wasmatrix.InstanceID]wasmatrix.Fence)
	}
	s.raised = append(s.raised, fences...)
	answer := make([]wasmatrix.Fence, len(fences))
	for n, f := range fences {
		if now := s.inForce[f.Instance]; now.Incarnation != f.Incarnation || now.Epoch < f.Epoch {
			s.inForce[f.Instance] = f
		}
		answer[n] = s.inForce[f.Instance]
	}
	answering := s.answering
	s.mu.Unlock()
	if answering != nil {
		answer = answering(answer)
	}
	return answer, nil
}

func (s *store) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *store) during(answering func(inForce []wasmatrix.Fence) []wasmatrix.Fence) {
	s.set(func() { s.answering = answering })
}

func (s *store) count(id wasmatrix.InstanceID, epoch uint64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.raised {
		if f.Instance == id && f.Epoch == epoch && f.Incarnation > 0 {
			n++
		}
	}
	return n
}

// TestExclusiveInstancesBeginAnewBehindAFence: and no others, nor the first time.
func TestExclusiveInstancesBeginAnewBehindAFence(t *testing.T) {
	kv := &store{}
	inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		x := w.mustStart(item("x", 1, w.spec(exclusive)))[0]
		free := w.mustStart(item("free", 2, w.spec()))
		w.await("all run", w.running(append(free, x)...))
		time.Sleep(5 * time.Second)
		lost := w.on(x, nodes)
		kv.mu.Lock()
		if kv.failing = true; kv.calls != 0 {
			t.Errorf("%d fences before anything moved", kv.calls)
		}
		kv.mu.Unlock()
		lost.kill()
		w.await("what is not exclusive runs", w.running(free...))
		w.await("it has a place", func() bool { return w.status(x) == wasmatrix.StatusStarting })
		time.Sleep(10 * time.Second)
		if held := w.holders(x); len(held) != 0 {
			t.Fatalf("it began without a fence: %v", held)
		}
		// Nor does it keep others from the same node.
		later := w.mustStart(item("later", 3, w.spec()))
		w.await("they run", w.running(later...))
		kv.mu.Lock()
		kv.failing = false
		kv.mu.Unlock()
		w.await("it runs", w.running(x))
		if n := kv.count(x, 2); n != 1 {
			t.Errorf("epoch 2 was fenced %d times", n)
		}
		// On the same node, and with an order that has to be sent again.
		w.on(x, nodes).set(func() { w.on(x, nodes).deaf = 1 })
		if _, err := w.d().Restart(t.Context(), request("r"), x); err != nil {
			t.Fatal(err)
		}
		w.await("it runs in epoch 3", func() bool { i, _ := w.state().Instance(x); return i.Epoch == 3 && w.running(x)() })
		if n := kv.count(x, 3); n != 1 {
			t.Errorf("epoch 3 was fenced %d times", n)
		}
		if len(w.lapsed) > 0 {
			t.Error(w.lapsed)
		}
	})
}

// restore replaces the state by that of a snapshot, as the leader's server does
// when its user asks for it: it begins to lead anew, in the same term.
func (w *world) restore(snapshot []byte) {
	w.t.Helper()
	w.mu.Lock()
	s, term := w.leader, w.term
	err := w.machine.Restore(bytes.NewReader(snapshot))
	w.mu.Unlock()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	s.end()
	<-s.over
	ctx, end := context.WithCancel(context.Background())
	s.end, s.over = end, make(chan struct{})
	go func() {
		defer close(s.over)
		s.d.Lead(ctx, term)
	}()
}

func (w *world) save() []byte {
	w.t.Helper()
	var b bytes.Buffer
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.machine.Snapshot()(&b); err != nil {
		w.t.Fatalf("%v", err)
	}
	return b.Bytes()
}

// TestGrantsOfAnotherFuture: a snapshot is restored that is older than an
// assignment, which the node has.
func TestGrantsOfAnotherFuture(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
		id := w.mustStart(granted(item("a", 1, w.spec()), "c"))[0]
		w.await("it runs", w.running(id))
		before := w.save()
		if _, err := w.d().Assign(t.Context(), request("r"), kvGrant(id, "d")); err != nil || !nodes[0].may(id, "d") {
			t.Fatal(err)
		}
		if _, err := w.d().Assign(t.Context(), request("p"), kvGrant(id, "c")); err != nil {
			t.Fatal(err)
		}
		w.restore(before)
		w.await("it has what the state says", func() bool {
			return w.running(id)() && nodes[0].may(id, "c") && !nodes[0].may(id, "d")
		})
		if err := w.d().Revoke(t.Context(), request("v"), id, "c"); err != nil || nodes[0].may(id, "c") {
			t.Errorf("revoked: %v, and it may: %v", err, nodes[0].may(id, "c"))
		}
		if next := w.mustStart(item("b", 1, w.spec())); !slices.Equal(next, []wasmatrix.InstanceID{"b-0"}) {
			t.Error(next)
		}
		w.await("others start", w.running("b-0"))
	})
}

// TestExclusiveInstanceOfAnotherFuture: a snapshot is restored that is older than
// a move. The instance never acts in two places.
func TestExclusiveInstanceOfAnotherFuture(t *testing.T) {
	kv := &store{}
	inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		x := w.mustStart(granted(item("x", 1, w.spec(exclusive)), "c"))[0]
		w.await("it runs", w.running(x))
		before := w.save()
		time.Sleep(30 * time.Second)
		first := w.on(x, nodes)
		first.set(func() { first.cut = true })
		w.await("it has moved", func() bool { return w.status(x) == wasmatrix.StatusRunning && w.on(x, nodes) != first })
		second := w.on(x, nodes)
		first.set(func() { first.cut = false })
		w.await("all is well", w.settled)
		// Its node hears of the new state late: what it holds goes on until then.
		second.set(func() { second.cut = true })
		w.restore(before)
		both := 0
		for n := range 20_000 {
			if first.may(x, "c") && second.may(x, "c") {
				both++
			}
			if n == 2000 {
				second.set(func() { second.cut = false })
			}
			time.Sleep(time.Millisecond)
		}
		w.await("all is well again", w.settled)
		if both > 0 || !may(nodes, x, "c") {
			t.Errorf("for %d ms it could act in two places; now in one: %v", both, may(nodes, x, "c"))
		}
	})
}

// TestPendingWorkOfARestoredState: exclusive instances wait until all leases that
// the state does not know are over, the others do not.
func TestExclusiveStartsWaitAfterARestore(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
		w.restore(w.save())
		restored := time.Now()
		w.await("it leads", func() bool { _, err := w.d().Renew(t.Context(), "nobody", ""); return err == nil })
		x, a := w.mustStart(item("x", 1, w.spec(exclusive))), w.mustStart(item("a", 1, w.spec()))
		w.await("the other runs", w.running(a...))
		if took := time.Since(restored); took > time.Second {
			t.Errorf("it took %s", took)
		}
		w.await("it runs", w.running(x...))
		if took := time.Since(restored); took < 3500*time.Millisecond || took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestManyFencesShareCalls: the instances of a node that is lost are fenced together.
func TestManyFencesShareCalls(t *testing.T) {
	kv := &store{}
	inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{200, 200}, func(t *testing.T, w *world, nodes []*process) {
		var ids []wasmatrix.InstanceID
		for n := range 50 {
			ids = append(ids, w.mustStart(item(fmt.Sprintf("x%d", n), 2, w.spec(exclusive)))...)
		}
		w.await("all run", w.running(ids...))
		nodes[0].kill()
		w.await("all run on the other", w.running(ids...))
		if kv.calls > 5 || len(kv.raised) != 50 {
			t.Errorf("%d fences took %d calls", len(kv.raised), kv.calls)
		}
	})
}
