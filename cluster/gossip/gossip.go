package gossip

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/wasmatrix/wasmatrix"
)

// Config describes one agent's gossip.
type Config struct {
	Role Role
	Name string // unique among the live members of its role
	// Bind is the IP address and port to listen on, UDP and TCP; port 0 picks a
	// free one, see [Gossip.Addr].
	Bind string
	// Advertise is what others are told: a host or IP address, with or without a
	// port. "" means Bind, or a private address of the machine where Bind is
	// unspecified (0.0.0.0).
	Advertise string
	// Key, if set, encrypts and authenticates all gossip: 16, 24 or 32 bytes, the
	// same on every member.
	Key  []byte
	Tags Tags // Role, Name and Started are ignored
	// RetryJoin are addresses ("host" or "host:port") that are contacted until
	// another member is met, and whenever none is left.
	RetryJoin []string
	// PeersFile, if set, remembers the addresses of members over restarts; they
	// are contacted like those of RetryJoin.
	PeersFile string
	Timing    Timing
	// OnConflict, if set, is called, at most once and from a goroutine of its
	// own, when a live member that started earlier has the same role and name.
	// Close must not be called from it.
	OnConflict func(error)
	Logger     hclog.Logger
}

// Timing holds the figures that the package comment explains. Zero fields take
// the defaults.
type Timing struct {
	ProbeInterval time.Duration // default 300 ms
	ProbeTimeout  time.Duration // of the direct probe, before others are asked; default half the interval
	SuspicionMult int           // default 2
	// GossipInterval is how often news are passed on; default 100 ms.
	GossipInterval time.Duration
	// PushPullInterval is how often full states are exchanged; default 10 s.
	PushPullInterval time.Duration
	// ReclaimTime is how long a dead member's name stays bound to its address;
	// default 10 s.
	ReclaimTime time.Duration
	// RetryInterval is the first wait of the RetryJoin loop, which doubles up to
	// RetryMax; defaults 500 ms and 10 s.
	RetryInterval, RetryMax time.Duration
	// ReconnectInterval is how often one dead member, or an address of RetryJoin
	// that no member has, is contacted; default 10 s.
	ReconnectInterval time.Duration
}

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&t.ProbeInterval, 300*time.Millisecond)
	set(&t.ProbeTimeout, t.ProbeInterval/2)
	set(&t.GossipInterval, 100*time.Millisecond)
	set(&t.PushPullInterval, 10*time.Second)
	set(&t.ReclaimTime, 10*time.Second)
	set(&t.RetryInterval, 500*time.Millisecond)
	set(&t.RetryMax, 10*time.Second)
	set(&t.ReconnectInterval, 10*time.Second)
	if t.SuspicionMult <= 0 {
		t.SuspicionMult = 2
	}
	return t
}

const (
	streamTimeout = 2 * time.Second // of one full state exchange, dial to end
	defaultPort   = 7482            // of addresses to join that have none
	spreadTimeout = time.Second     // how long SetTags and Leave wait for the news to be passed on
)

// Gossip is one member. Its methods may be called from any goroutine.
type Gossip struct {
	cfg    Config
	timing Timing
	log    hclog.Logger
	name   string // memberlist's: role/name
	ml     *memberlist.Memberlist
	local  *net.UDPAddr // as advertised

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	notice chan notice

	updating sync.Mutex // serializes SetTags and Leave

	mu          sync.Mutex // taken by delegates: never held while calling memberlist
	tags        Tags
	meta        []byte // tags, encoded
	records     map[string]*record
	subscribers map[chan struct{}]struct{}
	closed      bool
	conflicted  bool
}

// Open starts to listen and to contact the addresses of cfg.RetryJoin. It does
// not wait for any of them.
//
// Errors: INVALID_REQUEST for a name or address that is none, VALIDATION_ERROR
// for tags that do not fit and an address that is not ours, CONFLICT where the
// port is taken.
func Open(cfg Config) (*Gossip, error) {
	if err := wasmatrix.ValidateName("agent name", cfg.Name); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	g := &Gossip{
		cfg:         cfg,
		timing:      cfg.Timing.withDefaults(),
		log:         cfg.Logger,
		name:        memberName(cfg.Role, cfg.Name),
		notice:      make(chan notice, 64),
		records:     make(map[string]*record),
		subscribers: make(map[chan struct{}]struct{}),
		tags:        cfg.Tags,
	}
	g.tags.Role, g.tags.Name, g.tags.Started = cfg.Role, cfg.Name, time.Now().UnixMilli()
	var err error
	if g.meta, err = encodeTags(g.tags); err != nil {
		return nil, err
	}
	if _, err := decodeTags(g.name, g.meta); err != nil {
		return nil, err
	}
	mc, err := g.memberlistConfig()
	if err != nil {
		return nil, err
	}
	if g.ml, err = memberlist.Create(mc); err != nil {
		// memberlist flattens the error, and looks at its text itself.
		if strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "the address %s for gossip is already in use: %w", cfg.Bind, err)
		}
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "cannot listen on %s for gossip: %w", cfg.Bind, err)
	}
	// Read once: SetTags makes memberlist write to its node while others read.
	node := g.ml.LocalNode()
	g.local = &net.UDPAddr{IP: node.Addr, Port: int(node.Port)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.wg.Go(g.handleNotices)
	g.wg.Go(g.stayConnected)
	return g, nil
}

