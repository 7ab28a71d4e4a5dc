package wasmatrix

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Provider is the replicated record of a provider: what it is and where it
// runs, apart from the instances that use it. It is immutable.
type Provider struct {
	ID          ProviderID
	Type        ProviderType
	Config      map[string]string // checked by [ValidateProvider]
	Constraints []Constraint      // on the nodes that host it; none is every node
	Stopped     bool
	Revision    uint64 // counts its updates from 1; 0 of a default one that was never changed
	ChangedAt   Time
	CreateIndex uint64
	ModifyIndex uint64
}

// DefaultProvider is the ID of the provider of a type that runs without being
// started. It is the name of the type.
func DefaultProvider(typ ProviderType) ProviderID { return ProviderID(typ) }

// ProviderOf returns a provider, a default one as well while it has no record.
func ProviderOf(s Snapshot, id ProviderID) (*Provider, bool) {
	if p, ok := s.Provider(id); ok {
		return p, true
	}
	if typ := ProviderType(id); slices.Contains(ProviderTypes, typ) {
		return &Provider{ID: id, Type: typ}, true
	}
	return nil, false
}

// AllProviders returns all providers by ID, the default ones included.
func AllProviders(s Snapshot) []*Provider {
	var all []*Provider
	for p := range s.Providers() {
		all = append(all, p)
	}
	for _, typ := range ProviderTypes {
		if _, ok := s.Provider(DefaultProvider(typ)); !ok {
			all = append(all, &Provider{ID: DefaultProvider(typ), Type: typ})
		}
	}
	slices.SortFunc(all, func(a, b *Provider) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all
}

// Bounds of a provider's configuration.
const (
	maxConfigKeys  = 32
	maxConfigValue = 4096 // bytes
)

// ValidateProvider checks a provider that is to be recorded. Malformed input is
// E1, a key or value that its type does not know is E6, with the key as
// [DetailField] "config.KEY".
func ValidateProvider(p *Provider) error {
	if err := p.ID.Validate(); err != nil {
		return err
	}
	if !slices.Contains(ProviderTypes, p.Type) {
		return Errorf(CodeValidation, "unknown provider type %q: kv, http or messaging", p.Type).With(DetailField, "type")
	}
	if typ := ProviderType(p.ID); slices.Contains(ProviderTypes, typ) && typ != p.Type {
		return Errorf(CodeValidation, "provider %q is the default one of type %s and cannot be of type %s", p.ID, typ, p.Type).With(DetailField, "type")
	}
	if len(p.Constraints) > MaxConstraints {
		return Errorf(CodeValidation, "%d constraints, at most %d are allowed", len(p.Constraints), MaxConstraints).With(DetailField, "constraints")
	}
	for _, c := range p.Constraints {
		if err := c.Validate(); err != nil {
			return err
		}
	}
	if len(p.Config) > maxConfigKeys {
		return Errorf(CodeValidation, "%d configuration keys, at most %d are allowed", len(p.Config), maxConfigKeys).With(DetailField, "config")
	}
	var err error
	switch p.Type {
	case ProviderKV:
		_, err = KVConfigOf(p.Config)
	case ProviderHTTP:
		_, err = HTTPConfigOf(p.Config)
	default:
		_, err = MessagingConfigOf(p.Config)
	}
	return err
}

// KVConfig configures a kv provider.
type KVConfig struct {
	URL      string // "" is the embedded store; redis://, rediss:// otherwise
	MaxKeys  int64  // of one namespace
	MaxBytes int64  // of one namespace, keys and values
	MaxValue int64  // bytes of one value
}

// HTTPConfig configures an http provider.
type HTTPConfig struct {
	AllowAddresses []netip.Prefix // of the addresses that are forbidden otherwise
	AllowHosts     []string       // as in http:domain permissions; none is all
	Timeout        time.Duration  // of one request, its body included
	MaxRequest     int64          // bytes of a request's body
	MaxResponse    int64          // bytes of a response's body
	MaxRedirects   int            // 0 follows none
	MaxConnections int            // to one host
	SendIdentity   bool           // tell the server instance and epoch
	SendTrace      bool           // begin a trace for requests that have none
}

// MessagingConfig configures a messaging provider.
type MessagingConfig struct {
	URL        string // "" is the embedded one; nats://, tls:// otherwise, several with commas between
	MaxMessage int64  // bytes
	MaxPending int64  // messages that wait for a slow subscription, before some are dropped
	MaxBytes   int64  // and bytes of them
}

// MaxKVValue is the most that any kv provider takes for a value, in bytes.
const MaxKVValue = 1 << 20

// KVConfigOf reads a configuration, with defaults for what it leaves out.
func KVConfigOf(config map[string]string) (KVConfig, error) {
	c := KVConfig{MaxKeys: 100_000, MaxBytes: 256 << 20, MaxValue: MaxKVValue}
	r := configReader{config: config}
	r.url("url", &c.URL, "redis", "rediss")
	r.int("max_keys", &c.MaxKeys, 1, 100_000_000)
	r.bytes("max_bytes", &c.MaxBytes, 1, 1<<40)
	r.bytes("max_value", &c.MaxValue, 1, MaxKVValue)
	return c, r.done()
}

// HTTPConfigOf reads a configuration, with defaults for what it leaves out.
func HTTPConfigOf(config map[string]string) (HTTPConfig, error) {
	c := HTTPConfig{Timeout: 30 * time.Second, MaxRequest: 16 << 20, MaxResponse: 64 << 20, MaxRedirects: 5, MaxConnections: 64}
	r := configReader{config: config}
	r.each("allow_addresses", func(s string) bool {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil {
				p, err = a.Prefix(a.BitLen())
			}
		}
		c.AllowAddresses = append(c.AllowAddresses, p.Masked())
		return err == nil
	}, "IP addresses and prefixes such as 10.0.0.0/8")
	r.each("allow_hosts", func(s string) bool {
		host, why := readDomain(s)
		c.AllowHosts = append(c.AllowHosts, host)
		return why == ""
	}, "host names, IP addresses and *.HOST")
	r.duration("timeout", &c.Timeout, time.Millisecond, time.Hour)
	r.bytes("max_request", &c.MaxRequest, 0, 1<<40)
	r.bytes("max_response", &c.MaxResponse, 0, 1<<40)
	n := int64(c.MaxRedirects)
	r.int("max_redirects", &n, 0, 100)
	c.MaxRedirects = int(n)
	n = int64(c.MaxConnections)
	r.int("max_connections", &n, 1, 100_000)
	c.MaxConnections = int(n)
	r.bool("send_identity", &c.SendIdentity)
	r.bool("send_trace", &c.SendTrace)
	return c, r.done()
}

