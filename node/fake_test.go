package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/cpu"
	"github.com/wasmatrix/wasmatrix/node/engine"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
)

// TestMain is the compiler's process, too: the test binary executes itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == compile.Verb {
		os.Exit(compile.Main(os.Stdin, os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

// control is a control plane that takes reports as the state machine does.
type control struct {
	ttl time.Duration

	mu            sync.Mutex // guards all below
	onCall        func(verb string, reports []wasmatrix.Report) error
	term          uint64
	away          bool
	resync        bool // the next renewal asks for a registration
	registrations []wasmatrix.Registration
	renewals      int
	batches       []int
	log           []wasmatrix.Report            // every report that arrived
	denials       map[uint64][]wasmatrix.Denial // by batch
	known         map[wasmatrix.InstanceID]*wasmatrix.Instance
}

var errAway = wasmatrix.Errorf(wasmatrix.CodeNoLeader, "away")

func newControl() *control {
	return &control{ttl: 3 * time.Second, term: 1, known: make(map[wasmatrix.InstanceID]*wasmatrix.Instance)}
}

// call lets onCall decide about a call before it has its effect.
func (c *control) call(verb string, reports []wasmatrix.Report) error {
	c.mu.Lock()
	f := c.onCall
	c.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(verb, reports)
}

// hook sets onCall while the node is at work.
func (c *control) hook(f func(verb string, reports []wasmatrix.Report) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onCall = f
}

// sessions counts registrations and renewals.
func (c *control) sessions() (registrations, renewals int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.registrations), c.renewals
}

func (c *control) Register(_ context.Context, r wasmatrix.Registration) (wasmatrix.Lease, error) {
	if err := c.call("register", nil); err != nil {
		return wasmatrix.Lease{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return wasmatrix.Lease{}, errAway
	}
	c.registrations = append(c.registrations, r)
	c.resync = false
	return wasmatrix.Lease{TTL: int64(c.ttl), Term: c.term}, nil
}

func (c *control) Renew(context.Context, wasmatrix.NodeID, wasmatrix.BootID) (wasmatrix.Lease, error) {
	if err := c.call("renew", nil); err != nil {
		return wasmatrix.Lease{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return wasmatrix.Lease{}, errAway
	}
	c.renewals++
	return wasmatrix.Lease{TTL: int64(c.ttl), Term: c.term, Resync: c.resync}, nil
}

func (c *control) Report(_ context.Context, _ wasmatrix.NodeID, _ wasmatrix.BootID, reports []wasmatrix.Report) error {
	if err := c.call("report", reports); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return errAway
	}
	c.batches = append(c.batches, len(reports))
	for _, r := range reports {
		c.apply(r)
	}
	return nil
}

func (c *control) ReportDenials(_ context.Context, _ wasmatrix.NodeID, _ wasmatrix.BootID, seq uint64, denials []wasmatrix.Denial) error {
	err := c.call("denials", nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return errAway
	}
	if c.denials == nil {
		c.denials = make(map[uint64][]wasmatrix.Denial)
	}
	c.denials[seq] = denials
	return err
}

// apply is what the state machine does with a report, reduced. The caller holds
// mu.
func (c *control) apply(r wasmatrix.Report) {
	c.log = append(c.log, r)
	i := c.known[r.Instance]
	if i == nil {
		i = &wasmatrix.Instance{ID: r.Instance, Epoch: r.Epoch, Status: wasmatrix.StatusStarting}
		c.known[r.Instance] = i
	}
	if r.Epoch != i.Epoch || i.Status.Final() || !i.After(r.Epoch, r.Attempt, r.Seq) {
		return
	}
	if before := max(i.Attempt, 1); r.Attempt > before {
		i.Restarts += r.Attempt - before
	}
	i.Attempt, i.Seq, i.Status, i.LastError, i.ExitCode, i.Reason = r.Attempt, r.Seq, r.Status, r.Error, r.ExitCode, r.Reason
}

// place tells the control plane that it has given an instance a new epoch.
func (c *control) place(id wasmatrix.InstanceID, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[id] = &wasmatrix.Instance{ID: id, Epoch: epoch, Status: wasmatrix.StatusStarting}
}

func (c *control) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// reports returns what has arrived of an instance, each once.
func (c *control) reports(id wasmatrix.InstanceID) []wasmatrix.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []wasmatrix.Report
	for _, r := range c.log {
		if r.Instance == id && !slices.ContainsFunc(out, func(o wasmatrix.Report) bool { return o.Epoch == r.Epoch && o.Seq == r.Seq }) {
			out = append(out, r)
		}
	}
	return out
}

// arrived returns every report that has arrived, in that order.
func (c *control) arrived() []wasmatrix.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

func (c *control) instance(id wasmatrix.InstanceID) wasmatrix.Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.known[id]; i != nil {
		return *i
	}
	return wasmatrix.Instance{}
}

// summary writes reports as "running/1 backoff/1 running/2".
func summary(reports []wasmatrix.Report) string {
	s := ""
	for _, r := range reports {
		s += fmt.Sprintf("%s/%d ", r.Status, r.Attempt)
	}
	return s[:max(0, len(s)-1)]
}

// guests is an engine of functions. They are called with the module's digest in
// place of a program.
type guests struct {
	run func(ctx context.Context, cfg engine.RunConfig) engine.Exit
	err func() error // of Load; nil is none

	kind    wasmatrix.ModuleKind
	prepare bool

	mu      sync.Mutex
	active  int
	loaded  int
	maximum int // of active
}

func (g *guests) Load(ctx context.Context, _ wasmatrix.Digest, fetch engine.Fetch) (guest, error) {
	if g.err != nil {
		if err := g.err(); err != nil {
			return nil, err
		}
	}
	if _, err := fetch(ctx); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.loaded++
	return &fakeGuest{g}, nil
}

