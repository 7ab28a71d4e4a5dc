//go:build unix

package messaging

import (
	"net"
	"syscall"
)

// write sends p, and asks the guard before each system call: a process that is
// paused while the socket takes nothing asks again when it goes on.
func (c *conn) write(p []byte) (int, error) {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	sent := 0
	for sent < len(p) {
		var failed error
		err := raw.Write(func(fd uintptr) (done bool) {
			if !c.guard.pass() {
				failed = errStale
				return true
			}
			n, err := syscall.Write(int(fd), p[sent:])
			switch {
			case err == syscall.EAGAIN:
				return false // called again when there is room
			case err == syscall.EINTR:
			case err != nil:
				failed = &net.OpError{Op: "write", Net: "tcp", Err: err}
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
