package dispatch

import (
	"context"
	"slices"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// gather collects calls until a loop takes them, many at once, and answers them.
type gather[T, R any] struct {
	limit int // of calls that wait; 0 is none
	// ready has a token when calls may be waiting.
	ready chan struct{}

	mu      sync.Mutex
	waiting []*call[T, R] // guarded by mu
	closed  error         // guarded by mu
}

// call is one waiting caller. Its result is written before done is closed.
type call[T, R any] struct {
	value  T
	tries  int // plans it has been in; the loop's own
	done   chan struct{}
	result R
	err    error
}

func newGather[T, R any](limit int) *gather[T, R] {
	return &gather[T, R]{limit: limit, ready: make(chan struct{}, 1)}
}

func (c *call[T, R]) finish(r R, err error) {
	c.result, c.err = r, err
	close(c.done)
}

// do waits until v has been answered or ctx ends.
func (g *gather[T, R]) do(ctx context.Context, v T) (R, error) {
	c := &call[T, R]{value: v, done: make(chan struct{})}
	var none R
	if err := g.add(c); err != nil {
		return none, err
	}
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
	}
	if g.withdraw(c) {
		return none, errTimeout(wasmatrix.OutcomeNone)
	}
	select {
	case <-c.done:
		return c.result, c.err
	default:
		return none, errTimeout(wasmatrix.OutcomeUnknown)
	}
}

func (g *gather[T, R]) add(c *call[T, R]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		return g.closed
	}
	if g.limit > 0 && len(g.waiting) >= g.limit {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "%d requests are waiting already", len(g.waiting))
	}
	g.waiting = append(g.waiting, c)
	g.signal()
	return nil
}

// withdraw reports whether c was still waiting; it never will be taken then.
func (g *gather[T, R]) withdraw(c *call[T, R]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, c)
	if i < 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	return true
}

// take removes calls from the front for as long as more wants the next.
func (g *gather[T, R]) take(more func(T) bool) []*call[T, R] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for n < len(g.waiting) && more(g.waiting[n].value) {
		n++
	}
	taken := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	if len(g.waiting) > 0 {
		g.signal()
	}
	return taken
}

// again puts calls back to the front.
func (g *gather[T, R]) again(calls []*call[T, R]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.Insert(g.waiting, 0, calls...)
	g.signal()
}

// close answers all calls that wait, and every later one, with err.
func (g *gather[T, R]) close(err error) {
	g.mu.Lock()
	waiting := g.waiting
	g.waiting, g.closed = nil, err
	g.mu.Unlock()
	var none R
	for _, c := range waiting {
		c.finish(none, err)
	}
}

func (g *gather[T, R]) signal() {
	select {
	case g.ready <- struct{}{}:
	default:
	}
}
