//go:build !unix

package httpout

// write asks may once: what waits in the middle of a write is not asked again.
func (c *conn) write(p []byte, may func() error) (int, error) {
	if err := may(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
