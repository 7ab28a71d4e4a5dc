package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

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
		case "", wasmatrix.CodeInstanceNotFound, wasmatrix.CodeRestartPolicyViolation:
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

// TestP12_NodeFailureLosesNothing does whatever can happen to nodes, leaders
// and messages, in any order, while clients start, stop and restart instances.
// When all is well again every acknowledged instance runs once where the state
// says, or has ended for a reason that the state records. No exclusive instance
// was ever able to act in two places (P23).
func TestP12_NodeFailureLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(inBubble{t}, func(t *rapid.T) {
			s := newChaos(t)
			defer s.w.close()
			for range rapid.IntRange(3, 25).Draw(t, "steps") {
				s.step(t)
			}
			s.heal()
			s.check()
		})
	})
}

// inBubble hides the deadline, which no test may read in a bubble.
type inBubble struct{ rapid.TB }

// chaos is one run of the property.
type chaos struct {
	t       *rapid.T
	w       *world
	nodes   []*process // by number; of one that is killed, the last process
	clients sync.WaitGroup
	started int
	frail   []wasmatrix.InstanceID // their policy lets them end with their node

	mu    sync.Mutex
	acked []wasmatrix.InstanceID
	ended map[wasmatrix.InstanceID]bool // may be final: asked to stop, or exited
}

func newChaos(t *rapid.T) *chaos {
	s := &chaos{t: t, w: newWorld(t, 3, dispatch.Config{}), ended: make(map[wasmatrix.InstanceID]bool)}
	s.w.elect(0)
	for n := range 3 {
		s.nodes = append(s.nodes, s.w.boot(fmt.Sprintf("n%d", n), 200))
	}
	s.w.up(s.nodes...)
	return s
}

func (s *chaos) step(t *rapid.T) {
	w := s.w
	p := s.nodes[rapid.IntRange(0, len(s.nodes)-1).Draw(t, "node")]
	switch action := rapid.SampledFrom([]string{
		"start", "start", "start", "stop", "restart", "exit", "kill", "boot", "pause", "resume", "cut", "mend", "deafen", "elect", "depose", "lose", "suspect", "wait", "wait",
	}).Draw(t, "action"); action {
	case "start":
		s.start(t)
	case "stop", "restart":
		s.ask(t, action)
	case "exit":
		s.exit(p)
	case "kill":
		p.kill()
	case "boot":
		p.kill()
		s.nodes[slices.Index(s.nodes, p)] = w.boot(string(p.node), 200)
	case "pause":
		p.stop()
	case "resume":
		p.resume()
	case "cut":
		p.set(func() { p.cut = true })
	case "mend":
		p.set(func() { p.cut = false })
	case "deafen":
		p.set(func() { p.deaf = 2 })
	case "elect":
		w.elect(rapid.IntRange(0, 2).Draw(t, "server"))
	case "depose":
		w.depose()
	case "lose":
		w.set(func() { w.loseNext = rapid.IntRange(1, 3).Draw(t, "answers") })
	case "suspect":
		w.d().Suspect(p.node, "gossip")
	case "wait":
		time.Sleep(time.Duration(rapid.SampledFrom([]int{1, 10, 100, 1000, 3000, 6000}).Draw(t, "milliseconds")) * time.Millisecond)
	}
}

func (s *chaos) start(t *rapid.T) {
	name := fmt.Sprintf("r%d", s.started)
	s.started++
	spec := s.w.spec(func(spec *wasmatrix.Spec) {
		spec.Exclusive = rapid.IntRange(0, 3).Draw(t, "exclusive") == 0
		spec.Queue = rapid.Bool().Draw(t, "queue")
	})
	count := rapid.IntRange(1, 3).Draw(t, "count")
	it := item(name, count, spec)
	if rapid.IntRange(0, 4).Draw(t, "frail") == 0 {
		spec.Restart = wasmatrix.RestartPolicy{}
		for _, p := range it.Placements {
			s.frail = append(s.frail, p.Instance)
		}
	}
	s.clients.Go(func() {
		_ = s.w.persist(context.Background(), func(ctx context.Context) error { // without end, it does not fail
			r, err := s.w.d().Start(ctx, item(name, count, spec))
			if err == nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.acked = append(s.acked, r.Instances...)
			}
			return err
		})
	})
}

func (s *chaos) ask(t *rapid.T, what string) {
	s.mu.Lock()
	n := rapid.IntRange(0, 20).Draw(t, "which")
	if len(s.acked) == 0 {
		s.mu.Unlock()
		return
	}
	slices.Sort(s.acked)
	id := s.acked[n%len(s.acked)]
	if what == "stop" {
		s.ended[id] = true
	}
	s.mu.Unlock()
	s.started++
	req := request(fmt.Sprintf("q%d", s.started))
	s.clients.Go(func() {
		// That it is gone, or final and cannot be restarted, is an answer as well.
		_ = s.w.persist(context.Background(), func(ctx context.Context) error {
			if what == "stop" {
				return s.w.d().Stop(ctx, req, id)
			}
			_, err := s.w.d().Restart(ctx, req, id)
			return err
		})
	})
}

// exit ends one of a node's instances, the first by ID.
func (s *chaos) exit(p *process) {
	p.mu.Lock()
	var ids []wasmatrix.InstanceID
	for id, h := range p.held {
		if !h.status.Final() {
			ids = append(ids, id)
		}
	}
	p.mu.Unlock()
	if len(ids) > 0 {
		id := slices.Min(ids)
		s.mu.Lock()
		s.ended[id] = true
		s.mu.Unlock()
		p.end(id)
	}
}

func (s *chaos) heal() {
	for n, p := range s.nodes {
		p.set(func() { p.cut, p.deaf = false, 0 })
		p.resume()
		select {
		case <-p.dead:
			s.nodes[n] = s.w.boot(string(p.node), 200)
		default:
		}
	}
	s.w.set(func() { s.w.loseNext = 0 })
	s.w.mu.Lock()
	led := s.w.leader != nil
	s.w.mu.Unlock()
	if !led {
		s.w.elect(1)
	}
	s.clients.Wait()
}

func (s *chaos) check() {
	w := s.w
	w.await("everything is settled", w.settled)
	if w.state().InstanceCount() != len(s.acked) {
		s.t.Fatalf("%d instances exist and %d were acknowledged\n%s", w.state().InstanceCount(), len(s.acked), w.describe())
	}
	for _, id := range s.acked {
		switch st := w.status(id); {
		case st == wasmatrix.StatusRunning:
		case st.Final() && s.ended[id]:
		case st == wasmatrix.StatusCrashed && slices.Contains(s.frail, id):
		default:
			s.t.Fatalf("acknowledged %s is %s\n%s", id, st, w.describe())
		}
	}
	for id := range s.ended {
		if i, _ := w.state().Instance(id); i.StopRequested && !i.Status.Final() {
			s.t.Fatalf("%s was to stop and is %s", id, i.Status)
		}
	}
	if len(w.lapsed) > 0 {
		s.t.Fatalf("%v", w.lapsed)
	}
}
