package messaging

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/wasmatrix/wasmatrix/socket"
)

// errStale is why a connection was broken that had a message of a caller that may
// no longer act.
var errStale = errors.New("a publisher may no longer act")

// guard knows who is publishing, and asks them all.
type guard struct {
	mu      sync.Mutex
	tickets map[*ticket]struct{}
}

// ticket is one publisher's, from before its message is handed over until it is
// known to be with the server.
type ticket struct {
	guard *guard
	alive func() bool
}

func (g *guard) take(alive func() bool) *ticket {
	t := &ticket{g, alive}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tickets == nil {
		g.tickets = make(map[*ticket]struct{})
	}
	g.tickets[t] = struct{}{}
	return t
}

func (t *ticket) giveBack() {
	if t == nil {
		return
	}
	t.guard.mu.Lock()
	defer t.guard.mu.Unlock()
	delete(t.guard.tickets, t)
}

// check fails unless all may still act.
func (g *guard) check() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for t := range g.tickets {
		if !t.alive() {
			return errStale
		}
	}
	return nil
}

// conn is the socket below a NATS connection. With a guard it writes only while that
// lets it. With an inflow it reads only when what was read before has been dealt out: so
// what lies between the socket and the subscriptions' own queues is no more than one
// read.
type conn struct {
	net.Conn
	out    *socket.Writer // to Conn
	guard  *guard         // may be nil
	inflow *inflow        // may be nil; no two may share one

	reads atomic.Uint64 // that gave something

	once sync.Once
	gone chan struct{} // closed by Close
}

// Write breaks the connection where it fails: NATS forgets what it could not write, and
// would go on, and take the server's word for what comes later as one for all of it.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.Write(p, c.guard.check)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

func (c *conn) Read(p []byte) (int, error) {
	if c.inflow != nil && !c.inflow.empty(c.gone) {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.reads.Add(1)
	}
	return n, err
}

// Close breaks the connection. What the machine has not sent yet is not sent.
func (c *conn) Close() (err error) {
	c.once.Do(func() {
		close(c.gone)
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		err = c.Conn.Close()
	})
	return err
}
