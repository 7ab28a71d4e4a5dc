package client

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// DefaultPort is the port of a server's API.
const DefaultPort = "7480"

// ParseAddr reads the address of a server: host, host:port or
// http://host:port, and returns host:port. Errors are E1.
func ParseAddr(s string) (string, error) {
	bad := func(why string) (string, error) {
		return "", wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "server address %q: %s", s, why).With(wasmatrix.DetailField, "address")
	}
	addr := strings.TrimSpace(s)
	if strings.Contains(addr, "://") {
		u, err := url.Parse(addr)
		switch {
		case err != nil:
			return bad("not a URL")
		case u.Scheme != "http":
			return bad("only http is supported")
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			return bad("a path or query is not supported")
		}
		addr = u.Host
	}
	if addr == "" {
		return bad("it is empty")
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), DefaultPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return bad("not of the form host:port")
		}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" || strings.ContainsAny(host+port, " /") {
		return bad("not of the form host:port")
	}
	return net.JoinHostPort(host, port), nil
}

// servers chooses which server to call: the same as long as it answers, another
// after a failure.
type servers struct {
	list func() []string // host:port of each; may change

	mu      sync.Mutex
	current string // guarded by mu; "" before the first call
	hint    string // guarded by mu; tried next, once
}

// pick returns the server to call next, or false if none is known.
func (s *servers) pick() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hint != "" {
		addr := s.hint
		s.hint = ""
		return addr, true
	}
	if s.current == "" {
		list := s.list()
		if len(list) == 0 {
			return "", false
		}
		s.current = list[0]
	}
	return s.current, true
}

// failed turns to the server after addr, unless another call has turned away
// from it already. Hint is tried before that; it may be "".
func (s *servers) failed(addr, hint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hint != "" && hint != addr {
		s.hint = hint
	}
	if s.current != addr {
		return
	}
	s.current = ""
	if list := s.list(); len(list) > 0 {
		// Index -1, of an address that the list no longer has, goes on with the first.
		s.current = list[(slices.Index(list, addr)+1)%len(list)]
	}
}

// prefer makes addr the server to call.
func (s *servers) prefer(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = addr
}

// count is how many servers there are to try.
func (s *servers) count() int { return len(s.list()) }
