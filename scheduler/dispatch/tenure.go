package dispatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
)

// tenure is the leader's work in one term.
type tenure struct {
	cfg   Config
	term  uint64
	log   hclog.Logger
	ctx   context.Context // of the term
	began time.Time
	found uint64 // index of the state as the term found it: records of later ones were made within the term
	// restored says that the state was replaced within the term, by one that may be
	// of any time before: nodes hold what it does not know, its epochs may have been
	// used, and its indexes may be below those that nodes were told.
	restored bool

	starts *gather[wasmatrix.StartItem, wasmatrix.StartResult]
	stops  *gather[wasmatrix.StopItem, struct{}]
	// capacity has a token when unplaced instances may fit that did not before.
	capacity chan struct{}

	providers providers
	fencer    fencer

	// changed and initial are the state as the term found it; the channel was
	// taken first, so that the watch misses nothing that comes after.
	changed <-chan struct{}
	initial wasmatrix.Snapshot

	mu    sync.Mutex
	links map[wasmatrix.NodeID]*link // guarded by mu

	spawning sync.Mutex
	closed   bool // guarded by spawning
	wg       sync.WaitGroup
}

func newTenure(ctx context.Context, cfg Config, term uint64, restored bool) *tenure {
	t := &tenure{
		cfg:      cfg,
		term:     term,
		log:      cfg.Logger.With("term", term),
		ctx:      ctx,
		began:    time.Now(),
		restored: restored,
		starts:   newGather[wasmatrix.StartItem, wasmatrix.StartResult](cfg.MaxWaiting),
		stops:    newGather[wasmatrix.StopItem, struct{}](0),
		capacity: make(chan struct{}, 1),
		links:    make(map[wasmatrix.NodeID]*link),
		fencer:   newFencer(),
	}
	t.changed = cfg.State.Changed()
	t.initial = cfg.State.Snapshot()
	t.found = t.initial.Index()
	for n := range t.initial.Nodes() {
		t.links[n.ID] = newLink(t, n.ID, n)
	}
	return t
}

// run works until the term ends.
func (t *tenure) run() {
	if t.restored && !t.settleIndex() {
		return
	}
	_, cursor := t.initial.FactRange()
	for _, l := range t.all() {
		l.takeOver()
	}
	t.spawn(t.plan)
	t.spawn(t.stop)
	t.spawn(t.expire)
	t.spawn(t.remind)
	t.spawn(t.collect)
	t.spawn(t.fence)
	t.spawn(t.review)
	t.sweep(t.initial)
	t.initial = nil
	t.watch(t.changed, cursor)
}

// close joins everything. Calls that wait are answered, and none comes in after.
func (t *tenure) close() {
	t.spawning.Lock()
	t.closed = true
	t.spawning.Unlock()
	t.wg.Wait()
	t.starts.close(errNotLeader())
	t.stops.close(errNotLeader())
}

// spawn runs f in a goroutine that close joins. It reports false, and does
// nothing, where the term is over.
func (t *tenure) spawn(f func(ctx context.Context)) bool {
	t.spawning.Lock()
	defer t.spawning.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(func() { f(t.ctx) })
	return true
}

// within is ctx, ended with the term at the latest.
func (t *tenure) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(t.ctx, cancel)
	return ctx, func() { unhook(); cancel() }
}

// lookup returns the link of a node, or nil.
func (t *tenure) lookup(id wasmatrix.NodeID) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.links[id]
}

// link returns the link of a node, made if need be.
func (t *tenure) link(id wasmatrix.NodeID) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.links[id]
	if l == nil {
		l = newLink(t, id, nil)
		t.links[id] = l
	}
	return l
}

func (t *tenure) all() []*link {
	t.mu.Lock()
	defer t.mu.Unlock()
	links := make([]*link, 0, len(t.links))
	for _, l := range t.links {
		links = append(links, l)
	}
	return links
}

// replan has unplaced instances looked at again.
func (t *tenure) replan() {
	select {
	case t.capacity <- struct{}{}:
	default:
	}
}

// watch follows the facts from the one after cursor.
func (t *tenure) watch(changed <-chan struct{}, cursor uint64) {
	for {
		select {
		case <-changed:
		case <-t.ctx.Done():
			return
		}
		changed = t.cfg.State.Changed()
		snap := t.cfg.State.Snapshot()
		first, last := snap.FactRange()
		if cursor+1 < first || last < cursor {
			// Facts were dropped before they were seen here, or the state was
			// replaced by an older one.
			t.sweep(snap)
		} else {
			t.follow(snap, cursor+1)
		}
		cursor = last
	}
}

