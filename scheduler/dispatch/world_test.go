package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// world is a cluster in memory: servers that share one real state machine, as
// if replication were perfect, and nodes that behave as the protocol asks.
// It lives in a synctest bubble; nothing sleeps while it holds a lock.
type world struct {
	t       tester
	machine *fsm.FSM
	servers []*server
	module  wasmatrix.Digest
	cfg     dispatch.Config

	mu        sync.Mutex
	index     uint64                        // guarded by mu, as are all below
	term      uint64                        //
	leader    *server                       // nil while there is none
	proposals map[string]int                // by command type
	delay     time.Duration                 // of a proposal
	loseNext  int                           // proposals that take effect and are answered with a failure
	reject    func(wasmatrix.Command) error // proposals that fail and take no effect
	processes map[string]*process           // by address: those that listen
	boots     int
	sameIndex func(wasmatrix.Command) bool // commands that share the log index of the one before
	resets    int                          // pings that meet a connection which broke with its process
	// lapsed collects violations of the rule that an exclusive instance has
	// effect in one place at a time.
	lapsed []string
}

// server is one server: its dispatcher, and the log as seen from there.
type server struct {
	w    *world
	name string
	d    *dispatch.Dispatcher
	end  context.CancelFunc // of its term; nil when it does not lead
	over chan struct{}      // closed when Lead has returned
	// frozen is all that the server knows, where that is not nil; guarded by w.mu.
	frozen wasmatrix.Snapshot
}

func newWorld(t tester, servers int, cfg dispatch.Config) *world {
	w := &world{
		t: t, machine: fsm.New(fsm.Options{}), module: wasmatrix.DigestOf([]byte("module")), cfg: cfg,
		proposals: make(map[string]int), delay: 2 * time.Millisecond, processes: make(map[string]*process),
	}
	if _, err := w.apply(wasmatrix.AddModule{At: wasmatrix.TimeOf(time.Now()), Module: &wasmatrix.Module{Digest: w.module, Size: 8, Kind: wasmatrix.ModuleReactor}, Name: "m"}); err != nil {
		t.Fatalf("add module: %v", err)
	}
	for i := range servers {
		s := &server{w: w, name: fmt.Sprintf("s%d", i)}
		c := cfg
		c.Log, c.State, c.Agents = s, s, agents{w}
		if testing.Verbose() {
			c.Logger = hclog.New(&hclog.LoggerOptions{Name: s.name, Level: hclog.Debug, Output: logWriter{t}})
		}
		s.d = dispatch.New(c)
		w.servers = append(w.servers, s)
	}
	return w
}

type logWriter struct{ t tester }

func (l logWriter) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

// apply applies a command as if a majority had it.
func (w *world) apply(cmd wasmatrix.Command) (any, error) {
	b, err := fsm.Encode(cmd)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sameIndex == nil || !w.sameIndex(cmd) {
		w.index++
	}
	answer := w.machine.Apply(w.index, b)
	if e, ok := answer.(*wasmatrix.Error); ok && e != nil {
		return nil, e
	}
	return answer, nil
}

// Propose implements dispatch.Log.
func (s *server) Propose(ctx context.Context, cmd wasmatrix.Command) (any, error) {
	w := s.w
	w.mu.Lock()
	delay := w.delay
	w.mu.Unlock()
	if !pause(ctx, delay) {
		return nil, ctx.Err()
	}
	w.mu.Lock()
	w.proposals[fmt.Sprintf("%T", cmd)]++
	leads, reject := w.leader == s, w.reject
	w.mu.Unlock()
	if !leads {
		return nil, wasmatrix.Errorf(wasmatrix.CodeNotLeader, "%s does not lead", s.name)
	}
	if reject != nil {
		if err := reject(cmd); err != nil {
			return nil, err
		}
	}
	answer, err := w.apply(cmd)
	w.mu.Lock()
	lose := w.loseNext > 0
	if lose {
		w.loseNext--
	}
	w.mu.Unlock()
	if lose {
		return nil, errors.New("leadership lost while committing log")
	}
	return answer, err
}

// Snapshot implements dispatch.State.
func (s *server) Snapshot() wasmatrix.Snapshot {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.frozen != nil {
		return s.frozen
	}
	return s.w.machine.State()
}

// Changed implements dispatch.State.
func (s *server) Changed() <-chan struct{} { return s.w.machine.Changed() }

func (w *world) state() wasmatrix.Snapshot { return w.machine.State() }

// elect makes a server lead. The one that led learns of it a moment later, as
// a deposed leader does.
func (w *world) elect(n int) {
	s := w.servers[n]
	w.mu.Lock()
	old := w.leader
	w.term++
	term := w.term
	w.mu.Unlock()
	if old == s {
		w.depose()
	}
	w.mu.Lock()
	w.leader = s
	w.mu.Unlock()
	ctx, end := context.WithCancel(context.Background())
	s.end, s.over = end, make(chan struct{})
	go func() {
		defer close(s.over)
		s.d.Lead(ctx, term)
	}()
	w.await(s.name+" leads", func() bool {
		_, err := s.d.Renew(ctx, "nobody", "")
		return err == nil
	})
	if old != nil && old != s {
		time.Sleep(5 * time.Millisecond)
		old.end()
		<-old.over
	}
}

