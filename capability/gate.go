package capability

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
)

// Config configures a [Gate]. Providers is required.
type Config struct {
	Providers Providers
	// Alive reports whether this node's lease is valid. Without one no call is
	// admitted, whatever the instance was given: the leader may have revoked it, or
	// placed the instance elsewhere, without being able to say so here (I6, I7).
	// nil is always.
	Alive  func() bool
	Limits Limits
	// Audit has a line for every kind of denial and for how often it came; nil
	// discards.
	Audit hclog.Logger
}

// Gate is where all capability calls of a node's guests come by. Its methods may
// be called concurrently.
type Gate struct {
	providers Providers
	alive     func() bool
	limits    Limits
	denials   denials

	calls, refused atomic.Uint64
	open           atomic.Int64

	mu      sync.Mutex
	clients map[*Client]struct{}
	resumed chan struct{} // closed, and made anew, when the lease is valid again
}

// NewGate makes a gate. It starts nothing and needs no closing.
func NewGate(c Config) *Gate {
	if c.Alive == nil {
		c.Alive = func() bool { return true }
	}
	if c.Audit == nil {
		c.Audit = hclog.NewNullLogger()
	}
	return &Gate{
		providers: c.Providers, alive: c.Alive, limits: c.Limits.withDefaults(), denials: denials{log: c.Audit},
		clients: make(map[*Client]struct{}), resumed: make(chan struct{}),
	}
}

// Lapsed ends all calls under way, which fail with PROVIDER_UNAVAILABLE. It is
// called when the lease has run out.
func (g *Gate) Lapsed() {
	g.mu.Lock()
	clients := make([]*Client, 0, len(g.clients))
	for c := range g.clients {
		clients = append(clients, c)
	}
	g.mu.Unlock()
	for _, c := range clients {
		c.lapse()
	}
}

// Resumed lets subscriptions that have lapsed go on. It is called when the lease
// is valid again.
func (g *Gate) Resumed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.resumed)
	g.resumed = make(chan struct{})
}

func (g *Gate) resumption() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.resumed
}

// Stats counts calls since the gate was made.
type Stats struct {
	Calls  uint64 // admitted
	Denied uint64
	Open   uint32 // under way
}

// Stats returns the counters.
func (g *Gate) Stats() Stats {
	return Stats{Calls: g.calls.Load(), Denied: g.refused.Load(), Open: uint32(max(0, g.open.Load()))}
}

// Denials takes what has been refused since the last call, at most n kinds of
// it, each of them once with its count.
func (g *Gate) Denials(n int) []wasmatrix.Denial { return g.denials.take(n) }
