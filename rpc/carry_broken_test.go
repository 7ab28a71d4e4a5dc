package rpc_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// cutter dials, and cuts the connections that it made.
type cutter struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cutter) transport(t testing.TB) *http.Transport {
	rt := newTransport(t)
	dial := rt.DialContext
	rt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			c.mu.Lock()
			c.conns = append(c.conns, conn)
			c.mu.Unlock()
		}
		return conn, err
	}
	return rt
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func TestABrokenStreamIsOpenedAnew(t *testing.T) {
	host := newFakeHost()
	c, _ := carryCluster(t, host)
	var wire cutter
	carrier := client.NewCarrier(wire.transport(t).DialContext, c.Servers[0].Addr)
	defer carrier.Close()
	x, err := carrier.HTTP().Open(t.Context(), scopeOf("i"), &capability.Request{URL: "well"})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := carrier.Messaging().Subscribe(t.Context(), scopeOf("i"), "t", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := carrier.Messaging().Publish(t.Context(), scopeOf("i"), "t", []byte("m")); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		_, err := carrier.KV().Set(t.Context(), scopeOf("i"), "block", nil, capability.SetOptions{})
		failed <- err
	}()
	go func() {
		_, err := carrier.HTTP().Open(t.Context(), scopeOf("i"), &capability.Request{URL: "well"})
		if err == nil {
			err = errors.New("opened")
		}
		failed <- err
	}()
	if err := <-failed; err.Error() != "opened" {
		t.Fatal(err)
	}
	if err := host.await(wait(t), 4); err != nil {
		t.Fatal(err)
	}
	wire.cut()
	wantCode(t, "a write under way", <-failed, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeUnknown)
	_, err = x.Response()
	wantCode(t, "an exchange", err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeUnknown)
	if err := x.Close(); err != nil {
		t.Errorf("closing what is gone: %v", err)
	}
	for range 2 { // the message may have come before
		if _, err = sub.Receive(wait(t)); err != nil {
			break
		}
	}
	wantCode(t, "a subscription", err, wasmatrix.CodeProviderUnavailable, "")
	if err := host.await(wait(t), 0); err != nil {
		t.Errorf("the calls of a broken stream go on: %v", err)
	}
	if _, err := carrier.KV().Set(t.Context(), scopeOf("i"), "k", []byte("v"), capability.SetOptions{}); err != nil {
		t.Errorf("after that: %v", err)
	}
	c.Servers[0].Stop()
	var unreachable error
	for range 2 { // the first may find the connection closing
		_, unreachable = carrier.KV().Set(t.Context(), scopeOf("i"), "k", []byte("v"), capability.SetOptions{})
	}
	wantCode(t, "a server that is gone", unreachable, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
}

// TestAServerThatEndsSaysSo: what has a bound of its own is carried to its end.
func TestAServerThatEndsSaysSo(t *testing.T) {
	host := newFakeHost()
	host.slow = make(chan struct{})
	c, carrier := carryCluster(t, host)
	sub, err := carrier.Messaging().Subscribe(t.Context(), scopeOf("i"), "t", "")
	if err != nil {
		t.Fatal(err)
	}
	x, err := carrier.HTTP().Open(t.Context(), scopeOf("i"), &capability.Request{URL: "well"})
	if err != nil {
		t.Fatal(err)
	}
	const bound = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	began := time.Now()
	got := make(chan error, 1)
	go func() {
		_, err := carrier.KV().Set(ctx, scopeOf("i"), "block", nil, capability.SetOptions{})
		got <- err
	}()
	if err := host.await(wait(t), 3); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		c.Servers[0].Stop()
		close(stopped)
	}()
	_, err = sub.Receive(wait(t))
	wantCode(t, "a subscription", err, wasmatrix.CodeProviderUnavailable, "")
	for err = nil; err == nil; {
		_, err = x.Write([]byte("x"))
	}
	wantCode(t, "an exchange", err, wasmatrix.CodeProviderUnavailable, "")
	close(host.slow)
	wantCode(t, "a call with a deadline", <-got, wasmatrix.CodeTimeout, "")
	if took := time.Since(began); took < bound {
		t.Errorf("a call that had %s was ended after %s", bound, took)
	}
	select {
	case <-stopped:
	case <-wait(t).Done():
		t.Error("the server did not end")
	}
}