func (g *Gossip) memberlistConfig() (*memberlist.Config, error) {
	bindIP, bindPort, err := splitBind(g.cfg.Bind)
	if err != nil {
		return nil, err
	}
	mc := memberlist.DefaultLANConfig()
	mc.Name = g.name
	mc.BindAddr, mc.BindPort = bindIP.String(), bindPort
	if mc.AdvertiseAddr, mc.AdvertisePort, err = resolveAdvertise(g.cfg.Advertise, bindPort); err != nil {
		return nil, err
	}
	mc.SecretKey = g.cfg.Key
	mc.TCPTimeout = streamTimeout
	mc.ProbeInterval, mc.ProbeTimeout = g.timing.ProbeInterval, g.timing.ProbeTimeout
	mc.SuspicionMult, mc.SuspicionMaxTimeoutMult = g.timing.SuspicionMult, 3
	mc.AwarenessMaxMultiplier = 4 // a member that finds itself slow probes at most 4 times slower
	mc.GossipInterval, mc.PushPullInterval = g.timing.GossipInterval, g.timing.PushPullInterval
	mc.DeadNodeReclaimTime = g.timing.ReclaimTime
	mc.Logger = newLogger(g.log)
	d := delegate{g}
	mc.Delegate, mc.Events, mc.Alive, mc.Merge, mc.Conflict = d, d, d, d, d
	return mc, nil
}

func splitBind(bind string) (net.IP, int, error) {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		return nil, 0, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "gossip address %q: %w", bind, err)
	}
	ip := net.ParseIP(host)
	if host == "" {
		ip = net.IPv4zero
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if ip == nil || err != nil {
		return nil, 0, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "gossip address %q is not an IP address and a port", bind)
	}
	return ip, int(n), nil
}

// resolveAdvertise returns "" for the address where memberlist is to find it.
func resolveAdvertise(advertise string, bindPort int) (string, int, error) {
	if advertise == "" {
		return "", bindPort, nil
	}
	host, port := advertise, bindPort
	if h, p, err := net.SplitHostPort(advertise); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return "", 0, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "advertised address %q: %w", advertise, err)
		}
		host = h
		if n != 0 {
			port = int(n)
		}
	}
	if net.ParseIP(host) != nil {
		return host, port, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), streamTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return "", 0, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "advertised address %q cannot be resolved: %w", advertise, err)
	}
	return ips[0].Unmap().String(), port, nil
}

// Addr returns the advertised host:port.
func (g *Gossip) Addr() string { return g.local.String() }

// Tags returns this member's own tags.
func (g *Gossip) Tags() Tags {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tags
}

// SetTags changes the own tags by change, which must not block, and tells the
// others; it waits up to a second until the news is on its way. On an error
// nothing has changed.
func (g *Gossip) SetTags(change func(*Tags)) error {
	g.updating.Lock()
	defer g.updating.Unlock()
	return g.setTags(change)
}

func (g *Gossip) setTags(change func(*Tags)) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return errClosed()
	}
	tags := g.tags
	change(&tags)
	tags.Role, tags.Name, tags.Started = g.tags.Role, g.tags.Name, g.tags.Started
	if tags == g.tags {
		g.mu.Unlock()
		return nil
	}
	meta, err := encodeTags(tags)
	if err != nil {
		g.mu.Unlock()
		return err
	}
	if tags.Cluster != g.tags.Cluster {
		for _, r := range g.records {
			r.foreign = foreign(tags.Cluster, r.Cluster)
		}
	}
	g.tags, g.meta = tags, meta
	g.mu.Unlock()
	if err := g.ml.UpdateNode(spreadTimeout); err != nil {
		g.log.Debug("own tags are not known to another member yet", "error", err)
	}
	return nil
}

// foreign reports whether the two belong to different clusters.
func foreign(a, b wasmatrix.ClusterID) bool { return a != "" && b != "" && a != b }

// Leave tells the others that this member goes, and waits until one of them
// has been told, a second has passed, or ctx ends. The member is of no further
// use but for Members; Close it.
func (g *Gossip) Leave(ctx context.Context) error {
	done := make(chan error, 1)
	ok := g.spawn(func() {
		g.updating.Lock()
		defer g.updating.Unlock()
		if err := g.setTags(func(t *Tags) { t.Leaving = true }); err != nil {
			done <- err
			return
		}
		done <- g.ml.Leave(spreadTimeout)
	})
	if !ok {
		return errClosed()
	}
	select {
	case err := <-done:
		if err != nil && wasmatrix.CodeOf(err) == wasmatrix.CodeInternal {
			return wasmatrix.Errorf(wasmatrix.CodeCommunication, "leave gossip: %w", err)
		}
		return err
	case <-ctx.Done():
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "leave gossip: %w", ctx.Err())
	}
}

// spawn runs f on a goroutine that Close waits for, unless closed.
func (g *Gossip) spawn(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Go(f)
	return true
}

// Close stops without telling anyone: the others will find this member dead,
// unless Leave was called. It may be called more than once.
func (g *Gossip) Close() error {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	g.mu.Unlock()
	if first {
		g.cancel()
	}
	g.wg.Wait()
	if err := g.ml.Shutdown(); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "close gossip: %w", err)
	}
	return nil
}

func errClosed() error {
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "gossip: %w", errors.New("closed"))
}
