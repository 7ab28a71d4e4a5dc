package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func listen(t *testing.T, self wasmatrix.ServerID, tune func(*Config)) *Listener {
	t.Helper()
	conf := Config{Bind: "127.0.0.1:0", Self: self}
	if tune != nil {
		tune(&conf)
	}
	l, err := Listen(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func of(cluster wasmatrix.ClusterID) func(*Config) {
	return func(c *Config) { c.Cluster = func() wasmatrix.ClusterID { return cluster } }
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func wantCode(t *testing.T, err error, code wasmatrix.Code, part string) {
	t.Helper()
	if wasmatrix.CodeOf(err) != code || !strings.Contains(err.Error(), part) {
		t.Fatalf("got %v, want %s with %q", err, code, part)
	}
}

func wantEcho(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Fatalf("got %q, %v", b, err)
	}
}

func TestKindsReachTheirHandlers(t *testing.T) {
	a, b := listen(t, "a.00000000", of("c1")), listen(t, "b.11111111", of("c1"))
	b.Handle("echo", echo)
	b.Handle("who", func(c net.Conn) { _, _ = io.WriteString(c, string(Peer(c))) })
	to, err := b.Layer("main")
	if err != nil {
		t.Fatal(err)
	}
	mine, err := a.Layer("main")
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Layer("kv")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := to.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				echo(c)
			}()
		}
	}()

	c, err := a.Dial(t.Context(), "echo", b.Self(), b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c, err = a.Dial(t.Context(), "who", b.Self(), b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if who, err := io.ReadAll(c); err != nil || string(who) != "a.00000000" {
		t.Fatalf("the other side sees %q, %v", who, err)
	}
	c, err = mine.Dial(RaftAddress(b.Self(), b.Addr().String()), patience)
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, c)
	// The other group got none of it.
	if n := len(other.(*layer).accepted); n != 0 {
		t.Fatalf("another group was given %d connections", n)
	}
	if _, err := mine.Dial("127.0.0.1:1", patience); wasmatrix.CodeOf(err) != wasmatrix.CodeInternal {
		t.Fatalf("an address without a server: %v", err)
	}
}

// A group that closes takes its connections with it and leaves the others'.
func TestClosingALayer(t *testing.T) {
	a, b := listen(t, "a.00000000", nil), listen(t, "b.11111111", nil)
	b.Handle("echo", echo)
	from, err := a.Layer("main")
	if err != nil {
		t.Fatal(err)
	}
	to, err := b.Layer("main")
	if err != nil {
		t.Fatal(err)
	}
	stays, err := a.Dial(t.Context(), "echo", b.Self(), b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	target := RaftAddress(b.Self(), b.Addr().String())
	dialled, err := from.Dial(target, patience)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := to.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("the accepted connection: %v", err)
	}
	if _, err := dialled.Read(make([]byte, 1)); err == nil {
		t.Fatal("the dialled connection is open")
	}
	if _, err := to.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accept: %v", err)
	}
	_, err = from.Dial(target, patience)
	wantCode(t, err, wasmatrix.CodeCommunication, `does not serve "raft/main"`)
	wantEcho(t, stays)
	if _, err := b.Layer("main"); err != nil { // free again
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	b := listen(t, "b.11111111", of("c1"))
	b.Handle("echo", echo)
	at := b.Addr().String()
	for name, c := range map[string]struct {
		cluster wasmatrix.ClusterID
		kind    string
		target  wasmatrix.ServerID
		code    wasmatrix.Code
		part    string
	}{
		"wiped disk":      {"c1", "echo", "b.00000000", wasmatrix.CodeConflict, "this is server b.11111111, not b.00000000"},
		"other cluster":   {"c2", "echo", "b.11111111", wasmatrix.CodeConflict, "belongs to cluster c1, not c2"},
		"unknown kind":    {"c1", "smtp", "b.11111111", wasmatrix.CodeCommunication, `does not serve "smtp"`},
		"no target":       {"c1", "echo", "", wasmatrix.CodeInvalidRequest, "cannot dial"},
		"no kind":         {"c1", "", "b.11111111", wasmatrix.CodeInvalidRequest, "cannot dial"},
		"target too long": {"c1", "echo", wasmatrix.ServerID(strings.Repeat("b", 256)), wasmatrix.CodeInvalidRequest, "cannot dial"},
	} {
		t.Run(name, func(t *testing.T) {
			a := listen(t, "a.00000000", of(c.cluster))
			_, err := a.Dial(t.Context(), c.kind, c.target, at)
			wantCode(t, err, c.code, c.part)
		})
	}
	// Before the bootstrap either side may have no cluster yet.
	a := listen(t, "a.00000000", nil)
	conn, err := a.Dial(t.Context(), "echo", b.Self(), at)
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, conn)
	a.Handle("echo", echo)
	if _, err := b.Dial(t.Context(), "echo", a.Self(), a.Addr().String()); err != nil {
		t.Fatal(err)
	}
}

func TestDialFailures(t *testing.T) {
	a := listen(t, "a.00000000", nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := ln.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = a.Dial(ctx, "echo", "b.11111111", silent)
	wantCode(t, err, wasmatrix.CodeTimeout, silent)

	go func() { // somebody else's protocol
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 mail.example.org ESMTP\r\n")
			_ = c.Close()
		}
	}()
	// The connection above may still wait to be accepted; its turn comes first.
	_, err = a.Dial(t.Context(), "echo", "b.11111111", silent)
	if code := wasmatrix.CodeOf(err); code != wasmatrix.CodeCommunication {
		t.Fatalf("got %v", err)
	}
	_ = ln.Close()
	_, err = a.Dial(t.Context(), "echo", "b.11111111", silent)
	wantCode(t, err, wasmatrix.CodeCommunication, silent)
}