func (g *guests) Prepare(wasmatrix.Digest, engine.Fetch) bool { return g.prepare }

func (g *guests) Usage() engine.Usage { return engine.Usage{Cores: 2} }

func (g *guests) Share(millis uint32) *cpu.Share { return cpu.New(cpu.Config{}).Join(millis) }

// running counts the guests that run.
func (g *guests) running() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.active
}

type fakeGuest struct{ g *guests }

func (f *fakeGuest) Kind() wasmatrix.ModuleKind { return f.g.kind }

func (f *fakeGuest) Release() {
	f.g.mu.Lock()
	defer f.g.mu.Unlock()
	f.g.loaded--
}

func (f *fakeGuest) Run(ctx context.Context, cfg engine.RunConfig) engine.Exit {
	f.g.mu.Lock()
	f.g.active++
	f.g.maximum = max(f.g.maximum, f.g.active)
	f.g.mu.Unlock()
	defer func() {
		f.g.mu.Lock()
		f.g.active--
		f.g.mu.Unlock()
	}()
	return f.g.run(ctx, cfg)
}

// stay is a guest that runs until it is ended.
func stay(ctx context.Context, cfg engine.RunConfig) engine.Exit {
	cfg.OnRunning()
	<-ctx.Done()
	return engine.Exit{Kind: engine.Cancelled}
}

var (
	exitOK   = engine.Exit{Kind: engine.OK}
	exitTrap = engine.Exit{Kind: engine.Trap, Message: "unreachable", Stack: []string{"f()"}}
)

// noModules gives every module as no bytes.
type noModules struct{}

func (noModules) Module(context.Context, wasmatrix.Digest) ([]byte, error) { return nil, nil }

// fakeNode makes a node and runs it until the test ends, which sees that it
// leaves nothing behind.
func fakeNode(t *testing.T, cfg Config) *Node {
	t.Helper()
	n := idleNode(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return n
}

// idleNode is fakeNode without Run.
func idleNode(t *testing.T, cfg Config) *Node {
	t.Helper()
	cfg.ID, cfg.Boot, cfg.Addr = "n1", "boot-1", "127.0.0.1:1"
	if cfg.Capacity == (wasmatrix.Capacity{}) {
		cfg.Capacity = wasmatrix.Capacity{Memory: 1 << 40, Instances: 1 << 20}
	}
	if cfg.Modules == nil {
		cfg.Modules = noModules{}
	}
	if testing.Verbose() {
		cfg.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: t.Output()})
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		checkEmpty(t, n)
	})
	return n
}

// checkEmpty sees that a closed node has given everything back.
func checkEmpty(t *testing.T, n *Node) {
	t.Helper()
	if g, ok := n.cfg.guests.(*guests); ok && (g.active != 0 || g.loaded != 0) {
		t.Errorf("%d guests run and %d modules are held after Close", g.active, g.loaded)
	}
	if len(n.ending) != 0 {
		t.Errorf("after Close calls of %d buried instances are waited for", len(n.ending))
	}
	if n.room.used != (wasmatrix.Capacity{}) || len(n.room.waiting) != 0 || len(n.starts) != 0 {
		t.Errorf("after Close %+v of the room is used, %d wait for some, %d start", n.room.used, len(n.room.waiting), len(n.starts))
	}
}

func spec(change ...func(*wasmatrix.Spec)) *wasmatrix.Spec {
	s := wasmatrix.Spec{Module: wasmatrix.DigestOf([]byte("m"))}
	for _, c := range change {
		c(&s)
	}
	s = s.WithDefaults()
	return &s
}

func restart(mode wasmatrix.RestartMode, retries uint32, b wasmatrix.Backoff) func(*wasmatrix.Spec) {
	return func(s *wasmatrix.Spec) {
		s.Restart = wasmatrix.RestartPolicy{Mode: mode, MaxRetries: retries, Backoff: b}
	}
}

func startOrder(id wasmatrix.InstanceID, epoch uint64, s *wasmatrix.Spec) wasmatrix.Order {
	return wasmatrix.Order{Kind: wasmatrix.OrderStart, Instance: id, Epoch: epoch, Spec: s}
}

func stopOrder(id wasmatrix.InstanceID, epoch uint64) wasmatrix.Order {
	return wasmatrix.Order{Kind: wasmatrix.OrderStop, Instance: id, Epoch: epoch}
}

func forgetOrder(id wasmatrix.InstanceID, epoch uint64) wasmatrix.Order {
	return wasmatrix.Order{Kind: wasmatrix.OrderStop, Instance: id, Epoch: epoch, Forget: true}
}

func execute(t testing.TB, n *Node, orders ...wasmatrix.Order) {
	t.Helper()
	if err := n.Execute(context.Background(), 1, n.cfg.Boot, 0, orders); err != nil {
		t.Fatal(err)
	}
}

// bubble runs f where time passes only while everything waits.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// within runs one case of a property in a bubble of its own. What rapid draws is
// drawn before, since it and the bubble do not know each other.
func within(t *testing.T, rt *rapid.T, f func(t *testing.T) error) {
	var err error
	synctest.Test(t, func(t *testing.T) { err = f(t) })
	if err != nil {
		rt.Fatal(err)
	}
}

// held returns what the node would say it holds.
func held(n *Node) map[wasmatrix.InstanceID]wasmatrix.Holding {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[wasmatrix.InstanceID]wasmatrix.Holding)
	for _, h := range n.holding() {
		out[h.Instance] = h
	}
	return out
}

var errBroken = errors.New("connection broken")
