package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// inWorld runs a test in a bubble with a leader and nodes n0, n1, …, which have
// room for as many instances as given.
func inWorld(t *testing.T, cfg dispatch.Config, rooms []uint32, f func(t *testing.T, w *world, nodes []*process)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, cfg)
		defer w.close()
		w.elect(0)
		var nodes []*process
		for i, room := range rooms {
			nodes = append(nodes, w.boot(fmt.Sprintf("n%d", i), room))
		}
		w.up(nodes...)
		f(t, w, nodes)
	})
}

func TestStartRuns(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 4, w.spec()))
		for _, id := range ids {
			if i, ok := w.state().Instance(id); !ok || i.Status != wasmatrix.StatusStarting || i.Node == "" || i.Epoch != 1 {
				t.Errorf("acknowledged %s is %+v", id, i)
			}
		}
		w.await("all run", w.running(ids...))
		for _, p := range nodes {
			if len(p.held) != 2 {
				t.Errorf("%s has %d instances of 4", p.node, len(p.held))
			}
		}
	})
}

// TestConcurrentStartsShareProposals: what comes while a proposal is under way
// goes with the next, and orders likewise.
func TestConcurrentStartsShareProposals(t *testing.T) {
	const callers = 500
	inWorld(t, dispatch.Config{}, []uint32{400, 400}, func(t *testing.T, w *world, nodes []*process) {
		var wg sync.WaitGroup
		var ids []wasmatrix.InstanceID
		for n := range callers {
			ids = append(ids, wasmatrix.InstanceID(fmt.Sprintf("r%d-0", n)))
			wg.Go(func() { w.mustStart(item(fmt.Sprintf("r%d", n), 1, w.spec())) })
		}
		wg.Wait()
		w.await("all run", w.running(ids...))
		if n := w.count(wasmatrix.StartInstances{}); n > 5 {
			t.Errorf("%d starts took %d proposals", callers, n)
		}
		for _, p := range nodes {
			if p.executes > 10 {
				t.Errorf("%s got %d orders in %d messages", p.node, p.orders, p.executes)
			}
		}
	})
}

func TestStartWithoutCapacityExplains(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{2, 1}, func(t *testing.T, w *world, _ []*process) {
		w.mustStart(item("a", 2, w.spec()))
		_, err := w.d().Start(t.Context(), item("b", 2, w.spec()))
		if wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted || !strings.Contains(err.Error(), "room for 1 of 2") || !strings.Contains(err.Error(), "memory is exhausted on 2") {
			t.Errorf("start beyond capacity: %v", err)
		}
		if n := w.state().InstanceCount(); n != 2 {
			t.Errorf("%d instances exist: all of an item or none", n)
		}
		_, err = w.d().Start(t.Context(), item("c", 1, w.spec(func(s *wasmatrix.Spec) {
			s.Constraints = []wasmatrix.Constraint{{Key: "zone", Values: []string{"b"}}}
		})))
		if wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted || !strings.Contains(err.Error(), `constraint "zone=b" excludes 2`) {
			t.Errorf("start in no zone: %v", err)
		}
	})
}

// TestQueuedStartWaitsForCapacity: capacity that an end or a new node brings is
// used at once, and nothing is proposed while nothing fits.
func TestQueuedStartWaitsForCapacity(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{2}, func(t *testing.T, w *world, nodes []*process) {
		first := w.mustStart(item("a", 3, w.spec(queued)))
		w.await("two run", w.running(first[:2]...))
		if s := w.status(first[2]); s != wasmatrix.StatusPending {
			t.Fatalf("the third is %s", s)
		}
		second := w.mustStart(item("b", 1, w.spec(queued)))

		before := w.count(wasmatrix.PlaceInstances{})
		time.Sleep(time.Minute)
		if n := w.count(wasmatrix.PlaceInstances{}); n != before {
			t.Errorf("%d proposals while nothing fits", n-before)
		}

		nodes[0].end(first[0])
		w.await("the one that came first runs", w.running(first[2]))
		if s := w.status(second[0]); s != wasmatrix.StatusPending {
			t.Errorf("the one that came later is %s", s)
		}
		w.boot("n1", 1)
		w.await("a new node takes the other", w.running(second[0]))
	})
}

