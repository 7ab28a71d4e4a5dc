package group

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// lateAfter is how long a read waits for the machine before it asks with a
// barrier whether anything is left to apply: the index may be that of a no-op,
// which the machine never sees.
const lateAfter = 20 * time.Millisecond

// reads turns all reads that wait at the same time into one round.
type reads struct {
	mu      sync.Mutex
	waiting []chan readResult
	closed  bool
	barrier uint64 // term in which a barrier has been applied
	wake    chan struct{}
}

type readResult struct {
	index uint64
	err   error
}

func newReads() *reads { return &reads{wake: make(chan struct{}, 1)} }

// forget makes the next round begin with a barrier.
func (r *reads) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.barrier = 0
}

func (r *reads) add() (chan readResult, bool) {
	c := make(chan readResult, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false
	}
	r.waiting = append(r.waiting, c)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return c, true
}

func (r *reads) take(last bool) []chan readResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.waiting
	r.waiting = nil
	r.closed = r.closed || last
	return all
}

// Read returns when the local state contains everything that was acknowledged
// anywhere before Read was called, and the index that it contains at least. It
// works on the leader only, and writes nothing but a barrier once a term.
//
// Errors: NOT_LEADER, NO_LEADER, TIMEOUT where ctx ends first, STORAGE_ERROR.
func (g *Group) Read(ctx context.Context) (uint64, error) {
	if g.failure.failed() {
		return 0, g.ended(wasmatrix.OutcomeNone)
	}
	if !g.leads() {
		return 0, g.notLeader()
	}
	c, ok := g.reads.add()
	if !ok {
		return 0, g.ended(wasmatrix.OutcomeNone)
	}
	select {
	case r := <-c:
		return r.index, r.err
	case <-ctx.Done():
		return 0, timedOut(ctx.Err(), wasmatrix.OutcomeNone)
	case <-g.failure.ended:
		return 0, g.ended(wasmatrix.OutcomeNone)
	}
}

func (g *Group) runReads() {
	for {
		select {
		case <-g.reads.wake:
		case <-g.ctx.Done():
			for _, c := range g.reads.take(true) {
				c <- readResult{err: g.ended(wasmatrix.OutcomeNone)}
			}
			return
		}
		waiting := g.reads.take(false)
		if len(waiting) == 0 {
			continue
		}
		index, err := g.confirm()
		for _, c := range waiting {
			c <- readResult{index, err}
		}
	}
}

// confirm is one round: it began after every read that it answers.
//
// Raft's own VerifyLeader is not enough. It counts every answer that comes in
// after it was asked, also one to a heartbeat sent before: a leader that was
// paused, or cut off while an answer was on its way, would confirm itself with
// what its followers thought long ago. So we ask raft for the heartbeats, and
// count only answers to requests that were sent after the round began.
func (g *Group) confirm() (uint64, error) {
	term, tenure := g.leadership.current()
	if tenure == nil {
		return 0, g.notLeader()
	}
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	defer context.AfterFunc(tenure, cancel)()

	// Until an entry of our own term is applied, the state may lack what earlier
	// leaders acknowledged.
	g.reads.mu.Lock()
	settled := g.reads.barrier == term
	g.reads.mu.Unlock()
	if !settled {
		if err := g.settle(ctx, term); err != nil {
			return 0, g.readError(ctx, err)
		}
	}
	index := g.raft.CommitIndex()
	mark := g.transport.now()
	g.raft.VerifyLeader() // its answer is of no use; it makes raft send heartbeats now
	for !g.quorum(term, mark) {
		select {
		case <-g.transport.acked:
		case <-ctx.Done():
			return 0, g.readError(ctx, ctx.Err())
		case <-g.failure.ended:
			return 0, g.ended(wasmatrix.OutcomeNone)
		}
	}
	if now, self := g.ownTerm(); !self || now != term {
		return 0, g.notLeader()
	}
	for {
		late, done := context.WithTimeout(ctx, lateAfter)
		err := g.machine.wait(late, index)
		done()
		if err == nil {
			return index, nil
		}
		if ctx.Err() != nil {
			return 0, g.readError(ctx, err)
		}
		if g.failure.failed() {
			return 0, g.ended(wasmatrix.OutcomeNone)
		}
		if g.raft.AppliedIndex() >= index {
			if err := g.settle(ctx, term); err != nil {
				return 0, g.readError(ctx, err)
			}
		}
	}
}

// settle applies everything that is in the log at the moment.
func (g *Group) settle(ctx context.Context, term uint64) error {
	var index uint64
	err := g.await(ctx, func() error {
		f := g.raft.Barrier(g.conf.RPCTimeout)
		err := f.Error()
		if entry, ok := f.(raft.IndexFuture); ok && err == nil {
			index = entry.Index()
		}
		return err
	})
	if err != nil {
		return err
	}
	if now, self := g.ownTerm(); !self || now != term {
		return raft.ErrNotLeader
	}
	g.machine.reached(index)
	g.reads.mu.Lock()
	defer g.reads.mu.Unlock()
	g.reads.barrier = term
	return nil
}

// quorum reports whether a majority of the voters, this server among them if
// it votes, has confirmed the term since the mark.
func (g *Group) quorum(term, mark uint64) bool {
	voters, confirmed := 0, 0
	for _, s := range g.configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID == raft.ServerID(g.conf.ID) || g.transport.confirmed(s.ID, term, mark) {
			confirmed++
		}
	}
	return confirmed > voters/2
}

// readError is the error of a read, which has no effect whatever happened.
func (g *Group) readError(ctx context.Context, err error) error {
	if g.ctx.Err() != nil || g.failure.failed() {
		return g.ended(wasmatrix.OutcomeNone)
	}
	if ctx.Err() != nil { // the term ended
		return g.notLeader()
	}
	return withOutcome(wasmatrix.AsError(g.translate(err)), wasmatrix.OutcomeNone)
}