func TestOtherVersionIsToldSo(t *testing.T) {
	b := listen(t, "b.11111111", nil)
	c, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "wmtx\x07\x00\x00"); err != nil {
		t.Fatal(err)
	}
	answer, err := readReply(c)
	if err != nil || answer.code != wasmatrix.CodeCommunication || !strings.Contains(answer.message, "version 7") {
		t.Fatalf("got %+v, %v", answer, err)
	}
}

func TestPortInUse(t *testing.T) {
	a := listen(t, "a.00000000", nil)
	_, err := Listen(Config{Bind: a.Addr().String(), Self: "b.11111111"})
	wantCode(t, err, wasmatrix.CodeConflict, a.Addr().String())
	_, err = Listen(Config{Bind: "192.0.2.1:0", Self: "b.11111111"})
	wantCode(t, err, wasmatrix.CodeValidation, "192.0.2.1")
	_, err = Listen(Config{Bind: "127.0.0.1:0"})
	wantCode(t, err, wasmatrix.CodeValidation, "server ID")
}

func TestAdvertise(t *testing.T) {
	bound := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7481}
	anywhere := &net.TCPAddr{IP: net.IPv4zero, Port: 7481}
	for _, c := range []struct {
		want  string
		bound net.Addr
		got   string
	}{
		{"", bound, "127.0.0.1:7481"},
		{"10.0.0.1:9", bound, "10.0.0.1:9"},
		{"10.0.0.1:0", anywhere, "10.0.0.1:7481"},
		{"host.example:0", anywhere, "host.example:7481"},
		{"[::1]:9", bound, "[::1]:9"},
		{"", anywhere, ""},
		{"0.0.0.0:9", bound, ""},
		{"[::]:9", bound, ""},
		{":9", bound, ""},
		{"10.0.0.1", bound, ""},
		{"10.0.0.1:x", bound, ""},
		{"10.0.0.1:70000", bound, ""},
	} {
		got, err := advertise(c.want, c.bound)
		if string(got) != c.got || (c.got == "") != (wasmatrix.CodeOf(err) == wasmatrix.CodeValidation) {
			t.Errorf("advertise %q bound to %s: %q, %v", c.want, c.bound, got, err)
		}
	}
}

// The seam for TLS: both sides pass through it, and it may refuse.
func TestWrap(t *testing.T) {
	var accepted, dialled atomic.Int32
	refuse := errors.New("no certificate")
	wrap := func(fail bool) func(*Config) {
		return func(conf *Config) {
			conf.Wrap = func(c net.Conn, target wasmatrix.ServerID) (net.Conn, error) {
				if fail {
					return nil, refuse
				}
				if target == "" {
					accepted.Add(1)
				} else {
					dialled.Add(1)
				}
				return &inverted{c}, nil
			}
		}
	}
	a, b := listen(t, "a.00000000", wrap(false)), listen(t, "b.11111111", wrap(false))
	b.Handle("echo", echo)
	c, err := a.Dial(t.Context(), "echo", b.Self(), b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, c)
	if accepted.Load() != 1 || dialled.Load() != 1 {
		t.Fatalf("%d accepted and %d dialled connections were wrapped", accepted.Load(), dialled.Load())
	}
	plain := listen(t, "p.22222222", nil)
	if _, err := plain.Dial(t.Context(), "echo", b.Self(), b.Addr().String()); err == nil {
		t.Fatal("a connection came about beside the wrap")
	}
	refusing := listen(t, "r.33333333", wrap(true))
	_, err = refusing.Dial(t.Context(), "echo", b.Self(), b.Addr().String())
	if !errors.Is(err, refuse) {
		t.Fatalf("got %v", err)
	}
}

// inverted is a connection that only its like can read.
type inverted struct{ net.Conn }

func (c *inverted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for i := range b[:n] {
		b[i] ^= 0xff
	}
	return n, err
}

func (c *inverted) Write(b []byte) (int, error) {
	x := make([]byte, len(b))
	for i := range b {
		x[i] = b[i] ^ 0xff
	}
	return c.Conn.Write(x)
}

// Close ends handlers, strangers who say nothing, and dialling; goleak sees to
// it that nothing is left.
func TestCloseEndsEverything(t *testing.T) {
	a, b := listen(t, "a.00000000", nil), listen(t, "b.11111111", nil)
	entered, left := make(chan struct{}), make(chan struct{})
	b.Handle("wait", func(c net.Conn) {
		close(entered)
		_, _ = c.Read(make([]byte, 1))
		close(left)
	})
	if _, err := a.Dial(t.Context(), "wait", b.Self(), b.Addr().String()); err != nil {
		t.Fatal(err)
	}
	<-entered
	stranger, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close() }()
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-left:
	default:
		t.Fatal("the handler is still there")
	}
	if _, err := b.Layer("main"); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
		t.Fatalf("a closed listener gives a layer: %v", err)
	}
	b.Handle("late", echo) // claims nothing and breaks nothing
	_, err = b.Dial(t.Context(), "wait", a.Self(), a.Addr().String())
	wantCode(t, err, wasmatrix.CodeCommunication, "")
	_, err = a.Dial(t.Context(), "wait", b.Self(), b.Addr().String())
	wantCode(t, err, wasmatrix.CodeCommunication, "")
}

func TestKindsAreClaimedOnce(t *testing.T) {
	b := listen(t, "b.11111111", nil)
	if _, err := b.Layer("main"); err != nil {
		t.Fatal(err)
	}
	_, err := b.Layer("main")
	wantCode(t, err, wasmatrix.CodeConflict, "main")
	defer func() {
		if recover() == nil {
			t.Fatal("a kind was handled twice")
		}
	}()
	b.Handle(RaftKind("main"), echo)
}
