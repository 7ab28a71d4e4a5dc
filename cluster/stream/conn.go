package stream

import (
	"net"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// conn is a connection that the listener can close.
type conn struct {
	net.Conn // raw, or what Wrap made of it; set before the connection is handed over
	raw      net.Conn
	listener *Listener
	once     sync.Once
	err      error

	// Guarded by listener.mu until the connection is handed over.
	kind string
	peer wasmatrix.ServerID
}

// Close closes the connection; further calls return what the first did.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.listener.mu.Lock()
		delete(c.listener.conns, c)
		c.listener.mu.Unlock()
		c.err = c.raw.Close()
	})
	return c.err
}

// Peer returns the server at the other end of an accepted connection, as it
// introduced itself; "" for any other connection.
func Peer(c net.Conn) wasmatrix.ServerID {
	if c, ok := c.(*conn); ok {
		return c.peer
	}
	return ""
}
