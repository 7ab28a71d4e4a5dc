package messaging_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// proxy forwards connections to a server until it is told to hold what goes there, or
// what comes from there.
type proxy struct {
	tb     testing.TB
	l      net.Listener
	target string
	conns  chan net.Conn
	count  int

	held atomic.Pointer[holds] // what goes to the server; nil is nothing
	deaf atomic.Pointer[holds] // what comes from it
	idle atomic.Int64          // when it last passed something to the server, in Unix nanoseconds
}

// holds says whether something is held: of which connection, counted from 1, and what
// came last on it, nil before anything has.
type holds func(connection int, data []byte) bool

func everything(int, []byte) bool { return true }

func newProxy(tb testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{tb: tb, l: l, target: target, conns: make(chan net.Conn, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.forward(c)
		}
	}()
	tb.Cleanup(func() {
		l.Close()
		<-done
		p.cut()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) forward(c net.Conn) {
	s, err := net.Dial("tcp", p.target)
	if err != nil {
		c.Close()
		return
	}
	p.conns <- c
	p.conns <- s
	p.count++
	go p.pass(p.count, s, c, &p.held)
	go p.pass(p.count, c, s, &p.deaf)
}

func (p *proxy) pass(connection int, to, from net.Conn, held *atomic.Pointer[holds]) {
	defer to.Close()
	defer from.Close()
	wait := func(data []byte) {
		for h := held.Load(); h != nil && (*h)(connection, data); h = held.Load() {
			time.Sleep(time.Millisecond)
		}
	}
	buf := make([]byte, 32<<10)
	for {
		wait(nil)
		n, err := from.Read(buf)
		wait(buf[:n]) // what comes first after it was told to hold is held as well
		if n > 0 {
			if held == &p.held {
				p.idle.Store(time.Now().UnixNano())
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hold keeps back what goes to the server from now on.
func (p *proxy) hold(h holds) { p.held.Store(&h) }

// deafen keeps back what comes from the server.
func (p *proxy) deafen() {
	h := holds(everything)
	p.deaf.Store(&h)
}

// release passes all on again.
func (p *proxy) release() {
	p.idle.Store(time.Now().UnixNano())
	p.held.Store(nil)
	p.deaf.Store(nil)
}

// quiet waits until nothing has gone to the server for a while.
func (p *proxy) quiet() {
	eventually(p.tb, "quiet", func() bool { return time.Now().UnixNano()-p.idle.Load() > int64(300*time.Millisecond) })
}

// cut breaks all connections; what is held is lost. Later ones pass.
func (p *proxy) cut() {
	for {
		select {
		case c := <-p.conns:
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			c.Close()
		default:
			p.release()
			return
		}
	}
}