// TestAServerThatEndsDoesNotWaitForEver: what has not come to its end within the grace of
// the server is cut off, though it has a bound of its own.
func TestAServerThatEndsDoesNotWaitForEver(t *testing.T) {
	host := newFakeHost()
	c, carrier := carryCluster(t, host, func(cfg *rpc.Config) { cfg.CallTimeout = time.Hour })
	failed := make(chan error, 1)
	go func() {
		_, err := carrier.KV().Set(t.Context(), scopeOf("i"), "block", nil, capability.SetOptions{})
		failed <- err
	}()
	if err := host.await(wait(t), 1); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		c.Servers[0].Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-wait(t).Done():
		t.Fatal("the server waits for a call that has an hour")
	}
	wantCode(t, "the call", <-failed, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeUnknown)
}

// TestWhatIsNoCarrierIsNotBelieved: a carrier that is answered with anything else
// fails its calls, and opens another link for the next.
func TestWhatIsNoCarrierIsNotBelieved(t *testing.T) {
	frame := func(flags byte, size uint32, b []byte) string {
		return string(append(binary.BigEndian.AppendUint32([]byte{flags}, size), b...))
	}
	const accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: wasmatrix-link/1\r\n\r\n"
	piece := string(frameOf(t, &api.CarryResponse{Call: 1, Part: &api.CarryResponse_HttpPiece{HttpPiece: &api.HTTPPiece{}}}))
	const none, unknown = wasmatrix.OutcomeNone, wasmatrix.OutcomeUnknown
	for name, tt := range map[string]struct{ answer, outcome string }{
		"status":         {"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n", none},
		"other protocol": {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", none},
		"no HTTP":        {"220 mail.example.com ESMTP\r\n", none},
		"no answer":      {"", none},
		"flags":          {accepted + frame(9, 0, nil), unknown},
		"size":           {accepted + frame(0, 1<<30, nil), unknown},
		"half":           {accepted + frame(0, 100, []byte("half")), unknown},
		"half a head":    {accepted + "\x00\x00", unknown},
		"half large":     {accepted + frame(0, 1<<20, []byte("half")), unknown},
		"nonsense":       {accepted + frame(0, 3, []byte{0xff, 0xff, 0xff}), unknown},
		"no end":         {accepted + piece, unknown},
		"end":            {accepted + frame(1, 0, nil), unknown},
		"bad end":        {accepted + frame(1, 1, []byte{0xff}), unknown},
		"nothing":        {accepted, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			defer l.Close()
			wg.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					r := bufio.NewReader(conn)
					if _, err := http.ReadRequest(r); err != nil {
						t.Error(err)
					}
					// The link first, so that a call comes before the rest.
					head, rest := tt.answer, ""
					if tt.outcome == unknown {
						head, rest = accepted, tt.answer[len(accepted):]
					}
					_, err = io.WriteString(conn, head)
					if err == nil && tt.outcome == unknown {
						if _, err = r.Peek(5); err == nil {
							_, err = io.WriteString(conn, rest)
						}
					}
					if err != nil {
						t.Error(err)
					}
					conn.Close()
				}
			})
			carrier := client.NewCarrier(newTransport(t).DialContext, l.Addr().String())
			defer carrier.Close()
			for range 2 {
				_, err := carrier.KV().Set(t.Context(), scopeOf("i"), "k", bytes.Repeat([]byte("v"), 100), capability.SetOptions{})
				wantCode(t, "set", err, wasmatrix.CodeProviderUnavailable, tt.outcome)
			}
		})
	}
}

// TestStreamsAndServersEndTogether in any order.
func TestStreamsAndServersEndTogether(t *testing.T) {
	host := newFakeHost()
	c, _ := carryCluster(t, host)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 100 {
		carrier := client.NewCarrier(newTransport(t).DialContext, c.Servers[0].Addr)
		sub, err := carrier.Messaging().Subscribe(t.Context(), scopeOf("i"), "t", "")
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			<-start
			time.Sleep(time.Duration(i%50) * 20 * time.Microsecond)
			carrier.Close()
			sub.Close()
		})
	}
	wg.Go(func() {
		<-start
		c.Servers[0].Stop()
	})
	close(start)
	wg.Wait()
	if err := host.await(wait(t), 0); err != nil {
		t.Error(err)
	}
}
