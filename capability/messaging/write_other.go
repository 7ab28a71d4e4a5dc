//go:build !unix

package messaging

// write sends p, and asks the guard once: what the socket does not take at once is
// not asked for again.
func (c *conn) write(p []byte) (int, error) {
	if !c.guard.pass() {
		return 0, errStale
	}
	return c.Conn.Write(p)
}
