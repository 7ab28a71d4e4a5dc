package rpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
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
	carrier := client.NewCarrier(wire.transport(t), c.Servers[0].Addr)
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
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	got := make(chan error, 1)
	go func() {
		_, _, err := carrier.KV().Get(ctx, scopeOf("i"), "block")
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
	select {
	case <-stopped:
	case <-wait(t).Done():
		t.Error("the server did not end")
	}
}

// TestWhatIsNoCarrierIsNotBelieved: a carrier that is answered with anything else
// fails its calls, and opens another stream for the next.
func TestWhatIsNoCarrierIsNotBelieved(t *testing.T) {
	envelope := func(flags byte, size uint32, b []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{flags}, size), b...)
	}
	marshal := func(m *api.CarryResponse) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return envelope(0, uint32(len(b)), b)
	}
	piece := marshal(&api.CarryResponse{Call: 1, Part: &api.CarryResponse_HttpPiece{HttpPiece: &api.HTTPPiece{}}})
	write := func(w http.ResponseWriter, b []byte) {
		if _, err := w.Write(b); err != nil {
			t.Error(err)
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"status":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) },
		"type":       func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/plain") },
		"flags":      func(w http.ResponseWriter) { write(w, envelope(1, 0, nil)) },
		"size":       func(w http.ResponseWriter) { write(w, envelope(0, 1<<30, nil)) },
		"half":       func(w http.ResponseWriter) { write(w, envelope(0, 100, []byte("half"))) },
		"half large": func(w http.ResponseWriter) { write(w, envelope(0, 1<<20, []byte("half"))) },
		"nonsense":   func(w http.ResponseWriter) { write(w, envelope(0, 3, []byte{0xff, 0xff, 0xff})) },
		"no end":     func(w http.ResponseWriter) { write(w, piece) },
		"end":        func(w http.ResponseWriter) { write(w, envelope(2, 2, []byte("{}"))) },
		"bad end":    func(w http.ResponseWriter) { write(w, envelope(2, 2, []byte("{]"))) },
		"nothing":    func(http.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/connect+proto")
				_, _ = io.ReadFull(r.Body, make([]byte, 5)) // a call has come
				answer(w)
			}))
			srv.Config.Protocols = new(http.Protocols)
			srv.Config.Protocols.SetUnencryptedHTTP2(true)
			srv.Start()
			defer srv.Close()
			carrier := client.NewCarrier(newTransport(t), srv.Listener.Addr().String())
			defer carrier.Close()
			for range 2 {
				_, err := carrier.KV().Set(t.Context(), scopeOf("i"), "k", bytes.Repeat([]byte("v"), 100), capability.SetOptions{})
				wantCode(t, "set", err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeUnknown)
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
		carrier := client.NewCarrier(newTransport(t), c.Servers[0].Addr)
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
