package httpout

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Bounds of connections.
const (
	dialTimeout      = 10 * time.Second // of resolving and connecting, of all addresses together
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 30 * time.Second
	pingAfter        = 15 * time.Second // of silence on HTTP/2 with requests under way
	pingTimeout      = 10 * time.Second
	maxIdle          = 16      // connections of one pool to one host
	window           = 1 << 19 // bytes of a body that HTTP/2 takes before the guest does
	maxConnections   = 4096    // of one provider
)

// poolKey identifies an assignment of an instance under an epoch.
type poolKey struct {
	instance    wasmatrix.InstanceID
	incarnation uint64
	epoch       uint64
	capability  wasmatrix.CapabilityID
	granted     uint64
}

func keyOf(s *capability.Scope) poolKey {
	return poolKey{s.Instance, s.Incarnation, s.Epoch, s.Capability, s.Granted}
}

// pool has the connections of one assignment.
type pool struct {
	p         *Provider
	key       poolKey
	transport *http.Transport

	// Guarded by p.mu.
	conns   map[*conn]struct{}
	retired bool // takes no more connections

	mu   sync.Mutex
	open map[*exchange]struct{} // changed under p.mu as well
}

func newPool(p *Provider, key poolKey) *pool {
	pl := &pool{p: p, key: key, conns: make(map[*conn]struct{}), open: make(map[*exchange]struct{})}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	pl.transport = &http.Transport{
		// No Proxy: the environment of the node is none of the guests' business, and a
		// proxy would connect where nothing is checked.
		DialContext:            pl.dialTCP,
		DialTLSContext:         pl.dialTLS,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: abi.MaxHeader,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: window,
			SendPingTimeout:           pingAfter,
			PingTimeout:               pingTimeout,
		},
	}
	return pl
}

// lapsed reports whether nothing may be sent on the pool's connections any more.
// Which bytes are of which request cannot be told on a connection of HTTP/2, so
// all requests are asked, which are of the same assignment and so of one mind.
func (pl *pool) lapsed() bool {
	if !pl.p.alive() {
		return true
	}
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for x := range pl.open {
		if !x.alive() {
			return true
		}
	}
	return false
}

// expire is done when the pool has lapsed: it ends the requests under way and
// closes the connections. Should the lease come back, there will be a new pool.
func (pl *pool) expire() {
	pl.p.mu.Lock()
	conns := pl.p.retire(pl)
	pl.mu.Lock()
	open := slices.Collect(maps.Keys(pl.open))
	pl.mu.Unlock()
	pl.p.mu.Unlock()
	for _, x := range open {
		x.cancel(errLapsed)
	}
	closeAll(conns)
}

// join finds or makes the pool of an exchange. The exchange leaves it when it is
// over.
func (p *Provider) join(x *exchange) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errStopped
	}
	key := keyOf(x.scope)
	pl := p.pools[key]
	if pl == nil {
		pl = newPool(p, key)
		p.pools[key] = pl
	}
	x.pool = pl
	pl.mu.Lock()
	pl.open[x] = struct{}{}
	pl.mu.Unlock()
	p.running.Add(1)
	return nil
}

// leave is the end of an exchange.
func (p *Provider) leave(x *exchange) {
	pl := x.pool
	var spare []*conn
	p.mu.Lock()
	pl.mu.Lock()
	delete(pl.open, x)
	rest := len(pl.open)
	pl.mu.Unlock()
	wanted := len(p.waiting) > 0
	switch {
	case rest == 0 && (wanted || p.closed):
		spare = p.retire(pl)
	case rest == 0 && len(pl.conns) == 0:
		p.drop(pl)
	}
	p.mu.Unlock()
	closeAll(spare)
	if rest > 0 && wanted {
		pl.transport.CloseIdleConnections() // and those that become idle in a moment
	}
	p.running.Done()
}

// retire takes away a pool that is to have no further requests, and returns its
// connections, which the caller closes without p.mu. The caller holds p.mu.
func (p *Provider) retire(pl *pool) []*conn {
	pl.retired = true
	p.drop(pl)
	return slices.Collect(maps.Keys(pl.conns))
}

func (p *Provider) drop(pl *pool) {
	if p.pools[pl.key] == pl {
		delete(p.pools, pl.key)
	}
}

// keep takes a connection that was made into its pool.
func (p *Provider) keep(c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || c.pool.retired {
		return errStopped
	}
	c.pool.conns[c] = struct{}{}
	return nil
}

// forget is the end of a connection.
func (p *Provider) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := c.pool
	if _, kept := pl.conns[c]; !kept {
		return
	}
	delete(pl.conns, c)
	p.release(c.addr)
	pl.mu.Lock()
	idle := len(pl.open) == 0
	pl.mu.Unlock()
	if idle && len(pl.conns) == 0 {
		p.drop(pl)
	}
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}
