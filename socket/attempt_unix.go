//go:build unix

package socket

import (
	"io"
	"net"
	"syscall"
)

const attempts = true

// once makes the system call of an attempt. Raw calls it again when there is room.
func (w *Writer) once(fd uintptr) (done bool) {
	if w.full {
		return true
	}
	n, err := syscall.Write(int(fd), w.p)
	switch {
	case err == syscall.EAGAIN:
		w.full = true
		return !w.wait
	case err == syscall.EINTR: // nothing was sent: it may be tried again
	case err != nil:
		w.err = &net.OpError{Op: "write", Net: "tcp", Err: err}
	case n == 0 && len(w.p) > 0:
		w.err = io.ErrUnexpectedEOF
	default:
		w.n = n
	}
	return true
}
