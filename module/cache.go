package module

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// Cache is a store that fetches the modules it misses. Its fields are set
// before use; all methods may be called from any goroutine.
type Cache struct {
	Store *Store
	// Fetch writes a module's bytes. It may be called again with a new w after
	// it broke off or what it wrote was not the module, and had better ask
	// somebody else then.
	Fetch func(ctx context.Context, d wasmatrix.Digest, w io.Writer) error

	flights Flights
}

// fetches is how often a Cache asks for a module that it does not get whole.
const fetches = 3

// Module returns a module's bytes, verified, which the caller may keep but not
// change. However many ask for one at a time, it is fetched once.
func (c *Cache) Module(ctx context.Context, d wasmatrix.Digest) ([]byte, error) {
	for try := 1; ; try++ {
		b, err := c.Store.Read(d)
		if wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
			return b, err
		}
		err = c.flights.Do(ctx, d, func() error { return c.fetch(ctx, d) })
		if err != nil {
			return nil, err
		}
		// The bytes may have been evicted or damaged between the two.
		if try == fetches {
			return nil, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the module cache has no room to keep module %s", d)
		}
	}
}

func (c *Cache) fetch(ctx context.Context, d wasmatrix.Digest) error {
	if c.Store.Has(d) {
		return nil // another flight has just landed
	}
	for try := 1; ; try++ {
		err := c.fetchOnce(ctx, d)
		if err == nil || try == fetches || ctx.Err() != nil {
			return err
		}
		switch wasmatrix.CodeOf(err) {
		case wasmatrix.CodeCommunication, wasmatrix.CodeNoLeader:
		default:
			return err
		}
	}
}

func (c *Cache) fetchOnce(ctx context.Context, d wasmatrix.Digest) error {
	w, err := c.Store.Create(unlimited)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := c.Fetch(ctx, d, w); err != nil {
		return err
	}
	return AsTransfer(w.Commit(d, -1))
}

// unlimited is the limit of a Writer that only the store bounds.
const unlimited = 1<<63 - 1

// AsTransfer turns E1, which a [Writer] answers to bytes that are not the
// module, into COMMUNICATION_FAILURE, which is what it is when the bytes come
// from a peer. Other errors are returned as they are.
func AsTransfer(err error) error {
	if wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		return err
	}
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "what came is not the module: %w", err)
}

// Flights lets one call at a time through for each digest. The zero value is
// ready for use.
type Flights struct {
	mu   sync.Mutex
	live map[wasmatrix.Digest]*flight
}

type flight struct {
	landed chan struct{}
	err    error // set before landed is closed
}

// Do calls f unless a call for the digest is under way; then it waits for that
// one and returns its error. It starts no goroutine: f is bound to the context
// of the caller that came first, and where that is cut off, one of those who
// wait calls its own f.
func (g *Flights) Do(ctx context.Context, d wasmatrix.Digest, f func() error) error {
	for {
		g.mu.Lock()
		other := g.live[d]
		if other == nil {
			return g.fly(d, f)
		}
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return contextError(ctx)
		case <-other.landed:
		}
		if other.err == nil || !isCutOff(other.err) {
			return other.err
		}
		if ctx.Err() != nil {
			return contextError(ctx)
		}
	}
}

// fly runs f. The caller holds mu, which fly releases.
func (g *Flights) fly(d wasmatrix.Digest, f func() error) error {
	own := &flight{landed: make(chan struct{}), err: errPanicked}
	if g.live == nil {
		g.live = make(map[wasmatrix.Digest]*flight)
	}
	g.live[d] = own
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.live, d)
		g.mu.Unlock()
		close(own.landed)
	}()
	own.err = f()
	return own.err
}

// errPanicked is what those who wait are told when f did not return.
var errPanicked = wasmatrix.Errorf(wasmatrix.CodeInternal, "a module transfer panicked")

func isCutOff(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Flying reports whether a call for the digest is under way.
func (g *Flights) Flying(d wasmatrix.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.live[d] != nil
}
