//go:build unix

package httpout

import (
	"io"
	"net"
	"syscall"
)

// write asks may before each system call that could send bytes of p.
func (c *conn) write(p []byte, may func() error) (int, error) {
	sent := 0
	for sent < len(p) {
		var failed error
		err := c.raw.Write(func(fd uintptr) (done bool) {
			if failed = may(); failed != nil {
				return true
			}
			n, err := syscall.Write(int(fd), p[sent:])
			switch {
			case err == syscall.EAGAIN:
				return false // called again when there is room
			case err == syscall.EINTR:
				return true
			case err != nil:
				failed = &net.OpError{Op: "write", Net: "tcp", Err: err}
			case n == 0:
				failed = io.ErrUnexpectedEOF
			default:
				sent += n
			}
			return true
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}
