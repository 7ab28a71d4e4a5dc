package group

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

const (
	// logCache is how many of the last entries stay in memory, for followers
	// that are not far behind.
	logCache = 128
	// drainTimeout bounds how long Close waits for what was proposed, which
	// ends when it is committed or leadership is lost.
	drainTimeout = 3 * time.Second
	// shutdownTimeout bounds how long Close waits for raft, which may be stuck
	// in a disk.
	shutdownTimeout = 5 * time.Second
)

// Group is one server's part in a replicated log. Its methods are safe for
// concurrent use.
type Group struct {
	conf       Config
	raft       *raft.Raft
	transport  *transport
	disk       *disk
	store      *store
	snapshots  *snapshots
	machine    *machine
	failure    *failure
	leadership *leadership
	queue      *queue
	reads      *reads
	progress   atomic.Uint64 // moves while raft or its disk do
	entries    atomic.Uint64 // proposed
	commands   atomic.Uint64 // in them

	mu   sync.Mutex
	shut bool // no further request may start

	slots     chan struct{}  // one token for each entry that is not answered
	submitted chan submitted // never blocks: no larger than slots
	ctx       context.Context
	cancel    context.CancelFunc
	loops     sync.WaitGroup // proposer, answers, reads and watchdog
	probers   sync.WaitGroup // ends with raft
	requests  sync.WaitGroup // calls of raft that callers no longer wait for
	observing sync.WaitGroup // leadership, which outlives raft

	closing sync.Once
	closed  error
}

// Open opens or creates the group's directory, restores the newest snapshot,
// and takes part in the group, if it has been bootstrapped or joined.
//
// Errors: VALIDATION_ERROR for what the configuration says, also a log store of
// the other kind, STORAGE_ERROR for what the disk says.
func Open(conf Config) (*Group, error) { return openWith(conf, nil) }

// openWith has wrap stand between raft and its store, for tests.
func openWith(conf Config, wrap func(*store)) (*Group, error) {
	conf = conf.withDefaults()
	if err := conf.validate(); err != nil {
		return nil, err
	}
	conf.Logger = conf.Logger.Named(conf.Name)
	ctx, cancel := context.WithCancel(context.Background())
	g := &Group{
		conf:      conf,
		queue:     newQueue(conf.QueueLimit, conf.QueueBytes),
		reads:     newReads(),
		slots:     make(chan struct{}, conf.MaxInFlight),
		submitted: make(chan submitted, conf.MaxInFlight),
		ctx:       ctx,
		cancel:    cancel,
	}
	g.failure = newFailure(conf.Logger, conf.Fatal)
	g.machine = newMachine(conf.Machine, g.failure, &g.progress)
	g.leadership = newLeadership(g)
	if err := g.open(wrap); err != nil {
		cancel()
		return nil, err
	}
	return g, nil
}

// open builds what touches the disk and the network.
func (g *Group) open(wrap func(*store)) (err error) {
	conf := g.conf
	if g.store, err = openStore(conf.Dir, conf.LogStore, conf.Logger); err != nil {
		return err
	}
	if wrap != nil {
		wrap(g.store)
	}
	defer func() {
		if err != nil {
			_ = g.store.close()
		}
	}()
	g.disk = &disk{logs: g.store.logs, stable: g.store.stable, failure: g.failure, progress: &g.progress, stallAfter: conf.StallAfter}
	g.snapshots, err = openSnapshots(conf.Dir, conf.SnapshotsKept, g.disk, g.failure, &g.progress, conf.Logger)
	if err != nil {
		return err
	}
	if err := repair(g.snapshots, g.disk, conf.Logger); err != nil {
		return err
	}
	cache, err := raft.NewLogCache(logCache, g.disk)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "make a log cache: %w", err)
	}
	layer, err := conf.Stream.Layer(conf.Name)
	if err != nil {
		return err
	}
	g.transport = newTransport(layer, conf.RPCTimeout, conf.Resolve, conf.Logger)
	g.transport.starting = func() {
		g.disk.armed.Store(true)
		g.machine.armed.Store(true)
	}
	g.failure.cutOff(func() { _ = g.transport.Close() })
	settings := conf.raft(g.leadership.notify)
	if err := g.begin(settings); err != nil {
		return errors.Join(err, g.transport.Close())
	}
	if err := g.recoverFrom(cache, settings); err != nil {
		return errors.Join(err, g.transport.Close())
	}
	g.raft, err = newRaft(settings, g.machine, cache, g.disk, g.snapshots, g.transport)
	if err != nil {
		return errors.Join(err, g.transport.Close())
	}
	g.observing.Go(g.leadership.run)
	g.loops.Go(g.runProposer)
	g.loops.Go(g.runAnswers)
	g.loops.Go(g.runReads)
	g.loops.Go(g.runWatchdog)
	return nil
}

// newRaft turns what raft panics with over a disk into an error. Nothing of it
// runs yet then.
func newRaft(conf *raft.Config, m raft.FSM, logs raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore, trans raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = wasmatrix.Errorf(wasmatrix.CodeStorage, "start raft: %v", p)
		}
	}()
	if r, err = raft.NewRaft(conf, m, logs, stable, snaps, trans); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "start raft: %w", err)
	}
	return r, nil
}

// Raft is for what must speak to raft itself, such as autopilot.
func (g *Group) Raft() *raft.Raft { return g.raft }

// Name returns the name of the group.
func (g *Group) Name() string { return g.conf.Name }

// await runs a call of raft that cannot be interrupted. Where ctx ends or the
// group fails first it returns that, and Close waits for the call.
func (g *Group) await(ctx context.Context, call func() error) error {
	g.mu.Lock()
	if g.shut {
		g.mu.Unlock()
		return g.ended(wasmatrix.OutcomeNone)
	}
	done := make(chan error, 1)
	g.requests.Go(func() { done <- call() })
	g.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.failure.ended:
		return g.failure.cause()
	}
}

// Close stops taking part. What was proposed is answered first, as far as that
// takes no more than seconds. Further calls wait for the first and return the
// same.
func (g *Group) Close() error {
	g.closing.Do(func() { g.closed = g.shutdown() })
	return g.closed
}

func (g *Group) shutdown() error {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	g.cancel()
	// Raft forgets some of its promises when it shuts down, so they are kept
	// before: each ends when its entry is committed or leadership is lost.
	within(drainTimeout, func() {
		g.loops.Wait()
		g.requests.Wait()
	})
	stopped := within(shutdownTimeout, func() {
		_ = g.raft.Shutdown().Error() // always nil
		g.loops.Wait()
		g.requests.Wait()
		g.probers.Wait()
	})
	close(g.leadership.stop)
	g.observing.Wait()
	g.disk.closed.Store(true)
	if !stopped {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "group %s: raft does not stop, its disk may hang", g.conf.Name)
	}
	var err error
	if !within(shutdownTimeout, func() { err = g.store.close() }) {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "group %s: the log store does not close, its disk may hang", g.conf.Name)
	}
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "close the log store of group %s: %w", g.conf.Name, err)
	}
	return nil
}

// within reports whether f returned in time. Otherwise it goes on alone.
func within(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}
