package messaging_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// proxy forwards connections to a server until it is told to hold what goes there.
type proxy struct {
	tb     testing.TB
	l      net.Listener
	target string
	held   atomic.Bool
	deaf   atomic.Bool  // holds what comes from the server
	idle   atomic.Int64 // when it last passed something to the server, in Unix nanoseconds
	conns  chan net.Conn
}

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
		p.deaf.Store(false)
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
	pass := func(to, from net.Conn, held *atomic.Bool) {
		defer to.Close()
		defer from.Close()
		buf := make([]byte, 32<<10)
		for {
			for held.Load() {
				time.Sleep(time.Millisecond)
			}
			// It may be held while it waits here: then what comes is held as well.
			n, err := from.Read(buf)
			for held.Load() {
				time.Sleep(time.Millisecond)
			}
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
	go pass(s, c, &p.held)
	go pass(c, s, &p.deaf)
}

// hold keeps back what goes to the server from now on.
func (p *proxy) hold() { p.held.Store(true) }

// release passes it on again.
func (p *proxy) release() {
	p.idle.Store(time.Now().UnixNano())
	p.held.Store(false)
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
			p.held.Store(false)
			return
		}
	}
}
