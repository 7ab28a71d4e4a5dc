package httpout

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/socket"
)

// hop is one request of an exchange, of which redirects make several. Dials find
// it in their context.
type hop struct {
	x *exchange

	mu   sync.Mutex
	has  bool          // a connection
	done chan struct{} // closed when it has
}

type hopKey struct{}

// wants is called when net/http begins to look for a connection, again where it
// tries another than the first.
func (h *hop) wants() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.has {
		h.has, h.done = false, make(chan struct{})
	}
}

func (h *hop) got() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.has {
		h.has = true
		close(h.done)
	}
}

// served is closed when there is a connection, be it another than the one that
// was to be made for it.
func (h *hop) served() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done
}

const (
	maxAddresses = 8 // of one name that are tried
	// headStart is what an address has before the next is tried beside it (RFC 8305).
	headStart = 250 * time.Millisecond
)

func (pl *pool) dialTCP(ctx context.Context, _, addr string) (net.Conn, error) {
	return pl.dial(ctx, addr, nil)
}

func (pl *pool) dialTLS(ctx context.Context, _, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, errHost
	}
	return pl.dial(ctx, addr, &tls.Config{
		ServerName: host, RootCAs: pl.p.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	})
}

// dial makes a connection. net/http detaches its context from the request for
// which it dials, so that a later one can have the connection; here a dial ends
// with its request.
func (pl *pool) dial(ctx context.Context, addr string, secure *tls.Config) (net.Conn, error) {
	h, ok := ctx.Value(hopKey{}).(*hop)
	if !ok {
		return nil, errBroken
	}
	p := pl.p
	if !p.begin() {
		return nil, errStopped
	}
	defer p.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer h.x.whenOver(cancel)()

	if !p.alive() || !h.x.alive() {
		return nil, errLapsed
	}
	if err := p.acquire(ctx, h, addr); err != nil {
		return nil, err
	}
	tcp, err := p.connect(ctx, h.x, addr)
	if err != nil {
		p.giveBack(addr)
		return nil, err
	}
	c := &conn{Conn: tcp, out: socket.NewWriter(tcp), pool: pl, addr: addr}
	if err := p.keep(c); err != nil {
		_ = tcp.Close()
		p.giveBack(addr)
		return nil, err
	}
	if secure == nil {
		return c, nil
	}
	ctx, cancelHandshake := context.WithTimeout(ctx, handshakeTimeout)
	defer cancelHandshake()
	over := tls.Client(c, secure)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, tlsFailure(err)
	}
	return over, nil
}

// connect resolves addr and connects to one of its addresses.
func (p *Provider) connect(ctx context.Context, x *exchange, addr string) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, errHost
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, errHost
	}
	found, err := p.resolve(ctx, host)
	if err != nil {
		p.log.Debug("name not resolved", "instance", x.scope.Instance, "host", host, "error", err)
		return nil, errResolve
	}
	var permitted []netip.AddrPort
	for _, a := range found {
		if p.addresses.permits(a) {
			permitted = append(permitted, netip.AddrPortFrom(a, uint16(port)))
		} else {
			p.log.Debug("address is forbidden", "instance", x.scope.Instance, "host", host, "address", a)
		}
	}
	if len(permitted) == 0 {
		return nil, errDenied
	}
	c, err := race(ctx, p.dialer(x), interleave(permitted))
	if err != nil {
		p.log.Debug("no connection", "instance", x.scope.Instance, "host", host, "error", err)
		return nil, connectFailure(err)
	}
	return c, nil
}

// dialer checks the address of each socket before it connects. This is the check
// that counts: whatever was looked up, asked or decided before, the kernel
// connects to what is seen here.
func (p *Provider) dialer(x *exchange) *net.Dialer {
	return &net.Dialer{
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil || !p.addresses.permits(a.Addr()) || p.own(a) {
				return errDenied
			}
			if !p.alive() || !x.alive() {
				return errLapsed
			}
			return nil
		},
	}
}

// resolve returns the addresses of a host, each once.
func (p *Provider) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	// A name with dots is absolute: the search list of the node must not make
	// another host of the one that was permitted.
	if strings.Contains(host, ".") {
		host += "."
	}
	all, err := p.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	seen := make(map[netip.Addr]bool, len(all))
	for _, a := range all {
		if a = a.Unmap(); !seen[a] {
			seen[a] = true
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("the name has no address")
	}
	return found, nil
}

// interleave alternates the families, beginning with that of the first address,
// and keeps the order within each. It leaves out what is too much.
func interleave(all []netip.AddrPort) []netip.AddrPort {
	var families [2][]netip.AddrPort
	for _, a := range all {
		i := 0
		if a.Addr().Is4() != all[0].Addr().Is4() {
			i = 1
		}
		families[i] = append(families[i], a)
	}
	var order []netip.AddrPort
	for i := range all {
		for _, f := range families {
			if i < len(f) && len(order) < maxAddresses {
				order = append(order, f[i])
			}
		}
	}
	return order
}

// race connects to the addresses, each begun when the one before has failed or
// had its head start, and returns the first connection. Of the errors it returns
// the first that is not a refusal of ours.
func race(ctx context.Context, d *net.Dialer, addrs []netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	begun, pending := 0, 0
	begin := func() {
		a := addrs[begun]
		begun++
		pending++
		go func() {
			c, err := d.DialContext(ctx, "tcp", a.String())
			results <- result{c, err}
		}()
	}
	defer func() {
		cancel()
		for ; pending > 0; pending-- {
			if r := <-results; r.err == nil {
				_ = r.conn.Close()
			}
		}
	}()
	next := time.NewTimer(headStart)
	defer next.Stop()
	var failed error
	for begin(); pending > 0; {
		select {
		case r := <-results:
			pending--
			if c, ok := r.conn.(*net.TCPConn); ok && r.err == nil {
				return c, nil
			}
			if failed == nil || wasmatrix.CodeOf(failed) == wasmatrix.CodePermissionDenied {
				failed = r.err
			}
		case <-next.C:
		}
		if begun < len(addrs) && ctx.Err() == nil {
			begin()
			next.Reset(headStart)
		}
	}
	return nil, failed
}
