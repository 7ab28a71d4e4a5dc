package httpout

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// counted is a server that answers with the client's address, and counts
// connections, and the requests that it answers at a time.
type counted struct {
	*httptest.Server
	conns, now, most atomic.Int64
	enter, leave     chan struct{} // of the handler, for requests to /wait
}

func serveCounted(t *testing.T) *counted {
	t.Helper()
	s := &counted{enter: make(chan struct{}, 1000), leave: make(chan struct{})}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.now.Add(1)
		for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
		}
		defer s.now.Add(-1)
		if r.URL.Path == "/wait" {
			s.enter <- struct{}{}
			<-s.leave
		}
		runtime.Gosched()
		_, _ = io.WriteString(w, r.RemoteAddr)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func TestP19_ConnectionsAreOfOneAssignment(t *testing.T) {
	s := serveCounted(t)
	p := open(t, nil, Options{})
	a := scopeOf("a")
	scopes := map[string]func(*capability.Scope){
		"instance":    func(s *capability.Scope) { s.Instance = "b" },
		"incarnation": func(s *capability.Scope) { s.Incarnation++ },
		"epoch":       func(s *capability.Scope) { s.Epoch++ },
		"capability":  func(s *capability.Scope) { s.Capability = "other" },
		"granted":     func(s *capability.Scope) { s.Granted++ },
	}
	ask := func(s2 *capability.Scope) string {
		r, err := do(t.Context(), p, s2, &capability.Request{Method: "GET", URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		return r.body
	}
	first := ask(a)
	seen := map[string]string{first: "a"}
	for what, change := range scopes {
		other := *a
		change(&other)
		from := ask(&other)
		if with, taken := seen[from]; taken {
			t.Errorf("another %s has the connection of %s", what, with)
		}
		seen[from] = what
		again := other // another value of the same scope, as of a later call
		if ask(&again) != from {
			t.Errorf("%s: the connection is not used again", what)
		}
	}
	if ask(a) != first {
		t.Error("the first connection is not used again")
	}
}

func TestConnectionsToAHostAreBounded(t *testing.T) {
	for most, requests := range map[int]int{1: 20, 3: 60} {
		s := serveCounted(t)
		p := open(t, map[string]string{"max_connections": fmt.Sprint(most)}, Options{})
		var wg sync.WaitGroup
		for i := range requests {
			wg.Go(func() {
				for range 5 {
					r, err := do(t.Context(), p, scopeOf(fmt.Sprint("i", i%7)), &capability.Request{Method: "POST", URL: s.URL}, "x")
					if err != nil || r.Status != http.StatusOK {
						t.Error(r, err)
					}
				}
			})
		}
		wg.Wait()
		if m := s.most.Load(); m > int64(most) {
			t.Errorf("%d requests at a time over at most %d connections", m, most)
		}
	}
}

func TestIdleConnectionsMakeRoom(t *testing.T) {
	s, other := serveCounted(t), serveCounted(t)
	p := open(t, map[string]string{"max_connections": "1", "timeout": "20s"}, Options{})
	for _, instance := range []string{"a", "b", "a", "c"} {
		if _, err := do(t.Context(), p, scopeOf(instance), &capability.Request{Method: "GET", URL: s.URL}); err != nil {
			t.Fatal(instance, err)
		}
	}
	if n := s.conns.Load(); n != 4 {
		t.Errorf("%d connections were made", n)
	}
	// The bound on all hosts together, within one instance too.
	p.mu.Lock()
	p.maxTotal = 1
	p.mu.Unlock()
	for _, url := range []string{other.URL, s.URL, other.URL} {
		if _, err := do(t.Context(), p, scopeOf("c"), &capability.Request{Method: "GET", URL: url}); err != nil {
			t.Fatal(url, err)
		}
	}
}

func TestWhoWaitsForAConnectionGetsIt(t *testing.T) {
	s := serveCounted(t)
	p := open(t, map[string]string{"max_connections": "1", "timeout": "20s"}, Options{})
	results := make(chan error, 3)
	ask := func(instance string) {
		_, err := do(t.Context(), p, scopeOf(instance), &capability.Request{Method: "GET", URL: s.URL + "/wait"})
		results <- err
	}
	waiting := func(n int) func() bool {
		return func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.waiting) == n
		}
	}
	answer := func() {
		t.Helper()
		s.leave <- struct{}{}
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	go ask("a")
	<-s.enter
	go ask("a")
	eventually(t, "the second request waits", waiting(1))
	answer()
	<-s.enter
	eventually(t, "it has the connection of the first, and waits for no other", waiting(0))
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	go ask("b")
	eventually(t, "b waits", waiting(1))
	answer()
	<-s.enter // what is idle with a made room for b
	go ask("a")
	eventually(t, "a waits", waiting(1))
	go ask("b")
	eventually(t, "both wait", waiting(2))

	// One who gives up is forgotten.
	short := &capability.Request{Method: "GET", URL: s.URL + "/wait", Timeout: 50 * time.Millisecond}
	_, err := do(t.Context(), p, scopeOf("c"), short)
	wantCode(t, err, wasmatrix.CodeTimeout)
	if wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown {
		t.Error("the outcome of what was never sent is unknown")
	}
	eventually(t, "c does not wait any more", waiting(2))
	for range 3 {
		answer()
	}
}

// Connections of HTTP/2 serve several requests, also those that had begun to
// wait for one of their own.
func TestWhoWaitsForAConnectionGetsItByHTTP2(t *testing.T) {
	enter, leave := make(chan struct{}, 10), make(chan struct{})
	s, roots := serveTLS(t, func(http.ResponseWriter, *http.Request) {
		enter <- struct{}{}
		<-leave
	})
	resolve := make(chan struct{})
	p := open(t, map[string]string{"max_connections": "1", "timeout": "20s"}, Options{RootCAs: roots, Resolver: lookup(func(string) ([]netip.Addr, error) {
		<-resolve
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})})
	results := make(chan error, 3)
	ask := func(instance string) {
		_, err := do(t.Context(), p, scopeOf(instance), &capability.Request{Method: "GET", URL: "https://example.com" + s.URL[strings.LastIndex(s.URL, ":"):]})
		results <- err
	}
	waiting := func(n int) func() bool {
		return func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.waiting) == n
		}
	}
	go ask("a")
	go ask("a")
	eventually(t, "one resolves, one waits", waiting(1))
	close(resolve)
	<-enter
	<-enter
	eventually(t, "both have one connection", waiting(0))
	go ask("b")
	eventually(t, "b waits", waiting(1))
	for range 2 {
		leave <- struct{}{}
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	<-enter // what is idle with a made room for b
	leave <- struct{}{}
	if err := <-results; err != nil {
		t.Error(err)
	}
}