// sweep looks at everything once, as if all of it had just happened.
func (t *tenure) sweep(snap wasmatrix.Snapshot) {
	for n := range snap.Nodes() {
		if n.Status != wasmatrix.NodeUp {
			t.gone(n.ID)
			continue
		}
		t.link(n.ID).adopt()
		t.link(n.ID).resync()
		var ids []wasmatrix.InstanceID
		for i := range snap.InstancesOn(n.ID) {
			if i.Status == wasmatrix.StatusStarting || i.StopRequested {
				ids = append(ids, i.ID)
			}
		}
		t.link(n.ID).direct(ids...)
	}
	t.placeProviders()
	t.replan()
}

// follow acts on the facts from an index on.
func (t *tenure) follow(snap wasmatrix.Snapshot, from uint64) {
	orders := make(map[wasmatrix.NodeID][]wasmatrix.InstanceID)
	replan, providers := false, false
	for f := range snap.Facts(from) {
		switch f.Kind {
		case wasmatrix.FactPlaced, wasmatrix.FactMoved, wasmatrix.FactRestartRequested, wasmatrix.FactStopRequested:
			if i, ok := snap.Instance(f.Instance); ok && i.Status.OnNode() {
				orders[i.Node] = append(orders[i.Node], i.ID)
			}
		case wasmatrix.FactAssigned, wasmatrix.FactRevoked:
			t.oweGrants(snap, f.Instance)
		case wasmatrix.FactNodeDown:
			t.gone(f.Node)
			replan, providers = true, true
		case wasmatrix.FactNodeForgotten:
			t.gone(f.Node)
		case wasmatrix.FactNodeUp:
			t.link(f.Node).adopt()
			replan, providers = true, true
		case wasmatrix.FactProviderChanged, wasmatrix.FactProviderRemoved:
			providers = true
		case wasmatrix.FactStopped, wasmatrix.FactExited, wasmatrix.FactFailed, wasmatrix.FactLost,
			wasmatrix.FactNodeUndrain:
			replan = true
		default: // gives a node nothing to do, and frees no capacity
		}
	}
	for id, ids := range orders {
		t.link(id).direct(ids...)
	}
	if providers {
		t.placeProviders()
	}
	if replan {
		t.replan()
	}
}

// gone takes in that a node is down, unless it has come back since.
func (t *tenure) gone(id wasmatrix.NodeID) {
	if l := t.lookup(id); l != nil {
		l.dropIfDown()
	}
}

// advance moves the log on by a command that changes nothing. The state that is
// read after it has a higher index than any that was read before.
func (t *tenure) advance(ctx context.Context) error {
	_, err := propose[[]bool](ctx, t, wasmatrix.ApplyReports{At: now()})
	return err
}

// settleIndex moves the log on past all that nodes may have been told before the
// state was replaced. It reports false when the term ended first.
func (t *tenure) settleIndex() bool {
	retry := backoff{first: 20 * time.Millisecond, limit: time.Second}
	for {
		err := t.advance(t.ctx)
		if err == nil {
			t.changed = t.cfg.State.Changed()
			t.initial = t.cfg.State.Snapshot()
			return true
		}
		t.log.Warn("the state was replaced, and the log does not move", "error", err)
		if !retry.wait(t.ctx) {
			return false
		}
	}
}

// propose commits a command and returns its answer.
func propose[A any](ctx context.Context, t *tenure, cmd wasmatrix.Command) (A, error) {
	var none A
	v, err := t.cfg.Log.Propose(ctx, cmd)
	if err != nil {
		return none, t.outcome(ctx, err)
	}
	a, ok := v.(A)
	if !ok {
		return none, wasmatrix.Errorf(wasmatrix.CodeInternal, "the state machine answered %T with %T", cmd, v)
	}
	return a, nil
}

// outcome gives an error of the log a code.
func (t *tenure) outcome(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return err
	}
	switch {
	case t.ctx.Err() != nil:
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "this server stopped leading while the request was under way").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	case ctx.Err() != nil:
		return errTimeout(wasmatrix.OutcomeUnknown)
	default:
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "propose: %w", err).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	}
}

func errNotLeader() *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "this server does not lead the cluster")
}

func errTimeout(outcome string) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the request was given up before it was answered").
		With(wasmatrix.DetailOutcome, outcome)
}

func now() wasmatrix.Time { return wasmatrix.TimeOf(time.Now()) }

// backoff is a delay that doubles up to a limit, with jitter.
type backoff struct{ next, first, limit time.Duration }

func (b *backoff) reset() { b.next = 0 }

// delay returns how long to wait this time: half of it is random.
func (b *backoff) delay() time.Duration {
	b.next = min(max(b.first, 2*b.next), b.limit)
	return b.next/2 + rand.N(b.next/2+1)
}

// wait reports false when ctx ended first.
func (b *backoff) wait(ctx context.Context) bool { return sleep(ctx, b.delay()) }

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
