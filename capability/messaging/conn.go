package messaging

import (
	"errors"
	"net"
	"sync"
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

// pass reports whether all may still act.
func (g *guard) pass() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for t := range g.tickets {
		if !t.alive() {
			return false
		}
	}
	return true
}

// conn is the socket below a NATS connection. It writes only while the guard lets
// it, and reads only when what was read before has been dealt out: so what lies
// between the socket and the subscriptions' own queues is no more than one read.
type conn struct {
	net.Conn
	guard  *guard
	inflow *inflow

	once sync.Once
	gone chan struct{} // closed by Close
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.write(p)
	if errors.Is(err, errStale) {
		_ = c.Close()
	}
	return n, err
}

func (c *conn) Read(p []byte) (int, error) {
	if !c.inflow.empty(c.gone) {
		return 0, net.ErrClosed
	}
	return c.Conn.Read(p)
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
