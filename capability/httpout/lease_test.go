package httpout

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/socket"
)

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestNothingIsSentAfterTheLease(t *testing.T) {
	for _, which := range []string{"of the process", "of the scope"} {
		t.Run(which, func(t *testing.T) {
			s := record(t, "0\r\n\r\n", okay)
			var lapsed atomic.Bool
			alive := func() bool { return !lapsed.Load() }
			scope, o := scopeOf("a"), Options{}
			if which == "of the scope" {
				scope.Alive = alive
			} else {
				o.Alive = alive
			}
			p := open(t, nil, o)
			x, err := p.Open(t.Context(), scope, &capability.Request{Method: "POST", URL: "http://" + s.addr})
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			if _, err := x.Write([]byte("first")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the first piece has come", func() bool { return strings.HasSuffix(s.text(), "first\r\n") })
			before := s.text()
			lapsed.Store(true)
			_, err = x.Write([]byte("second"))
			wantCode(t, err, wasmatrix.CodeProviderUnavailable)
			if wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown {
				t.Errorf("the outcome of what was sent is not unknown: %v", err)
			}
			_, err = x.Response()
			wantCode(t, err, wasmatrix.CodeProviderUnavailable)
			eventually(t, "the connection is closed", func() bool { return s.over(1) })
			if s.text() != before {
				t.Errorf("%q came after the lease", s.text()[len(before):])
			}
			_, err = do(t.Context(), p, scope, &capability.Request{Method: "GET", URL: "http://" + s.addr})
			wantCode(t, err, wasmatrix.CodeProviderUnavailable)
			if s.conns != 1 {
				t.Errorf("%d connections", s.conns)
			}
		})
	}
}

// P23 as far as it is up to this provider: at whatever moment the lease ends,
// from then on nothing is sent. The moment is counted in times that it is asked:
// each write is to be preceded by a question of its own, so as many beginnings of
// the request are seen as it has writes.
func TestP23_HTTPStopsAtAnyMomentOfARequest(t *testing.T) {
	t.Run("the process", func(t *testing.T) { stopAtAnyMoment(t, false) })
	t.Run("the scope", func(t *testing.T) { stopAtAnyMoment(t, true) })
}

func stopAtAnyMoment(t *testing.T, ofScope bool) {
	var beginnings []string
	whole := ""
	for n := int64(0); whole == ""; n++ {
		s := record(t, "0\r\n\r\n", okay)
		var asked atomic.Int64
		alive := func() bool { return asked.Add(1) <= n }
		scope, o := scopeOf("a"), Options{Alive: alive}
		if ofScope {
			scope.Alive, o.Alive = alive, nil
		}
		p := open(t, nil, o)
		r, err := do(t.Context(), p, scope, &capability.Request{Method: "POST", URL: "http://" + s.addr}, "one", "two")
		p.Close()
		s.mu.Lock()
		conns := s.conns
		s.mu.Unlock()
		eventually(t, "the connection is closed", func() bool { return s.over(conns) })
		text := strings.ReplaceAll(s.text(), s.addr, "HOST")
		if err == nil {
			whole = text
			if r.body != "ok" || asked.Load() > n {
				t.Errorf("%v with %d questions, of which %d were answered yes", r, asked.Load(), n)
			}
			break
		}
		wantCode(t, err, wasmatrix.CodeProviderUnavailable)
		if !slices.Contains(beginnings, text) {
			beginnings = append(beginnings, text)
		}
		if n > 100 {
			t.Fatal("no request is ever whole")
		}
	}
	if !strings.HasSuffix(whole, "\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n") {
		t.Errorf("the whole request is %q", whole)
	}
	for i, text := range beginnings {
		if !strings.HasPrefix(whole, text) || i > 0 && len(text) <= len(beginnings[i-1]) {
			t.Errorf("%d: %q", i, text)
		}
	}
	for _, end := range []string{"3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"} {
		if !slices.ContainsFunc(beginnings, func(s string) bool { return strings.HasSuffix(s, end) }) {
			t.Errorf("no lease ended just after %q", end)
		}
	}
}

// A write that waits for a slow server must not go on when the process was
// paused meanwhile.
func TestAWriteThatWaitsStopsWithTheLease(t *testing.T) {
	t.Run("the process", func(t *testing.T) { stopInAWrite(t, false) })
	t.Run("the scope", func(t *testing.T) { stopInAWrite(t, true) })
}

func stopInAWrite(t *testing.T, ofScope bool) {
	read, total := make(chan struct{}), make(chan int64, 1)
	startReading := sync.OnceFunc(func() { close(read) })
	s := serveRaw(t, func(c net.Conn) {
		<-read
		n, _ := io.Copy(io.Discard, c)
		total <- n
	})
	t.Cleanup(startReading)
	var asked, lapsed atomic.Int64
	alive := func() bool {
		asked.Add(1)
		return lapsed.Load() == 0
	}
	scope, o := scopeOf("a"), Options{Alive: alive}
	if ofScope {
		scope.Alive, o.Alive = alive, nil
	}
	p := open(t, nil, o)
	x := newExchange(p, scope, "GET", &target{}, &header{})
	x.begin(t.Context(), patience)
	if err := p.join(x); err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	tcp, err := race(x.ctx, p.dialer(x), []netip.AddrPort{netip.MustParseAddrPort(s.addr)})
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{Conn: tcp, out: socket.NewWriter(tcp), pool: x.pool, addr: s.addr}
	const size = 64 << 20
	written := make(chan int, 1)
	go func() {
		n, err := c.Write(make([]byte, size))
		if wasmatrix.CodeOf(err) != wasmatrix.CodeProviderUnavailable {
			t.Errorf("the write ended with %v", err)
		}
		written <- n
	}()
	eventually(t, "the write waits", func() bool { return asked.Load() >= 3 }) // to dial, at first, and again
	lapsed.Store(1)
	startReading()
	n := <-written
	if got := <-total; got != int64(n) || n == size || n == 0 {
		t.Errorf("%d bytes came of %d, of which %d were said to be sent", got, size, n)
	}
}

func TestNothingIsSentAfterTheLeaseByHTTP2(t *testing.T) {
	var requests, bytes atomic.Int64
	ended := make(chan error, 10)
	s, roots := serveTLS(t, func(_ http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Method != http.MethodPost {
			return
		}
		buf := make([]byte, 1000)
		for {
			n, err := r.Body.Read(buf)
			bytes.Add(int64(n))
			if err != nil {
				ended <- err
				return
			}
		}
	})
	var lapsed atomic.Bool
	p := open(t, nil, Options{RootCAs: roots, Alive: func() bool { return !lapsed.Load() }})
	mustGet(t, p, s.URL)
	x, err := p.Open(t.Context(), scopeOf("a"), &capability.Request{Method: "POST", URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, err := x.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first piece has come", func() bool { return bytes.Load() == 5 })
	lapsed.Store(true)
	_, err = x.Write([]byte("second"))
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	if err := <-ended; err == io.EOF { //nolint:errorlint // what io.Reader returns
		t.Error("the server took the body for complete")
	}
	_, err = get(t, p, s.URL)
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	if requests.Load() != 2 || bytes.Load() != 5 {
		t.Errorf("%d requests, %d bytes", requests.Load(), bytes.Load())
	}
	p.mu.Lock()
	if len(p.pools) > 0 {
		t.Error("connections of before the lapse may be used again")
	}
	p.mu.Unlock()
	lapsed.Store(false)
	mustGet(t, p, s.URL)
}
