package httpout

import (
	"context"
	"crypto/x509"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Resolver finds the addresses of a name, as [net.Resolver] does. Names with a
// dot in them come with a final one, by which resolvers leave them as they are;
// those without are completed as the system does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options are what a [Provider] needs of its process. The zero value is of use.
type Options struct {
	// Logger has a line at debug level for each request that is refused or fails
	// before it is sent, with the addresses that guests are not told. nil discards.
	Logger   hclog.Logger
	Resolver Resolver // nil is [net.DefaultResolver]
	// Alive reports whether this process may act for instances, as by its lease. It
	// is asked before every dial and every write to a connection, besides the scope's
	// own, by many goroutines, and must neither block nor call the provider. nil is
	// always.
	Alive func() bool
	// Own reports whether an address is where the cluster itself listens, which no
	// configuration allows. It is asked with every dial. nil is never.
	Own     func(netip.AddrPort) bool
	RootCAs *x509.CertPool // that servers' certificates are checked against; nil is the system's
}

// Provider makes the requests of guests under one configuration. Its methods may
// be called concurrently. An update of the configuration takes a new provider, so
// that no connection outlives the rules by which it was made.
type Provider struct {
	config    wasmatrix.HTTPConfig
	log       hclog.Logger
	resolver  Resolver
	alive     func() bool
	own       func(netip.AddrPort) bool
	roots     *x509.CertPool
	addresses *addresses
	hosts     *wasmatrix.Rules // of the configuration; nil allows all
	maxTotal  int

	running sync.WaitGroup // exchanges, what they run, and dials

	mu     sync.Mutex
	closed bool
	pools  map[poolKey]*pool
	slots
}

var _ capability.HTTP = (*Provider)(nil)

// New makes a provider of a configuration that [wasmatrix.HTTPConfigOf] gave. It
// starts nothing. The caller calls Close.
func New(cfg wasmatrix.HTTPConfig, o Options) *Provider {
	p := &Provider{
		config: cfg, log: o.Logger, resolver: o.Resolver, alive: o.Alive, own: o.Own, roots: o.RootCAs,
		addresses: newAddresses(cfg.AllowAddresses), maxTotal: maxConnections,
		pools: make(map[poolKey]*pool), slots: slots{toHost: make(map[string]int)},
	}
	if p.log == nil {
		p.log = hclog.NewNullLogger()
	}
	if p.resolver == nil {
		p.resolver = net.DefaultResolver
	}
	if p.alive == nil {
		p.alive = func() bool { return true }
	}
	if p.own == nil {
		p.own = func(netip.AddrPort) bool { return false }
	}
	if p.config.Timeout <= 0 {
		p.config.Timeout = 30 * time.Second
	}
	p.config.MaxConnections = max(1, p.config.MaxConnections)
	if len(cfg.AllowHosts) > 0 {
		var domains []wasmatrix.Permission
		for _, host := range cfg.AllowHosts {
			if a, err := netip.ParseAddr(host); err == nil {
				host = a.Unmap().String()
			}
			domains = append(domains, wasmatrix.Permission("http:domain:"+host))
		}
		p.hosts = wasmatrix.RulesOf(wasmatrix.ProviderHTTP, domains)
	}
	return p
}

// Open implements [capability.HTTP]. It checks the request and sends nothing yet:
// that is done by the first Write, or else by Response. The caller closes the
// exchange, whose context and timeout end it as well.
func (p *Provider) Open(ctx context.Context, s *capability.Scope, r *capability.Request) (capability.Exchange, error) {
	if !p.alive() || s.Alive != nil && !s.Alive() {
		return nil, errLapsed
	}
	if err := checkMethod(r.Method); err != nil {
		return nil, err
	}
	to, err := parseTarget(r.URL)
	if err != nil {
		return nil, err
	}
	h, err := readHeader(r.Header)
	if err != nil {
		return nil, err
	}
	timeout := p.config.Timeout
	switch {
	case h.host != "" && !to.isAuthority(h.host):
		return nil, invalid("header", "Host is not that of the URL, which decides where the request goes")
	case h.length > p.config.MaxRequest:
		return nil, p.tooLarge()
	case r.Timeout < 0:
		return nil, invalid("timeout", "the timeout is below 0")
	case r.Timeout > 0:
		timeout = min(timeout, r.Timeout)
	}
	if err := p.permit(s, to); err != nil {
		return nil, err
	}
	if p.config.SendTrace {
		if id := beginTrace(h.fields); id != "" {
			p.log.Debug("a trace begins", "trace", id, "instance", s.Instance, "capability", s.Capability, "host", to.host)
		}
	}
	x := newExchange(p, s, r.Method, to, h)
	x.begin(ctx, timeout)
	if err := p.join(x); err != nil {
		x.cancel(err)
		return nil, err
	}
	x.watch()
	return x, nil
}

// permit asks the rules of the scope and of the configuration.
func (p *Provider) permit(s *capability.Scope, to *target) error {
	if s.Rules == nil || !s.Rules.Allow(wasmatrix.AccessHTTP, to.host) || p.hosts != nil && !p.hosts.Allow(wasmatrix.AccessHTTP, to.host) {
		p.log.Debug("host is not permitted", "instance", s.Instance, "capability", s.Capability, "host", to.host)
		return errDenied
	}
	return nil
}

func (p *Provider) tooLarge() error {
	return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the body of a request has more than %d bytes", p.config.MaxRequest)
}

// begin counts something that runs, unless the provider is closed.
func (p *Provider) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.running.Add(1)
	return true
}

// Close ends all requests, which fail with PROVIDER_UNAVAILABLE, closes all
// connections, and returns when nothing runs any more. Further calls do nothing.
func (p *Provider) Close() {
	p.mu.Lock()
	p.closed = true
	var open []*exchange
	var conns []*conn
	pools := slices.Collect(maps.Values(p.pools))
	for _, pl := range pools {
		pl.mu.Lock()
		open = slices.AppendSeq(open, maps.Keys(pl.open))
		pl.mu.Unlock()
		conns = slices.AppendSeq(conns, maps.Keys(pl.conns))
	}
	p.mu.Unlock()
	for _, x := range open {
		x.cancel(errStopped)
	}
	closeAll(conns)
	p.running.Wait()
	for _, pl := range pools {
		pl.transport.CloseIdleConnections()
	}
}
