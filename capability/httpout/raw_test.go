package httpout

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// raw is a server that speaks no HTTP of itself. It keeps what it received.
type raw struct {
	addr string

	mu       sync.Mutex
	received bytes.Buffer
	conns    int
	ended    int // connections that the other side has closed
}

// serveRaw gives each connection to f, in a goroutine that it joins. What f
// writes fails when the test is over.
func serveRaw(t *testing.T, f func(net.Conn)) *raw {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &raw{addr: l.Addr().String()}
	var wg sync.WaitGroup
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns++
			open = append(open, c)
			s.mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

// record makes a server that answers nothing until it was given a piece that
// contains end, and then with reply.
func record(t *testing.T, end, reply string) *raw {
	t.Helper()
	var s *raw
	ready := make(chan struct{})
	s = serveRaw(t, func(c net.Conn) {
		<-ready
		s.drain(c, end, reply)
	})
	close(ready)
	return s
}

func (s *raw) drain(c net.Conn, end, reply string) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		s.mu.Lock()
		s.received.Write(buf[:n])
		complete := n > 0 && end != "" && bytes.HasSuffix(s.received.Bytes(), []byte(end))
		if err != nil {
			s.ended++
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
		if complete {
			if _, err := c.Write([]byte(reply)); err != nil {
				return
			}
		}
	}
}

func (s *raw) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received.String()
}

// over reports whether all connections that were made are closed, of at least n.
func (s *raw) over(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns >= n && s.ended == s.conns
}
