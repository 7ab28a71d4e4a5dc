// Package socket writes to connections a system call at a time, so that who
// writes can be asked before each of them whether that may still leave: a process
// that was paused in the middle goes on with its next system call, not with its
// next write.
package socket

import (
	"net"
	"syscall"
)

// Writer writes to one connection. One goroutine at a time may use it, beside
// those that read from the connection or close it.
type Writer struct {
	conn net.Conn
	raw  syscall.RawConn // nil where the connection is no socket, as with TLS

	// Of the attempt under way, which raw calls without arguments.
	attempt func(fd uintptr) (done bool)
	p       []byte
	wait    bool
	full    bool // the socket took nothing
	n       int
	err     error
}

// NewWriter makes a writer. The connection stays the caller's.
func NewWriter(conn net.Conn) *Writer {
	w := &Writer{conn: conn}
	if s, ok := conn.(syscall.Conn); ok && attempts {
		if raw, err := s.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	w.attempt = w.once
	return w
}

// Write sends p, and asks may before each system call that could send any of it.
// It returns the error of may, or of the connection. Where the connection is no
// socket, may is asked once.
func (w *Writer) Write(p []byte, may func() error) (sent int, err error) {
	for sent < len(p) {
		if err := may(); err != nil {
			return sent, err
		}
		n, err := w.Some(p[sent:], true)
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// Some sends what the connection takes of p by one system call, and returns how
// much that was. Where it takes nothing, Some returns 0: at once, or with wait when
// there is room again, or the connection's write deadline has passed. A connection
// that is no socket takes all of p with wait, and nothing without.
func (w *Writer) Some(p []byte, wait bool) (int, error) {
	if w.raw == nil {
		if !wait {
			return 0, nil
		}
		return w.conn.Write(p)
	}
	w.p, w.wait, w.full, w.n, w.err = p, wait, false, 0, nil
	err := w.raw.Write(w.attempt)
	w.p = nil
	if err == nil {
		err = w.err
	}
	return w.n, err
}
