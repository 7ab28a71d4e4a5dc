package compile

import (
	"context"

	"github.com/wasmatrix/wasmatrix"
)

// flight is a compilation that is under way, for all who wait for it.
type flight struct {
	key    string
	done   chan struct{} // closed at its end
	err    error         // set before
	cancel context.CancelFunc

	// Guarded by Cache.mu.
	waiters int
	kept    bool   // goes on when nobody waits
	entry   *entry // its result, pinned until the last who waited has used it
}

// wait returns the flight's error at its end, or the cause of ctx.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// join begins the compilation of a module, or counts the caller in on the one
// that is under way. It is followed by leave.
func (c *Cache) join(key string, digest wasmatrix.Digest, fetch Fetch) (*flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed()
	}
	if err := c.failed.find(key); err != nil {
		return nil, err
	}
	f := c.flights[key]
	if f == nil {
		f = c.launch(key, digest, fetch)
	}
	f.waiters++
	return f, nil
}

// leave counts the caller out. The last one ends what is still under way.
func (c *Cache) leave(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiters--; f.waiters > 0 {
		return
	}
	if e := f.entry; e != nil {
		f.entry = nil
		c.index.unpin(e, c.log)
		c.index.evict(c.cfg.DirBytes, c.log)
	}
	if !f.kept {
		f.cancel()
		c.forget(f) // who comes now begins anew
	}
}

// launch begins a compilation. The caller holds mu.
func (c *Cache) launch(key string, digest wasmatrix.Digest, fetch Fetch) *flight {
	ctx, cancel := context.WithCancel(c.ctx)
	f := &flight{key: key, done: make(chan struct{}), cancel: cancel}
	c.flights[key] = f
	c.running.Go(func() {
		defer close(f.done)
		defer cancel()
		err := c.build(ctx, f, digest, fetch)
		if err != nil && c.ctx.Err() != nil {
			err = errClosed()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.forget(f)
		f.err = err
		c.index.evict(c.cfg.DirBytes, c.log)
	})
	return f
}

// land puts into the cache what a child has left in dir. From then on the result
// is pinned for those who wait, and who comes now finds it there: in between,
// others that make room would take it away.
func (c *Cache) land(f *flight, dir string, m *manifest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.index.put(f.key, dir, m); err != nil {
		return err
	}
	c.forget(f)
	if f.waiters > 0 {
		f.entry = c.index.pin(f.key)
	}
	return nil
}

// forget takes a flight out, if it is still the one for its module. The caller
// holds mu.
func (c *Cache) forget(f *flight) {
	if c.flights[f.key] == f {
		delete(c.flights, f.key)
	}
}

func errClosed() error {
	return wasmatrix.Errorf(wasmatrix.CodeInternal, "the compilation cache is closed")
}
