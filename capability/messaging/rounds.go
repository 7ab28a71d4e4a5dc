package messaging

import "sync"

// rounds lets callers that come at the same time share one run of something slow:
// all who join before a run begins wait for its end. Of a lone caller's it is one.
type rounds struct {
	do   func() error
	kick chan struct{} // has one when next is not nil

	mu    sync.Mutex
	next  *round
	ended error // no more runs
}

// round is one run.
type round struct {
	done    chan struct{} // closed at the end; err is valid then
	err     error
	tickets []*ticket // given back at the end
}

func newRounds(do func() error) *rounds {
	return &rounds{do: do, kick: make(chan struct{}, 1)}
}

// join returns a run that has not begun. t may be nil.
func (r *rounds) join(t *ticket) *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		t.giveBack()
		n := &round{done: make(chan struct{})}
		n.end(r.ended)
		return n
	}
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
		r.kick <- struct{}{}
	}
	if t != nil {
		r.next.tickets = append(r.next.tickets, t)
	}
	return r.next
}

// run makes the runs until stop is closed, and then fails the one that waits and
// all that are to come.
func (r *rounds) run(stop <-chan struct{}, cause func() error) {
	for {
		select {
		case <-r.kick:
		case <-stop:
		}
		select {
		case <-stop:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ended = cause()
			if r.next != nil {
				r.next.end(r.ended)
			}
			return
		default:
		}
		r.mu.Lock()
		n := r.next
		r.next = nil
		r.mu.Unlock()
		n.end(r.do())
	}
}

func (n *round) end(err error) {
	n.err = err
	for _, t := range n.tickets {
		t.giveBack()
	}
	close(n.done)
}