// MessagingConfigOf reads a configuration, with defaults for what it leaves out.
func MessagingConfigOf(config map[string]string) (MessagingConfig, error) {
	c := MessagingConfig{MaxMessage: 1 << 20, MaxPending: 1024, MaxBytes: 4 << 20}
	r := configReader{config: config}
	r.urls("url", &c.URL, "nats", "tls")
	r.bytes("max_message", &c.MaxMessage, 1, 1<<20)
	r.int("max_pending", &c.MaxPending, 1, 1_000_000)
	r.bytes("max_pending_bytes", &c.MaxBytes, 1, 1<<30)
	return c, r.done()
}

// configReader reads the keys that a type knows; what is left is unknown.
type configReader struct {
	config map[string]string
	known  []string
	err    error
}

func (r *configReader) take(key string) (string, bool) {
	r.known = append(r.known, key)
	v, ok := r.config[key]
	return v, ok && r.err == nil
}

func (r *configReader) fail(key, want string) {
	if r.err == nil {
		r.err = Errorf(CodeValidation, "config %s is %q, not %s", key, r.config[key], want).With(DetailField, "config."+key)
	}
}

func (r *configReader) int(key string, to *int64, low, high int64) {
	if v, ok := r.take(key); ok {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < low || n > high {
			r.fail(key, "a number from "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10))
			return
		}
		*to = n
	}
}

func (r *configReader) bytes(key string, to *int64, low, high int64) {
	if v, ok := r.take(key); ok {
		n, err := ParseBytes(v)
		if err != nil || n < uint64(low) || n > uint64(high) {
			r.fail(key, "a size from "+FormatBytes(uint64(low))+" to "+FormatBytes(uint64(high)))
			return
		}
		*to = int64(n)
	}
}

