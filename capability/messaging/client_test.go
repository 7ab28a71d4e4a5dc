package messaging

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// TestTargets: those that have failed come after those that have not.
func TestTargets(t *testing.T) {
	servers := []string{"a:1", "b:1", "c:1", "d:1"}
	c := &Client{cfg: ClientConfig{Servers: func() []string { return servers }}, failed: map[string]uint64{}}
	firsts := map[string]bool{}
	for range 200 {
		firsts[c.targets()[0].addr] = true
	}
	if len(firsts) != len(servers) {
		t.Errorf("only %v come first", firsts)
	}
	for _, addr := range []string{"b:1", "a:1", "b:1", "gone:1"} {
		c.fail(addr)
	}
	for range 50 {
		got := c.targets()
		if got[2].addr != "a:1" || got[3].addr != "b:1" {
			t.Fatalf("order is %v", got)
		}
	}
	if len(c.failed) != 2 {
		t.Errorf("failures of %v are kept", c.failed)
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	s, err := OpenServer(ServerConfig{Name: "s", Bind: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cfg, err := wasmatrix.MessagingConfigOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{Config: cfg, Servers: func() []string { return []string{s.Addr().Client} }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	scope := new(capability.Scope)
	first, err := c.Subscribe(t.Context(), scope, "x", "")
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	for len(c.subs) < maxSubscriptions {
		c.subs[&subscription{closed: true}] = struct{}{}
	}
	c.mu.Unlock()
	if _, err := c.Subscribe(t.Context(), scope, "x", ""); wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
		t.Errorf("error is %v", err)
	}
	first.Close()
	second, err := c.Subscribe(t.Context(), scope, "x", "")
	if err != nil {
		t.Error(err)
	}
	second.Close()
}

// TestConnForgets: what the machine has not sent when a connection is closed is not
// sent.
func TestConnForgets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := dialer{ctx: context.Background(), guard: new(guard), inflow: newInflow()}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if _, err := c.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, peer); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end reads to %v", err)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("it is written to after it was closed")
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
}

// TestConnBreaks: a write that fails is the last.
func TestConnBreaks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := dialer{ctx: context.Background()}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write: %d, %v", n, err)
	}
	if err := c.SetWriteDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection goes on: %v", err)
	}
}