func TestPoolsAreForgotten(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	p := open(t, nil, Options{})
	for i := range 10 {
		if _, err := do(t.Context(), p, scopeOf(fmt.Sprint("i", i)), &capability.Request{Method: "GET", URL: s.URL}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all pools are gone", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.pools) == 0 && p.total == 0
	})
}

// The certificate of one host serves another name on the same address: browsers
// would use one connection for both, which would pass by the checks of the other.
func TestHTTP2ConnectionsAreOfOneHost(t *testing.T) {
	conns := make(chan string, 10)
	s, roots := serveTLS(t, func(_ http.ResponseWriter, r *http.Request) { conns <- r.RemoteAddr + r.Proto })
	names, resolver := serveDNS(t)
	names.answer("example.com", "127.0.0.1") // which the certificate is for
	names.answer("www.example.com", "127.0.0.1")
	p := open(t, nil, Options{RootCAs: roots, Resolver: resolver})
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	mustGet(t, p, s.URL)
	mustGet(t, p, "https://example.com"+port)
	mustGet(t, p, "https://example.com"+port)
	one, two, three := <-conns, <-conns, <-conns
	if one == two || two != three || !strings.HasSuffix(one, "HTTP/2.0") {
		t.Error(one, two, three)
	}
	_, err := do(t.Context(), p, scopeOf("a", "http:domain:example.com"), &capability.Request{Method: "GET", URL: s.URL})
	wantCode(t, err, wasmatrix.CodePermissionDenied)
}

func TestADialEndsWithItsRequest(t *testing.T) {
	// The TLS handshake is never answered.
	s := serveRaw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	p := open(t, nil, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := do(ctx, p, scopeOf("a"), &capability.Request{Method: "GET", URL: "https://" + s.addr})
	wantCode(t, err, wasmatrix.CodeTimeout)
	eventually(t, "the connection is gone", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.total == 0 && len(p.pools) == 0
	})
}