// TestUndrainBringsCapacity: drained nodes take nothing, and everything again.
func TestUndrainBringsCapacity(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{2}, func(t *testing.T, w *world, _ []*process) {
		if _, err := w.apply(wasmatrix.DrainNode{Node: "n0", Drain: true}); err != nil {
			t.Fatal(err)
		}
		ids := w.mustStart(item("a", 1, w.spec(queued)))
		time.Sleep(time.Second)
		if s := w.status(ids[0]); s != wasmatrix.StatusPending {
			t.Fatalf("on a draining node: %s", s)
		}
		if _, err := w.apply(wasmatrix.DrainNode{Node: "n0"}); err != nil {
			t.Fatal(err)
		}
		w.await("it runs", w.running(ids...))
	})
}

func TestQueueIsBounded(t *testing.T) {
	inWorld(t, dispatch.Config{MaxPending: 3}, nil, func(t *testing.T, w *world, _ []*process) {
		w.mustStart(item("a", 3, w.spec(queued)))
		_, err := w.d().Start(t.Context(), item("b", 1, w.spec(queued)))
		if wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted || !strings.Contains(err.Error(), "queue is full") {
			t.Errorf("beyond the queue: %v", err)
		}
	})
}

func TestWaitingCallsAreBounded(t *testing.T) {
	inWorld(t, dispatch.Config{MaxWaiting: 3}, []uint32{100}, func(t *testing.T, w *world, _ []*process) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for n := range 50 {
			wg.Go(func() {
				_, err := w.d().Start(context.Background(), item(fmt.Sprintf("r%d", n), 1, w.spec()))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case wasmatrix.CodeOf(err) == wasmatrix.CodeResourceExhausted:
					refused++
				case err != nil:
					t.Errorf("start: %v", err)
				}
			})
		}
		wg.Wait()
		if n := w.state().InstanceCount(); refused == 0 || n+refused != 50 {
			t.Errorf("%d started and %d refused of 50", n, refused)
		}
	})
}

// TestRetriedStartHasItsEffectOnce, whatever happened to the first answer.
func TestRetriedStartHasItsEffectOnce(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
		w.set(func() { w.loseNext = 1 })
		_, err := w.d().Start(t.Context(), item("a", 1, w.spec()))
		if err == nil || wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown {
			t.Fatalf("an answer was lost: %v", err)
		}
		again := item("a", 1, w.spec())
		again.Placements[0].Instance = "other" // a retry draws IDs anew
		r, err := w.d().Start(t.Context(), again)
		if err != nil || !r.Duplicate || len(r.Instances) != 1 || r.Instances[0] != "a-0" {
			t.Fatalf("retry: %+v, %v", r, err)
		}
		again.Request.Body[0]++
		if _, err := w.d().Start(t.Context(), again); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
			t.Errorf("same ID, other body: %v", err)
		}
		// Many at once, none of them known yet, and room for one: they are planned
		// together, behind another request that is under way.
		var wg sync.WaitGroup
		w.set(func() { w.delay = 50 * time.Millisecond })
		wg.Go(func() { w.mustStart(item("c", 8, w.spec())) })
		synctest.Wait()
		for range 10 {
			wg.Go(func() { w.mustStart(item("b", 1, w.spec())) })
		}
		wg.Wait()
		w.await("it runs though its first caller heard nothing", w.running("a-0", "b-0"))
		if n := w.state().InstanceCount(); n != 10 {
			t.Errorf("%d instances exist", n)
		}
	})
}

