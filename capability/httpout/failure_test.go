package httpout

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// answering makes a server that reads the header of a request and says s.
func answering(t *testing.T, s string) string {
	t.Helper()
	return "http://" + serveRaw(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, s)
		}
	}).addr
}

func TestFailuresOfTheOtherSide(t *testing.T) {
	closed := serve(t, echo)
	closed.Close()
	untrusted, _ := serveTLS(t, echo)
	plain := serve(t, echo)
	_, dns := serveDNS(t)
	p := open(t, nil, Options{Resolver: dns})
	for _, c := range []struct {
		what, url, message string
		sent               bool
	}{
		{"refused", closed.URL, "the server refuses connections", false},
		{"no such name", "http://unknown.example/", "cannot be resolved", false},
		{"unknown certificate", untrusted.URL, "certificate is not valid for the host", false},
		{"no TLS", "https" + strings.TrimPrefix(plain.URL, "http"), "does not speak TLS", false},
		{"closes at once", "http://" + serveRaw(t, func(net.Conn) {}).addr, "broke off", true},
		{"closes in TLS", "https://" + serveRaw(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }).addr, "TLS handshake failed", false},
		{"says nothing", answering(t, ""), "broke off", true},
		{"is not HTTP", answering(t, "SSH-2.0-x\r\n\r\n"), "did not answer in HTTP", true},
		{"two lengths", answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), "did not answer in HTTP", true},
		{"bad header", answering(t, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), "did not answer in HTTP", true},
		{"switches", answering(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), "switched to another protocol", true},
		{"short body", answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxxx"), "broke off", true},
		{"cut chunk", answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxx"), "broke off", true},
		{"bad chunk", answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx"), "broke off", true},
	} {
		_, err := get(t, p, c.url)
		if wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication || !strings.Contains(err.Error(), c.message) || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", c.what, err)
		}
		if got := wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown; got != c.sent {
			t.Errorf("%s: outcome unknown is %t", c.what, got)
		}
	}
}

