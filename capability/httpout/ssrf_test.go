package httpout

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// guarded is a server on all addresses of this machine that nobody may reach.
func guarded(t *testing.T) (port string, reached *atomic.Int64) {
	t.Helper()
	reached = new(atomic.Int64)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }),
		ConnState: func(_ net.Conn, state http.ConnState) { // a connection alone is too much
			if state == http.StateNew {
				reached.Add(1)
			}
		},
	}}
	s.Start()
	t.Cleanup(s.Close)
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port, reached
}

// forms are all ways that are known to write an address of this machine or its
// network, as the host of a URL.
var forms = []string{
	"127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]",
	"localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1.", "①②⑦.⓪.⓪.①", "127。0。0。1",
	"2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "127.1", "127.0.1", "0", "127.0.0.01", "0x7f.0.1", "127.0.0.1.1",
	"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "[fe80::1]", "[fe80::1%25lo]", "[fd00::1]", "[fec0::1]", "[ff02::1]",
	"[64:ff9b::127.0.0.1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[2001:db8::1]", "[100::1]", "255.255.255.255", "224.0.0.1", "240.0.0.1", "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.0.0.1",
	"inside.example", "inside6.example", "mixed.example", "mapped.example", "nat64.example", "metadata.example",
}

func forbiddenNames(t *testing.T) (*nameServer, Resolver) {
	names, resolver := serveDNS(t)
	for name, addrs := range map[string]string{
		"inside.example": "127.0.0.1", "inside6.example": "::1 fd00::1", "mixed.example": "10.0.0.1 127.0.0.1 ::1 169.254.169.254",
		"mapped.example": "::ffff:127.0.0.1", "nat64.example": "64:ff9b::7f00:1", "metadata.example": "169.254.169.254 fd00:ec2::254",
		"a.localhost": "127.0.0.1",
	} {
		names.answer(name, addrs)
	}
	return names, resolver
}

func TestForbiddenAddressesAreNotReached(t *testing.T) {
	port, reached := guarded(t)
	_, resolver := forbiddenNames(t)
	p := open(t, map[string]string{"allow_addresses": ""}, Options{Resolver: resolver})
	for _, host := range forms {
		for _, scheme := range []string{"http", "https"} {
			_, err := get(t, p, scheme+"://"+host+":"+port+"/")
			switch wasmatrix.CodeOf(err) {
			case wasmatrix.CodeInvalidRequest:
			case wasmatrix.CodePermissionDenied:
				// The same words as for a host that is not permitted.
				_, other := do(t.Context(), p, scopeOf("a", "http:domain:other.example"), &capability.Request{Method: "GET", URL: "http://elsewhere.example/"})
				if err.Error() != other.Error() {
					t.Errorf("%s: %q tells more than %q", host, err, other)
				}
			default:
				t.Errorf("%s://%s: %v", scheme, host, err)
			}
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("the server was reached %d times", n)
	}
}

func TestForbiddenAddressesAreNotReachedByRedirects(t *testing.T) {
	port, reached := guarded(t)
	_, resolver := forbiddenNames(t)
	outside := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	// Of this machine the one address of the outside server is allowed, by port and
	// all, which the guarded one does not use.
	outsideHost := strings.TrimPrefix(outside.URL, "http://")
	p := open(t, map[string]string{"allow_addresses": "127.0.0.1"}, Options{Resolver: resolver})
	for _, host := range forms {
		if strings.Contains(host, "127.0.0.1") || host == "localhost" || host == "LOCALHOST" || host == "localhost." || host == "①②⑦.⓪.⓪.①" || host == "127。0。0。1" ||
			host == "[::ffff:7f00:1]" || host == "a.localhost" || host == "inside.example" || host == "mixed.example" || host == "mapped.example" {
			continue // allowed here
		}
		r, err := get(t, p, "http://"+outsideHost+"/?to=http://"+strings.ReplaceAll(host, "%", "%25")+":"+port+"/")
		if err == nil && r.Status == http.StatusTemporaryRedirect {
			continue // handed over
		}
		if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
			t.Errorf("%s: %v %v", host, r.Response, err)
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("the server was reached %d times", n)
	}
}

func TestRebindingGainsNothing(t *testing.T) {
	// Two servers on one port: 127.0.0.2 is the public one, and all that is allowed.
	var reached atomic.Int64
	inside := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	port := inside.URL[strings.LastIndex(inside.URL, ":"):]
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2"+port)
	if err != nil {
		t.Skip("this system has one address of loopback: ", err)
	}
	public := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // so that each request resolves anew
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		_, _ = w.Write([]byte("public"))
	})}}
	public.Start()
	t.Cleanup(public.Close)
	names, resolver := serveDNS(t)
	p := open(t, map[string]string{"allow_addresses": "127.0.0.2"}, Options{Resolver: resolver})

	names.answer("rebind.example", "127.0.0.2,127.0.0.1,127.0.0.2,::1,127.0.0.1 127.0.0.2")
	for i, want := range []string{"public", "", "public", "", "public"} {
		r, err := get(t, p, "http://rebind.example"+port+"/")
		if want == "" {
			if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
				t.Errorf("%d: %v %v", i, r, err)
			}
		} else if err != nil || r.body != want {
			t.Errorf("%d: %v %v", i, r, err)
		}
		// One look-up makes one connection: there is none between check and use.
		if n := names.times("rebind.example"); n != i+1 {
			t.Errorf("%d look-ups after %d requests", n, i+1)
		}
	}

	// Between a redirect and what it leads to.
	names.answer("redirect.example", "127.0.0.2,127.0.0.1")
	_, err = get(t, p, "http://redirect.example"+port+"/?to=/inside")
	wantCode(t, err, wasmatrix.CodePermissionDenied)
	if n := reached.Load(); n > 0 {
		t.Errorf("the server inside was reached %d times", n)
	}
}