func (r *configReader) duration(key string, to *time.Duration, low, high time.Duration) {
	if v, ok := r.take(key); ok {
		d, err := time.ParseDuration(v)
		if err != nil || d < low || d > high {
			r.fail(key, "a duration from "+low.String()+" to "+high.String())
			return
		}
		*to = d
	}
}

func (r *configReader) bool(key string, to *bool) {
	if v, ok := r.take(key); ok {
		b, err := strconv.ParseBool(v)
		if err != nil {
			r.fail(key, "true or false")
			return
		}
		*to = b
	}
}

func (r *configReader) each(key string, add func(string) bool, want string) {
	if v, ok := r.take(key); ok && v != "" {
		for s := range strings.SplitSeq(v, ",") {
			if !add(strings.TrimSpace(s)) {
				r.fail(key, want)
				return
			}
		}
	}
}

func (r *configReader) url(key string, to *string, schemes ...string) {
	if v, ok := r.take(key); ok {
		if !validURL(v, schemes) {
			r.fail(key, "a URL of scheme "+strings.Join(schemes, " or "))
			return
		}
		r.secrets(key, v)
		*to = v
	}
}

func (r *configReader) urls(key string, to *string, schemes ...string) {
	if v, ok := r.take(key); ok {
		for s := range strings.SplitSeq(v, ",") {
			if !validURL(strings.TrimSpace(s), schemes) {
				r.fail(key, "URLs of scheme "+strings.Join(schemes, " or "))
				return
			}
		}
		r.secrets(key, v)
		*to = v
	}
}

// secrets refuses URLs as they are shown: to record one would lose its password.
func (r *configReader) secrets(key, v string) {
	if r.err == nil && HidesSecret(v) {
		r.err = Errorf(CodeValidation, "config %s has %s for what is not shown: give the password itself, or leave %s as it is", key, hidden, key).
			With(DetailField, "config."+key)
	}
}

func validURL(s string, schemes []string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme)
}

// done reports the first value at fault, or else the first key that is unknown.
func (r *configReader) done() error {
	if r.err != nil {
		return r.err
	}
	unknown := ""
	for k, v := range r.config {
		switch {
		case len(v) > maxConfigValue:
			return Errorf(CodeValidation, "config %s is longer than %d bytes", k, maxConfigValue).With(DetailField, "config."+k)
		case !slices.Contains(r.known, k) && (unknown == "" || k < unknown):
			unknown = k
		}
	}
	if unknown != "" {
		return Errorf(CodeValidation, "unknown config key %q; known are %s", unknown, strings.Join(r.known, ", ")).With(DetailField, "config."+unknown)
	}
	return nil
}

// PlacedProvider is a provider and the processes that host it.
type PlacedProvider struct {
	*Provider
	Everywhere bool // on every node; Hosts is empty then
	Hosts      []ProviderHost
}

// ProviderHost is a node that carries out calls from elsewhere.
type ProviderHost struct {
	Node NodeID
	Addr string // host:port of its NodeAgentService
}

// RunsOn reports whether a node hosts the provider: it is up, drained or not, and its
// labels satisfy the constraints. Whether the provider is stopped is not asked.
func (p *Provider) RunsOn(n *Node) bool {
	return n.Status == NodeUp && !slices.ContainsFunc(p.Constraints, func(c Constraint) bool { return !c.Matches(n.Labels) })
}

// PlaceProviders tells for every provider where it runs: on the nodes that are
// up, drained ones as well, and whose labels satisfy its constraints.
func PlaceProviders(s Snapshot) []PlacedProvider {
	var placed []PlacedProvider
	for _, p := range AllProviders(s) {
		one := PlacedProvider{Provider: p, Everywhere: len(p.Constraints) == 0}
		if !one.Everywhere {
			for n := range s.Nodes() {
				if p.RunsOn(n) {
					one.Hosts = append(one.Hosts, ProviderHost{Node: n.ID, Addr: n.Addr})
				}
			}
		}
		placed = append(placed, one)
	}
	return placed
}