// trickle writes s again and again, a byte at a time, as slowly as servers do
// that want to keep their clients.
func trickle(c net.Conn, first, s string) {
	_, _ = io.WriteString(c, first)
	for {
		for i := range len(s) {
			if _, err := io.WriteString(c, s[i:i+1]); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func TestSlowServersAreGivenUp(t *testing.T) {
	slow := func(f func(net.Conn)) string {
		return "http://" + serveRaw(t, func(c net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				f(c)
			}
		}).addr
	}
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	p := open(t, map[string]string{"timeout": "300ms"}, Options{})
	for _, c := range []struct {
		what, url string
		header    bool // comes
	}{
		{"silent", slow(silent), false},
		{"silent in TLS", "https://" + serveRaw(t, silent).addr, false},
		{"slow status", slow(func(c net.Conn) { trickle(c, "", "HTTP/1.1") }), false},
		{"slow header", slow(func(c net.Conn) { trickle(c, "HTTP/1.1 200 OK\r\n", "X: y\r\n") }), false},
		{"interim answers", slow(func(c net.Conn) { trickle(c, "", "HTTP/1.1 102 Processing\r\n\r\n") }), false},
		{"slow body", slow(func(c net.Conn) { trickle(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "x") }), true},
		{"slow chunks", slow(func(c net.Conn) { trickle(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n") }), true},
		{"slow redirect", slow(func(c net.Conn) { trickle(c, "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 1000\r\n\r\n", "x") }), false},
	} {
		began := time.Now()
		r, err := get(t, p, c.url)
		if wasmatrix.CodeOf(err) != wasmatrix.CodeTimeout || time.Since(began) > patience {
			t.Errorf("%s: %v after %s", c.what, err, time.Since(began))
		}
		if (r.Response != nil) != c.header {
			t.Errorf("%s: a header came: %t", c.what, r.Response != nil)
		}
		if wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown && c.what != "silent in TLS" {
			t.Errorf("%s: the outcome is not unknown: %v", c.what, err)
		}
	}
}

func TestTheShortestTimeCounts(t *testing.T) {
	s := serveRaw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	request := func(d time.Duration) *capability.Request {
		return &capability.Request{Method: "GET", URL: "http://" + s.addr, Timeout: d}
	}
	p := open(t, map[string]string{"timeout": "100ms"}, Options{})
	_, err := do(t.Context(), p, scopeOf("a"), request(time.Hour))
	wantCode(t, err, wasmatrix.CodeTimeout)
	_, err = do(t.Context(), p, scopeOf("a"), request(-1))
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
	p = open(t, map[string]string{"timeout": "1h"}, Options{})
	_, err = do(t.Context(), p, scopeOf("a"), request(50*time.Millisecond))
	wantCode(t, err, wasmatrix.CodeTimeout)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = do(ctx, p, scopeOf("a"), request(0))
	wantCode(t, err, wasmatrix.CodeTimeout)
	// The call's own reason is passed on.
	revoked := wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "revoked")
	caused, end := context.WithCancelCause(t.Context())
	defer time.AfterFunc(50*time.Millisecond, func() { end(revoked) }).Stop()
	_, err = do(caused, p, scopeOf("a"), request(0))
	if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
		t.Error(err)
	}
}

// Whatever an exchange waits in, it is ended from outside.
func TestWaitsAreEnded(t *testing.T) {
	silent := "http://" + serveRaw(t, func(net.Conn) { <-t.Context().Done() }).addr
	half := "http://" + serveRaw(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}
	}).addr
	waits := map[string]func(x capability.Exchange) error{
		"in Write": func(x capability.Exchange) error {
			for {
				if _, err := x.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
		},
		"in Response": func(x capability.Exchange) error { _, err := x.Response(); return err },
		"in Read": func(x capability.Exchange) error {
			if _, err := x.Response(); err != nil {
				return fmt.Errorf("no response: %w", err)
			}
			_, err := x.Read(make([]byte, 1))
			return err
		},
	}
	for where, wait := range waits {
		for how, code := range map[string]wasmatrix.Code{"Close": wasmatrix.CodeInvalidRequest, "the provider's Close": wasmatrix.CodeProviderUnavailable, "its context": wasmatrix.CodeTimeout} {
			t.Run(where+" by "+how, func(t *testing.T) {
				p := open(t, map[string]string{"max_request": "1TiB"}, Options{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r := &capability.Request{Method: "POST", URL: silent}
				if where == "in Read" {
					r = &capability.Request{Method: "GET", URL: half}
				}
				x, err := p.Open(ctx, scopeOf("a"), r)
				if err != nil {
					t.Fatal(err)
				}
				defer x.Close()
				ended := make(chan error, 1)
				go func() { ended <- wait(x) }()
				eventually(t, "the request is under way", func() bool { return x.(*exchange).outset.Load() })
				if where == "in Read" {
					<-x.(*exchange).done
				}
				switch how {
				case "Close":
					_ = x.Close()
				case "its context":
					cancel()
				default:
					p.Close()
				}
				select {
				case err := <-ended:
					wantCode(t, err, code)
					_, err = x.Read(make([]byte, 1))
					wantCode(t, err, code)
					_, err = x.Write([]byte("x"))
					wantCode(t, err, code)
				case <-time.After(patience):
					t.Fatal("it still waits")
				}
			})
		}
	}
}

func TestAClosedProviderTakesNothing(t *testing.T) {
	s := serve(t, echo)
	p := open(t, nil, Options{})
	x, err := p.Open(t.Context(), scopeOf("a"), &capability.Request{Method: "GET", URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	p.Close()
	_, err = x.Response()
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	_, err = get(t, p, s.URL)
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
}

func TestAnExchangeThatNobodyClosesEndsWithItsTime(t *testing.T) {
	s := serve(t, echo)
	p := open(t, map[string]string{"timeout": "50ms"}, Options{})
	x, err := p.Open(t.Context(), scopeOf("a"), &capability.Request{Method: "GET", URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Response(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the exchange has left", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, pl := range p.pools {
			pl.mu.Lock()
			n := len(pl.open)
			pl.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	})
	_, err = x.Read(make([]byte, 1))
	wantCode(t, err, wasmatrix.CodeTimeout)
}