// depose leaves the cluster without a leader.
func (w *world) depose() {
	w.mu.Lock()
	old := w.leader
	w.leader = nil
	w.mu.Unlock()
	if old != nil {
		old.end()
		<-old.over
	}
}

// d is the leader's dispatcher, or that of some server while there is none.
func (w *world) d() *dispatch.Dispatcher {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leader != nil {
		return w.leader.d
	}
	return w.servers[0].d
}

func (w *world) count(cmd wasmatrix.Command) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proposals[fmt.Sprintf("%T", cmd)]
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// close ends everything; call it before the bubble ends.
func (w *world) close() {
	w.depose()
	w.mu.Lock()
	var all []*process
	for _, p := range w.processes {
		all = append(all, p)
	}
	w.mu.Unlock()
	for _, p := range all {
		p.kill()
	}
}

// await waits until cond holds, which it must within a minute of fake time.
func (w *world) await(what string, cond func() bool) {
	w.t.Helper()
	for range 60_000 {
		if cond() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("never: %s\n%s", what, w.describe())
}

func (w *world) describe() string {
	var text string
	snap := w.state()
	for n := range snap.Nodes() {
		text += fmt.Sprintf("node %s %s boot %s draining %v usage %+v of %+v\n", n.ID, n.Status, n.Boot, n.Draining, snap.Usage(n.ID), n.Capacity)
	}
	for i := range snap.Instances("") {
		text += fmt.Sprintf("%s %s on %q epoch %d.%d.%d stop %v: %s; held by %v\n", i.ID, i.Status, i.Node, i.Epoch, i.Attempt, i.Seq, i.StopRequested, i.Reason, w.holders(i.ID))
	}
	return text
}

// holders lists the live processes that run an instance, as "node@epoch".
func (w *world) holders(id wasmatrix.InstanceID) []string {
	w.mu.Lock()
	var all []*process
	for _, p := range w.processes {
		all = append(all, p)
	}
	w.mu.Unlock()
	var held []string
	for _, p := range all {
		p.mu.Lock()
		if h := p.held[id]; h != nil && !h.status.Final() {
			held = append(held, fmt.Sprintf("%s@%d", p.node, h.epoch))
		}
		p.mu.Unlock()
	}
	slices.Sort(held)
	return held
}

// settled reports whether state and nodes agree about every instance: each that
// is running runs in one place, and nothing else does.
func (w *world) settled() bool {
	snap := w.state()
	for i := range snap.Instances("") {
		held := w.holders(i.ID)
		switch {
		case i.Status.Final():
			if len(held) > 0 {
				return false
			}
		case i.Status == wasmatrix.StatusRunning && !i.StopRequested:
			if len(held) != 1 || held[0] != fmt.Sprintf("%s@%d", i.Node, i.Epoch) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func (w *world) status(id wasmatrix.InstanceID) wasmatrix.Status {
	i, ok := w.state().Instance(id)
	if !ok {
		return wasmatrix.StatusUnknown
	}
	return i.Status
}

func (w *world) running(ids ...wasmatrix.InstanceID) func() bool {
	return func() bool {
		for _, id := range ids {
			i, ok := w.state().Instance(id)
			if !ok || i.Status != wasmatrix.StatusRunning || !slices.Equal(w.holders(id), []string{fmt.Sprintf("%s@%d", i.Node, i.Epoch)}) {
				return false
			}
		}
		return true
	}
}

// spec asks for little; options change it.
func (w *world) spec(options ...func(*wasmatrix.Spec)) *wasmatrix.Spec {
	s := wasmatrix.Spec{Module: w.module, Restart: wasmatrix.RestartPolicy{Mode: wasmatrix.RestartAlways}}.WithDefaults()
	for _, o := range options {
		o(&s)
	}
	return &s
}

func queued(s *wasmatrix.Spec)    { s.Queue = true }
func exclusive(s *wasmatrix.Spec) { s.Exclusive = true }

func request(id string) wasmatrix.Request {
	d := wasmatrix.DigestOf([]byte(id))
	return wasmatrix.Request{ID: wasmatrix.RequestID(id), Body: [16]byte(d[:16])}
}

// item asks for count instances named after prefix, under a request ID of the
// same name.
func item(prefix string, count int, s *wasmatrix.Spec) wasmatrix.StartItem {
	it := wasmatrix.StartItem{Request: request(prefix), Spec: s}
	for n := range count {
		it.Placements = append(it.Placements, wasmatrix.Placement{Instance: wasmatrix.InstanceID(fmt.Sprintf("%s-%d", prefix, n))})
	}
	return it
}

func (w *world) mustStart(it wasmatrix.StartItem) []wasmatrix.InstanceID {
	w.t.Helper()
	r, err := w.d().Start(context.Background(), it)
	if err != nil {
		w.t.Fatalf("start %s: %v", it.Request.ID, err)
	}
	return r.Instances
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
