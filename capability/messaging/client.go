package messaging

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

const (
	// connectWait is how long a call waits for a connection, unless its context ends
	// before.
	connectWait = 2 * time.Second
	// maxSubscriptions bounds those of one client.
	maxSubscriptions = 1 << 18
	// sessionCheck is how often it is looked whether the server says anything, and
	// whether it is still listed: one that is missing twice is left.
	sessionCheck = time.Second
)

// ClientConfig configures a [Client].
type ClientConfig struct {
	Name string // of the node, for the servers' logs
	// Config is the provider's. If it has a URL, messages go there, and Servers and
	// Token are not used.
	Config wasmatrix.MessagingConfig
	// Servers returns the Client addresses of the live servers ([ServerAddr]). It is
	// asked often, by several goroutines, and does not block.
	Servers func() []string
	Token   string       // of [ServerConfig.Token]
	Logger  hclog.Logger // nil logs nothing
}

// Client is a provider of messaging. It is connected with one server, and whenever
// that breaks with another, for as long as the client is open.
type Client struct {
	cfg    ClientConfig
	log    hclog.Logger
	ctx    context.Context // until Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	failed map[string]uint64 // targets that failed, by address: when; of run
	fails  uint64

	session atomic.Pointer[session] // connected; nil while there is none. Written under mu.

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, when session changes
	subs    map[*subscription]struct{}
	down    error // why there is no session
}

var _ capability.Messaging = (*Client)(nil)

// NewClient makes a client, which connects in the background.
func NewClient(cfg ClientConfig) (*Client, error) {
	switch {
	case cfg.Config.URL == "" && cfg.Servers == nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "messaging has neither servers nor a URL")
	case cfg.Config.MaxMessage < 1 || cfg.Config.MaxPending < 1 || cfg.Config.MaxBytes < 1:
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "messaging has no bounds")
	}
	for u := range strings.SplitSeq(cfg.Config.URL, ",") {
		if _, err := url.Parse(strings.TrimSpace(u)); err != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "messaging has a URL that is none")
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	c := &Client{
		cfg: cfg, log: cfg.Logger, failed: make(map[string]uint64), changed: make(chan struct{}), subs: make(map[*subscription]struct{}),
		down: wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "not yet connected"),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wg.Go(c.run)
	return c, nil
}

// Close ends the connection and all subscriptions, and returns when the client's
// goroutines have ended.
func (c *Client) Close() error {
	c.cancel()
	c.wg.Wait()
	c.mu.Lock()
	subs := c.subs
	c.subs = nil
	c.mu.Unlock()
	for s := range subs {
		s.end()
	}
	return nil
}

// run keeps the client connected.
func (c *Client) run() {
	var wait backoff
	var warned bool // of being without a connection
	for c.ctx.Err() == nil {
		began := time.Now()
		s, err := c.connect()
		if err == nil {
			c.log.Info("connected with messaging", "server", s.addr)
			err = c.serve(s)
			c.fail(s.addr)
			if c.ctx.Err() == nil {
				c.log.Warn("connection with messaging lost", "server", s.addr, "error", err)
			}
			warned = false
		} else if c.ctx.Err() == nil && !warned {
			c.log.Warn("no connection with messaging, trying on", "error", err)
			warned = true
		}
		c.set(nil, err)
		if time.Since(began) > backoffMax {
			wait = backoff{}
		}
		select {
		case <-time.After(wait.next()):
		case <-c.ctx.Done():
		}
	}
}

// connect makes a session with any server, and subscribes all subscriptions anew.
func (c *Client) connect() (*session, error) {
	var last error = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "no server is known")
	for _, t := range c.targets() {
		if c.ctx.Err() != nil {
			return nil, c.ctx.Err()
		}
		s, err := dial(c.ctx, c.log, t, c.cfg.servers())
		if err == nil {
			if err = c.adopt(s); err == nil {
				return s, nil
			}
			s.close()
		}
		c.fail(t.addr)
		last = err
	}
	return nil, last
}

func (cfg *ClientConfig) servers() func() []string {
	if cfg.Config.URL != "" {
		return nil
	}
	return cfg.Servers
}

// fail notes that a target has failed, so that others are tried before it.
func (c *Client) fail(addr string) {
	c.fails++
	c.failed[addr] = c.fails
}

// targets lists the servers: those that never failed in an order drawn at random, so
// that clients spread, and then the others, the last to fail last.
func (c *Client) targets() []target {
	name := nats.Name(c.cfg.Name)
	var targets []target
	if c.cfg.Config.URL != "" {
		for u := range strings.SplitSeq(c.cfg.Config.URL, ",") {
			u = strings.TrimSpace(u)
			addr := u
			if p, err := url.Parse(u); err == nil {
				addr = p.Host
			}
			targets = append(targets, target{u, addr, []nats.Option{name}})
		}
	} else {
		for _, a := range c.cfg.Servers() {
			targets = append(targets, target{"nats://" + a, a, []nats.Option{name, nats.Token(c.cfg.Token)}})
		}
	}
	shuffle(targets)
	slices.SortStableFunc(targets, func(a, b target) int { return cmp.Compare(c.failed[a.addr], c.failed[b.addr]) })
	maps.DeleteFunc(c.failed, func(addr string, _ uint64) bool {
		return !slices.ContainsFunc(targets, func(t target) bool { return t.addr == addr })
	})
	return targets
}

// adopt makes a session the one in use, when its server knows of all subscriptions.
func (c *Client) adopt(s *session) error {
	if err := c.attachAll(s); err != nil {
		return err
	}
	defer context.AfterFunc(c.ctx, s.sub.Close)()
	if err := s.flushSub(flushTimeout); err != nil {
		return err
	}
	c.set(s, nil)
	return nil
}

func (c *Client) attachAll(s *session) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for sub := range c.subs {
		if err := s.attach(sub); err != nil {
			return err
		}
	}
	return nil
}

// serve waits for the end of a session, and ends it when the client is closed or
// its server is no longer listed.
func (c *Client) serve(s *session) error {
	defer s.close()
	tick := time.NewTicker(sessionCheck)
	defer tick.Stop()
	var quiet idle
	for missing := 0; ; {
		select {
		case <-s.done:
			return s.cause()
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-tick.C:
			if quiet.check(s) {
				return errSilent
			}
			if s.servers == nil {
				continue
			}
			// A server that has left the cluster hears nothing of the others. When none is
			// listed it is the list that is at fault.
			if list := s.servers(); len(list) == 0 || slices.Contains(list, s.addr) {
				missing = 0
			} else if missing++; missing == 2 {
				return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "%s is no longer a server of the cluster", s.addr)
			}
		}
	}
}

func (c *Client) set(s *session, down error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.Store(s)
	c.down = down
	close(c.changed)
	c.changed = make(chan struct{})
}

// connected returns the session, waiting for one if it must: until ctx ends, and no
// longer than until limit.
func (c *Client) connected(ctx context.Context, limit <-chan time.Time) (*session, error) {
	for {
		if s := c.session.Load(); s != nil && !s.ended() {
			return s, nil
		}
		c.mu.Lock()
		changed, down := c.changed, c.down
		s := c.session.Load()
		c.mu.Unlock()
		if s != nil && !s.ended() {
			return s, nil
		}
		select {
		case <-changed:
		case <-limit:
			return nil, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "messaging is out of reach: %w", down)
		case <-ctx.Done():
			return nil, interrupted(ctx, wasmatrix.OutcomeNone)
		case <-c.ctx.Done():
			return nil, errClosed
		}
	}
}

var (
	errSilent = errors.New("the server says nothing any more")
	errClosed = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the messaging provider is stopped")
)