// TestTheClusterItselfIsOutOfReach, whatever is allowed, also by way of a redirect.
func TestTheClusterItselfIsOutOfReach(t *testing.T) {
	var reached atomic.Int64
	own := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	})
	addr := netip.MustParseAddrPort(own.Listener.Addr().String())
	p := open(t, map[string]string{"allow_addresses": "127.0.0.0/8"}, Options{Own: func(a netip.AddrPort) bool { return a == addr }})
	if _, err := get(t, p, other.URL); err != nil {
		t.Error(err)
	}
	for _, url := range []string{own.URL, other.URL + "/?to=" + own.URL} {
		_, err := get(t, p, url)
		wantCode(t, err, wasmatrix.CodePermissionDenied)
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("it was reached %d times", n)
	}
}

func TestTheSocketsAddressIsWhatCounts(t *testing.T) {
	port, reached := guarded(t)
	p := open(t, map[string]string{"allow_addresses": ""}, Options{})
	x := newExchange(p, scopeOf("a"), "GET", &target{}, &header{})
	x.begin(t.Context(), patience)
	defer x.stop()
	// As if all checks of names and lists before had been passed.
	for _, a := range []string{"127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"} {
		addr := netip.MustParseAddrPort(net.JoinHostPort(a, port))
		_, err := race(x.ctx, p.dialer(x), []netip.AddrPort{addr})
		if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
			t.Errorf("%s: %v", a, err)
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("the server was reached %d times", n)
	}
}

func TestMixedAnswersUseWhatIsPermitted(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	names, resolver := serveDNS(t)
	names.answer("mixed.example", "10.255.255.1 169.254.169.254 127.0.0.1 ::1")
	names.answer("none.example", "")
	p := open(t, map[string]string{"allow_addresses": "127.0.0.1"}, Options{Resolver: resolver})
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	mustGet(t, p, "http://mixed.example"+port)
	for _, name := range []string{"none.example", "unknown.example"} {
		_, err := get(t, p, "http://"+name+port)
		wantCode(t, err, wasmatrix.CodeCommunication)
	}
}

func TestNamesWithDotsAreAbsolute(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	asked := make(chan string, 10)
	p := open(t, nil, Options{Resolver: lookup(func(host string) ([]netip.Addr, error) {
		asked <- host
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})})
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	for host, want := range map[string]string{"api.example": "api.example.", "api.example.": "api.example.", "API": "api"} {
		r := mustGet(t, p, "http://"+host+port)
		if got := <-asked; got != want {
			t.Errorf("%s was looked up as %q: %v", host, got, r)
		}
		p.mu.Lock()
		spare := p.pools[keyOf(scopeOf("a"))]
		p.mu.Unlock()
		spare.transport.CloseIdleConnections()
	}
}

type lookup func(host string) ([]netip.Addr, error)

func (f lookup) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) { return f(host) }

func TestTheEnvironmentsProxyIsNotUsed(t *testing.T) {
	used := make(chan bool, 10)
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { used <- true })
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	names, resolver := serveDNS(t)
	names.answer("a.example", "127.0.0.1")
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("direct")) })
	p := open(t, nil, Options{Resolver: resolver})
	if got := mustGet(t, p, "http://a.example"+s.URL[strings.LastIndex(s.URL, ":"):]); got.body != "direct" || len(used) > 0 {
		t.Error(got.body, len(used))
	}
}
