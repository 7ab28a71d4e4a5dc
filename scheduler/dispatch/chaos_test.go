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

// TestP12_NodeFailureLosesNothing does whatever can happen to nodes, leaders
// and messages, in any order, while clients start, stop and restart instances and
// revoke what those were given. No call succeeds under what was revoked (I7).
// When all is well again every acknowledged instance runs once where the state
// says, or has ended for a reason that the state records. No exclusive instance
// was ever able to act in two places (P23).
func TestP12_NodeFailureLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(inBubble{t}, func(t *rapid.T) {
			s := newChaos(t)
			defer s.w.close()
			defer s.watchRevoked()()
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
	// revoked are instances whose capability is revoked, and acted those that used it
	// after that.
	revoked map[wasmatrix.InstanceID]bool
	acted   []string
}

func newChaos(t *rapid.T) *chaos {
	s := &chaos{t: t, w: newWorld(t, 3, dispatch.Config{}), ended: make(map[wasmatrix.InstanceID]bool), revoked: make(map[wasmatrix.InstanceID]bool)}
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
		"start", "start", "start", "stop", "restart", "revoke", "revoke", "exit", "kill", "boot", "pause", "resume", "cut", "mend", "deafen", "elect", "depose", "lose", "suspect", "wait", "wait",
	}).Draw(t, "action"); action {
	case "start":
		s.start(t)
	case "stop", "restart", "revoke":
		s.ask(t, action)
	case "exit":
		s.exit(p)
	case "kill":
		p.kill()
	case "boot":
		p.kill()
		s.reboot(slices.Index(s.nodes, p))
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
			r, err := s.w.d().Start(ctx, granted(item(name, count, spec), "c"))
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
			switch what {
			case "stop":
				return s.w.d().Stop(ctx, req, id)
			case "revoke":
				err := s.w.d().Revoke(ctx, req, id, "c")
				if err == nil {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.revoked[id] = true
				}
				return err
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
			s.reboot(n)
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
	w.await("each may do what the state says", func() bool {
		for i := range w.state().Instances("") {
			_, given := w.state().Assignment(i.ID, "c")
			for _, p := range s.nodes {
				if p.may(i.ID, "c") != (given && i.Node == p.node && i.Status == wasmatrix.StatusRunning) {
					return false
				}
			}
		}
		return true
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.acted) > 0 {
		s.t.Fatalf("revoked, and used after that: %v\n%s", s.acted, w.describe())
	}
}

func (s *chaos) reboot(n int) {
	p := s.w.boot(string(s.nodes[n].node), 200)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[n] = p
}

// watchRevoked notes calls under what was revoked, until the function that it
// returns is called.
func (s *chaos) watchRevoked() (stop func()) {
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-done:
				return
			case <-time.After(7 * time.Millisecond):
			}
			s.mu.Lock()
			for id := range s.revoked {
				for _, p := range s.nodes {
					if p.may(id, "c") && len(s.acted) < 10 {
						s.acted = append(s.acted, fmt.Sprintf("%s on %s", id, p.node))
					}
				}
			}
			s.mu.Unlock()
		}
	}()
	return func() { close(done); <-over }
}
