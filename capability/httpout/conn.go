package httpout

import (
	"net"
	"sync"

	"github.com/wasmatrix/wasmatrix/socket"
)

// conn is a connection of a pool. It asks before every write whether those who
// send may still act, and closes when they may not. It hides the methods of TCP
// connections by which net/http would write past it.
type conn struct {
	net.Conn
	out  *socket.Writer // to Conn
	pool *pool
	addr string // host:port that it was made for
	once sync.Once
}

// Write sends p. The question is asked before each call to the system, not for
// all of p at once: a write that waits for a slow server may wait past the lease.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.Write(p, func() error {
		if c.pool.lapsed() {
			return errLapsed
		}
		return nil
	})
	if err == errLapsed { //nolint:errorlint // this very value
		c.pool.expire()
	}
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.pool.p.forget(c) })
	return err
}