// TestGivingUpHurtsNobodyElse: one caller's deadline is its own.
func TestGivingUpHurtsNobodyElse(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
		w.set(func() { w.delay = 100 * time.Millisecond })
		var wg sync.WaitGroup
		start := func(name string, patience time.Duration, outcome string) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_, err := w.d().Start(ctx, item(name, 1, w.spec()))
				got := ""
				if err != nil {
					got = wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome]
				}
				if got != outcome {
					t.Errorf("%s: outcome %q (%v), not %q", name, got, err, outcome)
				}
			})
			synctest.Wait()
		}
		start("taken", 50*time.Millisecond, wasmatrix.OutcomeUnknown)
		start("waiting", 50*time.Millisecond, wasmatrix.OutcomeNone)
		start("patient", time.Second, "")
		wg.Wait()
		if w.status("waiting-0") != wasmatrix.StatusUnknown {
			t.Error("a request that was given up with outcome none took effect")
		}
		w.await("the others run", w.running("taken-0", "patient-0"))
	})
}

// TestLostRacesAreReplanned: a node that fills up or goes between plan and
// commit costs another plan, not the request.
func TestLostRacesAreReplanned(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{1, 1}, func(t *testing.T, w *world, _ []*process) {
		raced := false
		w.set(func() {
			w.reject = func(cmd wasmatrix.Command) error {
				if c, ok := cmd.(wasmatrix.StartInstances); ok && !raced {
					raced = true
					// Someone else fills the node just before.
					it := item("thief", 1, w.spec())
					it.Placements[0].Node = c.Items[0].Placements[0].Node
					_, err := w.apply(wasmatrix.StartInstances{Items: []wasmatrix.StartItem{it}})
					return err
				}
				return nil
			}
		})
		ids := w.mustStart(item("a", 1, w.spec()))
		w.await("both run", w.running(append(ids, "thief-0")...))
		if n := w.count(wasmatrix.StartInstances{}); !raced || n != 2 {
			t.Errorf("%d proposals", n)
		}
	})
}

func TestEverythingNeedsALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, dispatch.Config{})
		defer w.close()
		check := func() {
			t.Helper()
			d, ctx := w.servers[0].d, t.Context()
			_, start := d.Start(ctx, item("a", 1, w.spec()))
			_, restart := d.Restart(ctx, request("r"), "a-0")
			_, register := d.Register(ctx, wasmatrix.Registration{ID: "n", Boot: "b", Addr: "n:1"})
			_, renew := d.Renew(ctx, "n", "b")
			_, report := d.Report(ctx, "n", "b", nil)
			d.Suspect("n", "test")
			for n, err := range []error{start, restart, register, renew, report, d.Stop(ctx, request("s"), "a-0")} {
				if wasmatrix.CodeOf(err) != wasmatrix.CodeNotLeader {
					t.Errorf("call %d: %v", n, err)
				}
			}
		}
		check()
		w.elect(0)
		synctest.Wait()
		if _, err := w.servers[0].d.Renew(t.Context(), "n", "b"); err != nil {
			t.Errorf("a leader: %v", err)
		}
		w.depose()
		check()
	})
}

// TestLosingLeadershipAnswersEveryCaller: those that wait learn that nothing
// happened, those under way that they cannot know.
func TestLosingLeadershipAnswersEveryCaller(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{100}, func(t *testing.T, w *world, _ []*process) {
		w.set(func() { w.delay = time.Second })
		d := w.d()
		var wg sync.WaitGroup
		outcomes := make(map[wasmatrix.Code]int)
		var mu sync.Mutex
		call := func(name string) {
			wg.Go(func() {
				_, err := d.Start(context.Background(), item(name, 1, w.spec()))
				mu.Lock()
				defer mu.Unlock()
				outcomes[wasmatrix.CodeOf(err)]++
			})
			synctest.Wait()
		}
		call("under-way")
		call("waiting")
		w.depose()
		wg.Wait()
		if outcomes[wasmatrix.CodeCommunication] != 1 || outcomes[wasmatrix.CodeNotLeader] != 1 {
			t.Errorf("answers: %v", outcomes)
		}
	})
}
