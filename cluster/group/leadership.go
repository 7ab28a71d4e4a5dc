package group

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// Leader is who leads a group, as far as this server knows.
type Leader struct {
	ID    wasmatrix.ServerID
	Addr  string // where its listener is, as it says itself
	Term  uint64 // the latest that this server has seen
	Self  bool   // this server leads in Term
	Known bool
}

// leadership follows who leads. It is raft's only reader of leadership
// notices, which raft waits for.
type leadership struct {
	group  *Group
	notify chan bool             // raft blocks on it until its shutdown
	hints  chan raft.Observation // tells that something has changed, not what
	stop   chan struct{}

	mu      sync.Mutex
	leader  Leader
	tenure  context.Context // ends with our own leadership; nil while another leads
	endTerm context.CancelFunc
	next    int
	subs    map[int]chan Leader
}

func newLeadership(g *Group) *leadership {
	return &leadership{
		group:  g,
		notify: make(chan bool, 8),
		hints:  make(chan raft.Observation, 1),
		stop:   make(chan struct{}),
		subs:   make(map[int]chan Leader),
	}
}

// run reads notices until stop is closed, after raft's shutdown.
func (l *leadership) run() {
	observer := raft.NewObserver(l.hints, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		default:
			return false
		}
	})
	l.group.raft.RegisterObserver(observer)
	defer l.group.raft.DeregisterObserver(observer)
	failed := l.group.failure.ended
	for {
		l.update()
		select {
		case <-l.notify:
		case <-l.hints:
		case <-failed:
			failed = nil
		case <-l.stop:
			l.publish(Leader{})
			return
		}
	}
}

// update takes over what raft says now.
func (l *leadership) update() {
	addr, id := l.group.raft.LeaderWithID()
	term, self := l.group.ownTerm()
	now := Leader{ID: wasmatrix.ServerID(id), Addr: string(addr), Term: term, Self: self, Known: id != ""}
	if self {
		now.ID, now.Addr, now.Known = l.group.conf.ID, l.group.conf.Stream.Addr().String(), true
	} else if now.ID == l.group.conf.ID {
		now = Leader{Term: term} // on its way into or out of the lead
	}
	l.publish(now)
}

// ownTerm returns raft's term, and whether this server leads in it. Raft steps
// down before it raises its term, and raises it before it is elected, so a term
// that is the same before and after is the one it leads in.
func (g *Group) ownTerm() (uint64, bool) {
	if g.failure.failed() {
		return g.raft.CurrentTerm(), false
	}
	for {
		before := g.raft.CurrentTerm()
		leads := g.raft.State() == raft.Leader
		if after := g.raft.CurrentTerm(); after == before {
			return before, leads
		}
	}
}

func (g *Group) leads() bool {
	_, self := g.ownTerm()
	return self
}

func (l *leadership) publish(now Leader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now == l.leader {
		return
	}
	if l.tenure != nil && (!now.Self || now.Term != l.leader.Term) {
		l.endTerm()
		l.tenure, l.endTerm = nil, nil
	}
	if now.Self && l.tenure == nil {
		l.tenure, l.endTerm = context.WithCancel(context.Background())
	}
	l.leader = now
	for _, c := range l.subs {
		offer(c, now)
	}
}

// offer replaces what a subscriber has not taken yet. Only publish sends, under
// its lock.
func offer(c chan Leader, now Leader) {
	select {
	case <-c:
	default:
	}
	c <- now
}

// current returns our term and a context that ends with it; nil while another
// leads.
func (l *leadership) current() (uint64, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader.Term, l.tenure
}

// Leader returns who leads, without asking anyone.
func (g *Group) Leader() Leader {
	g.leadership.mu.Lock()
	defer g.leadership.mu.Unlock()
	if g.failure.failed() { // the change may still be on its way
		return Leader{Term: g.leadership.leader.Term}
	}
	return g.leadership.leader
}

// LeadershipChanged returns a channel that gives the present leader first and
// then each change; a slow receiver finds only the latest. Cancel ends it, and
// does not close the channel.
func (g *Group) LeadershipChanged() (changes <-chan Leader, cancel func()) {
	l := g.leadership
	c := make(chan Leader, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.next
	l.next++
	l.subs[id] = c
	c <- l.leader
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs, id)
	}
}

// Lead runs work each time this server has become the leader, under a context
// that ends with the term, and waits for its return before the next. Work that
// returns early is not started again in the same term. Lead returns when ctx
// ends or the group is closed, after work has.
//
// At the beginning of work the state may lack entries of earlier terms: call
// Read first.
func (g *Group) Lead(ctx context.Context, work func(ctx context.Context, term uint64)) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(g.ctx, stop)() //nolint:contextcheck // Lead ends with its caller or the group, whichever is first
	changes, cancel := g.LeadershipChanged()
	defer cancel()
	done := uint64(0) // the last term that work was run in
	for ctx.Err() == nil {
		if term, tenure := g.leadership.current(); tenure != nil && term != done {
			done = term
			during, end := context.WithCancel(ctx)
			unlink := context.AfterFunc(tenure, end) //nolint:contextcheck // likewise: or with the term
			work(during, term)
			unlink()
			end()
			continue
		}
		select {
		case <-changes:
		case <-ctx.Done():
		}
	}
}
