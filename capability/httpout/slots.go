package httpout

import (
	"context"
	"net/http"
	"slices"
)

// slots counts connections, those that are being made as well. It is guarded by
// Provider.mu.
type slots struct {
	total   int
	toHost  map[string]int // by host:port
	waiting []*waiter      // in order of arrival
}

// waiter waits for a connection to be closed.
type waiter struct {
	addr    string
	granted chan struct{} // closed when the slot is taken for it
}

func (p *Provider) fits(addr string) bool {
	return p.total < p.maxTotal && p.toHost[addr] < p.config.MaxConnections
}

func (p *Provider) take(addr string) {
	p.total++
	p.toHost[addr]++
}

// release gives a slot back, to whom waits for it longest. The caller holds p.mu.
func (p *Provider) release(addr string) {
	p.total--
	if p.toHost[addr]--; p.toHost[addr] == 0 {
		delete(p.toHost, addr)
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(w *waiter) bool {
		if !p.fits(w.addr) {
			return false
		}
		p.take(w.addr)
		close(w.granted)
		return true
	})
}

// acquire takes a slot for a connection to addr, and waits for one if it must,
// until ctx ends or the request is served otherwise. Idle connections of others
// are closed for it.
func (p *Provider) acquire(ctx context.Context, h *hop, addr string) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errStopped
	}
	if p.fits(addr) {
		p.take(addr)
		p.mu.Unlock()
		return nil
	}
	served := h.served()
	w := &waiter{addr: addr, granted: make(chan struct{})}
	p.waiting = append(p.waiting, w)
	var spare []*conn
	var busy []*http.Transport
	for _, pl := range p.pools {
		pl.mu.Lock()
		open := len(pl.open)
		pl.mu.Unlock()
		switch {
		case len(pl.conns) == 0:
		case open == 0:
			spare = append(spare, p.retire(pl)...)
		default:
			busy = append(busy, pl.transport)
		}
	}
	p.mu.Unlock()
	closeAll(spare)
	for _, t := range busy {
		t.CloseIdleConnections()
	}
	var err error
	select {
	case <-w.granted:
		return nil
	case <-served:
		err = errUnneeded
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.granted:
		p.release(addr)
	default:
		p.waiting = slices.DeleteFunc(p.waiting, func(o *waiter) bool { return o == w })
	}
	return err
}

// giveBack is for a connection that was not made.
func (p *Provider) giveBack(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(addr)
}
