package dispatch_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// TestNewLeaderFinishesWhatTheStateSays: everything that was committed and not
// carried out when the leader before went is carried out by the next.
func TestNewLeaderFinishesWhatTheStateSays(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, _ []*process) {
		ids := w.mustStart(item("a", 4, w.spec()))
		w.await("all run", w.running(ids...))
		w.depose()
		// What the leader committed last, and never told any node.
		placed := item("placed", 1, w.spec())
		placed.Placements[0].Node = "n0"
		waiting := item("waiting", 1, w.spec(queued))
		for _, cmd := range []wasmatrix.Command{
			wasmatrix.StartInstances{Items: []wasmatrix.StartItem{placed, waiting}},
			wasmatrix.StopInstances{Items: []wasmatrix.StopItem{{Instance: ids[0]}}},
			wasmatrix.RestartInstance{Instance: ids[1]},
		} {
			if _, err := w.apply(cmd); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute) // leases count anew however long nobody led
		elected := time.Now()
		w.elect(1)
		w.await("all is done", func() bool {
			return w.status(ids[0]) == wasmatrix.StatusStopped && w.running(ids[1], ids[2], ids[3], "placed-0", "waiting-0")() && w.settled()
		})
		if took := time.Since(elected); took > time.Second {
			t.Errorf("it took %s", took)
		}
		time.Sleep(10 * time.Second)
		if n := w.count(wasmatrix.MarkNodeDown{}); n != 0 {
			t.Errorf("%d times a node was marked down", n)
		}
	})
}

// TestLeaderAndNodeGoTogether: the next leader finds out by itself.
func TestLeaderAndNodeGoTogether(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 6, w.spec()))
		w.await("all run", w.running(ids...))
		w.depose()
		nodes[0].kill()
		elected := time.Now()
		w.elect(1)
		w.await("all run on the other node", w.running(ids...))
		if took := time.Since(elected); took > 200*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

// TestOldLeaderIsNotObeyed: orders that arrive late carry an old term.
func TestOldLeaderIsNotObeyed(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 1, w.spec()))
		w.await("it runs", w.running(ids...))
		w.elect(1)
		w.await("the node knows", func() bool {
			nodes[0].mu.Lock()
			defer nodes[0].mu.Unlock()
			return nodes[0].term == 2
		})
		n, _ := w.state().Node("n0")
		err := agents{w}.Execute(t.Context(), n, 1, w.state().Index(), []wasmatrix.Order{{Kind: wasmatrix.OrderStop, Instance: ids[0], Epoch: 1, Forget: true}})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeConflict || !w.running(ids...)() {
			t.Errorf("an order of term 1 in term 2: %v", err)
		}
	})
}

// TestStartsThroughElections: 200 starts stream in while the leader changes
// again and again. Each has its effect once.
func TestStartsThroughElections(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{200, 200}, func(t *testing.T, w *world, _ []*process) {
		var wg sync.WaitGroup
		var ids []wasmatrix.InstanceID
		for n := range 200 {
			ids = append(ids, wasmatrix.InstanceID(fmt.Sprintf("r%d-0", n)))
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 5 * time.Millisecond)
				err := w.persist(context.Background(), func(ctx context.Context) error {
					_, err := w.d().Start(ctx, item(fmt.Sprintf("r%d", n), 1, w.spec()))
					return err
				})
				if err != nil {
					t.Errorf("start %d: %v", n, err)
				}
			})
		}
		for n := range 5 {
			time.Sleep(200 * time.Millisecond)
			w.set(func() { w.loseNext = 1 })
			w.elect((n + 1) % 2)
		}
		wg.Wait()
		w.await("all run", w.running(ids...))
		if n := w.state().InstanceCount(); n != 200 || !w.settled() {
			t.Errorf("%d instances", n)
		}
	})
}

// TestOneDispatcherManyTerms: a server may lead, step down and lead again.
func TestOneDispatcherManyTerms(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(_ *testing.T, w *world, _ []*process) {
		for n := range 5 {
			ids := w.mustStart(item(fmt.Sprintf("a%d", n), 1, w.spec()))
			w.await("it runs", w.running(ids...))
			w.elect(0)
		}
	})
}

// persist retries as a client does, with the same request, until it succeeds or
// ctx ends.
func (w *world) persist(ctx context.Context, f func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := f(try)
		cancel()
		switch wasmatrix.CodeOf(err) {
		case "", wasmatrix.CodeInstanceNotFound, wasmatrix.CodeRestartPolicyViolation, wasmatrix.CodeCapabilityNotFound:
			return err
		case wasmatrix.CodeNotLeader, wasmatrix.CodeNoLeader, wasmatrix.CodeCommunication, wasmatrix.CodeTimeout,
			wasmatrix.CodeInternal, wasmatrix.CodeResourceExhausted:
		default:
			w.t.Fatalf("a client got %v", err)
		}
		if !pause(ctx, 30*time.Millisecond) {
			return ctx.Err()
		}
	}
}
