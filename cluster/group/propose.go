package group

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// proposal is one command on its way into the log.
type proposal struct {
	command []byte
	state   atomic.Int32
	done    chan answered
}

// The states of a proposal. Whoever moves it from waiting decides whether it
// may have an effect.
const (
	waiting int32 = iota
	taken
	withdrawn
)

type answered struct {
	answer any
	index  uint64
	err    error
}

// queue holds the commands that wait for the proposer.
type queue struct {
	limit, byteLimit int

	mu     sync.Mutex
	items  []*proposal
	bytes  int
	closed bool
	wake   chan struct{}
}

func newQueue(limit, byteLimit int) *queue {
	return &queue{limit: limit, byteLimit: byteLimit, wake: make(chan struct{}, 1)}
}

func (q *queue) put(p *proposal) (ok, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, true
	}
	if len(q.items) >= q.limit || len(q.items) > 0 && q.bytes+len(p.command) > q.byteLimit {
		return false, false
	}
	q.items = append(q.items, p)
	q.bytes += len(p.command)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true, false
}

// take returns the next batch: at least one command if any waits.
func (q *queue) take(maxCount, maxBytes int) []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []*proposal
	size, n := 0, 0
	for _, p := range q.items {
		if len(batch) == maxCount || len(batch) > 0 && size+len(p.command) > maxBytes {
			break
		}
		n++
		q.bytes -= len(p.command)
		if p.state.CompareAndSwap(waiting, taken) {
			batch = append(batch, p)
			size += len(p.command)
		}
	}
	q.items = slices.Delete(q.items, 0, n)
	if len(q.items) == 0 {
		q.items = nil // lets go of what a burst made
	} else {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return batch
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// close returns what is left, which nobody takes any more.
func (q *queue) close() []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.items
	q.items, q.bytes, q.closed = nil, 0, true
	return left
}

// Propose has a majority store the command, applies it, and returns what the
// state machine answered here and the index of the entry it was in. An answer
// that is an error is returned as the error. The caller must not change command
// afterwards. Commands proposed at the same time share an entry, in the order in
// which they came.
//
// Errors other than the machine's carry [wasmatrix.DetailOutcome]. Outcome none:
// NOT_LEADER, NO_LEADER, RESOURCE_EXHAUSTED, and TIMEOUT while still queued.
// Outcome unknown: TIMEOUT, COMMUNICATION_FAILURE and STORAGE_ERROR after that.
func (g *Group) Propose(ctx context.Context, command []byte) (answer any, index uint64, err error) {
	if len(command) > g.conf.MaxCommandBytes {
		return nil, 0, withOutcome(wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "a command has %d bytes, at most %d are allowed", len(command), g.conf.MaxCommandBytes), wasmatrix.OutcomeNone)
	}
	if g.failure.failed() {
		return nil, 0, g.ended(wasmatrix.OutcomeNone)
	}
	if !g.leads() {
		return nil, 0, g.notLeader()
	}
	p := &proposal{command: command, done: make(chan answered, 1)}
	if ok, closed := g.queue.put(p); closed {
		return nil, 0, g.ended(wasmatrix.OutcomeNone)
	} else if !ok {
		return nil, 0, withOutcome(wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "too many commands wait to be written to group %s", g.conf.Name), wasmatrix.OutcomeNone)
	}
	select {
	case a := <-p.done:
		return a.answer, a.index, a.err
	case <-ctx.Done():
		outcome := p.withdraw()
		if a, ok := p.answered(); ok {
			return a.answer, a.index, a.err
		}
		return nil, 0, timedOut(ctx.Err(), outcome)
	case <-g.failure.ended:
		return nil, 0, g.ended(p.withdraw())
	}
}

// withdraw takes the command back if it still waits, and returns what may have
// become of it.
func (p *proposal) withdraw() string {
	if p.state.CompareAndSwap(waiting, withdrawn) {
		return wasmatrix.OutcomeNone
	}
	return wasmatrix.OutcomeUnknown
}

func (p *proposal) answered() (answered, bool) {
	select {
	case a := <-p.done:
		return a, true
	default:
		return answered{}, false
	}
}

// submitted is an entry that raft has taken and not yet answered.
type submitted struct {
	batch  []*proposal
	future raft.ApplyFuture
}

// runProposer packs what is queued into entries. It holds back while too many
// are unanswered, and raft holds it back while it writes the last one: meanwhile
// the next grows.
func (g *Group) runProposer() {
	defer close(g.submitted)
	defer func() {
		for _, p := range g.queue.close() {
			if p.state.CompareAndSwap(waiting, taken) {
				p.done <- answered{err: g.ended(wasmatrix.OutcomeNone)}
			}
		}
	}()
	for {
		select {
		case <-g.queue.wake:
		case <-g.ctx.Done():
			return
		}
		select {
		case g.slots <- struct{}{}:
		case <-g.ctx.Done():
			return
		}
		batch := g.queue.take(g.conf.MaxBatchCommands, g.conf.MaxBatchBytes)
		if len(batch) == 0 {
			<-g.slots
			continue
		}
		commands, size := make([][]byte, len(batch)), frameOverhead(len(batch))
		for i, p := range batch {
			commands[i] = p.command
			size += len(p.command)
		}
		entry := raft.Log{Data: appendFrame(make([]byte, 0, size), commands)}
		g.entries.Add(1)
		g.commands.Add(uint64(len(batch)))
		g.submitted <- submitted{batch, g.raft.ApplyLog(entry, g.conf.RPCTimeout)}
	}
}

// runAnswers answers proposals, in the order of their entries, which is the
// order in which raft settles them.
func (g *Group) runAnswers() {
	for s := range g.submitted {
		err := s.future.Error()
		<-g.slots
		if err == nil && g.failure.failed() {
			err = g.failure.cause() // I11: nothing is acknowledged any more
		}
		if err != nil {
			err = g.translate(err)
			for _, p := range s.batch {
				p.done <- answered{err: err}
			}
			continue
		}
		answers, ok := s.future.Response().([]any)
		if !ok || len(answers) != len(s.batch) {
			err := withOutcome(wasmatrix.Errorf(wasmatrix.CodeInternal, "the state machine did not answer"), wasmatrix.OutcomeUnknown)
			for _, p := range s.batch {
				p.done <- answered{err: err}
			}
			continue
		}
		for i, p := range s.batch {
			a := answered{answer: answers[i], index: s.future.Index()}
			if failed, ok := a.answer.(error); ok {
				a.answer, a.err = nil, failed
			}
			p.done <- a
		}
	}
}
