package kv

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Dialer reaches the kv of a server. Dial does not block; what cannot be reached
// fails with COMMUNICATION_FAILURE when it is called.
type Dialer interface {
	Dial(addr string) capability.KV
}

// ClientConfig configures a [Client]. Dialer and Servers are required.
type ClientConfig struct {
	Dialer Dialer
	// Servers returns the API addresses of the cluster's servers, as far as they
	// are known. It must not block.
	Servers func() []string
	Timeout time.Duration // of a call whose context has no deadline; 10 s by default
	// Attempt is how long one server has to answer before the call is sent again;
	// 2 s by default.
	Attempt time.Duration
}

const (
	// maxUnknown is how long a write whose outcome is unknown is sent again: by
	// then the store may have forgotten it (see store.Options).
	maxUnknown = 15 * time.Second
	// maxSuspicion bounds how long nobody's word is taken that a server leads which
	// has failed: during an election the others name the one that they have lost. To
	// ask it again costs what it has cost already, and so that is how long.
	maxSuspicion = time.Second
	// slow is a stale read that another server may answer sooner.
	slow = 20 * time.Millisecond
	// staleAttempt is how long the first server asked has for a stale read, and the
	// next twice as long, as another may have the same at hand.
	staleAttempt = 250 * time.Millisecond

	firstBackoff = 5 * time.Millisecond
	maxBackoff   = 200 * time.Millisecond
)

// Client carries kv calls from a node to the servers: writes and linearizable
// reads to the one that leads, stale reads to any. While there is no leader calls
// wait for one. A write is sent again, with its ID, for as long as its outcome is
// unknown.
//
// Where a call fails for want of an answer, TIMEOUT or PROVIDER_UNAVAILABLE, its
// details say as [wasmatrix.DetailOutcome] whether it may have taken effect. Its
// methods are safe for concurrent use; it starts nothing.
type Client struct {
	conf ClientConfig

	leader atomic.Pointer[string] // nil is unknown
	near   atomic.Pointer[string] // answers stale reads
	turn   atomic.Uint32          // of the servers, where none is known to be better

	mu       sync.Mutex
	suspects map[string]time.Time // until when; guarded by mu
}

var _ capability.KV = (*Client)(nil)

// NewClient makes a client.
func NewClient(c ClientConfig) *Client {
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Attempt <= 0 {
		c.Attempt = 2 * time.Second
	}
	return &Client{conf: c, suspects: make(map[string]time.Time)}
}

type got struct {
	entry capability.Entry
	ok    bool
}

// Get implements [capability.KV].
func (c *Client) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	if err := checkKey(key); err != nil {
		return capability.Entry{}, false, err
	}
	g, err := carry(ctx, c, s, false, func(ctx context.Context, kv capability.KV) (g got, err error) {
		g.entry, g.ok, err = kv.Get(ctx, s, key)
		return g, err
	})
	return g.entry, g.ok, err
}

// List implements [capability.KV].
func (c *Client) List(ctx context.Context, s *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	if err := checkList(q); err != nil {
		return capability.Page{}, err
	}
	return carry(ctx, c, s, false, func(ctx context.Context, kv capability.KV) (capability.Page, error) {
		return kv.List(ctx, s, q)
	})
}

// Set implements [capability.KV].
func (c *Client) Set(ctx context.Context, s *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	if err := checkSet(key, value, o, wasmatrix.MaxKVValue); err != nil {
		return 0, err
	}
	o.ID = drawn(o.ID)
	return carry(ctx, c, s, true, func(ctx context.Context, kv capability.KV) (uint64, error) {
		return kv.Set(ctx, s, key, value, o)
	})
}

// Delete implements [capability.KV].
func (c *Client) Delete(ctx context.Context, s *capability.Scope, key string, id capability.WriteID) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	id = drawn(id)
	return carry(ctx, c, s, true, func(ctx context.Context, kv capability.KV) (bool, error) {
		return kv.Delete(ctx, s, key, id)
	})
}

// drawn returns an ID by which a write may be sent again.
func drawn(id capability.WriteID) capability.WriteID {
	if id == (capability.WriteID{}) {
		_, _ = rand.Read(id[:]) // never fails
	}
	return id
}

// server picks one to ask, and reports whether it is the one that leads, as far
// as is known. It returns "" where no server is known at all.
func (c *Client) server(stale bool) (addr string, known bool) {
	servers := c.conf.Servers()
	if stale {
		if near := c.near.Load(); near != nil && slices.Contains(servers, *near) {
			return *near, true
		}
	} else if leader := c.leader.Load(); leader != nil {
		return *leader, true
	}
	if len(servers) == 0 {
		return "", false
	}
	first := int(c.turn.Add(1))
	for n := range servers {
		if addr := servers[(first+n)%len(servers)]; !c.suspected(addr) {
			return addr, false
		}
	}
	return servers[first%len(servers)], false
}

func (c *Client) suspected(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.suspects[addr]
	return ok && time.Now().Before(until)
}

// failed takes note that a server gave no answer, and how long that took.
func (c *Client) failed(addr string, took time.Duration) {
	c.forget(addr)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, until := range c.suspects {
		if now.After(until) {
			delete(c.suspects, a)
		}
	}
	c.suspects[addr] = now.Add(min(took, maxSuspicion))
}

// forget takes note that a server is not the right one to ask.
func (c *Client) forget(addr string) {
	for _, p := range []*atomic.Pointer[string]{&c.leader, &c.near} {
		if known := p.Load(); known != nil && *known == addr {
			p.CompareAndSwap(known, nil)
		}
	}
}

// answered takes note of a server that did what it was asked.
func (c *Client) answered(addr string, stale, known bool, took time.Duration) {
	if !known {
		c.mu.Lock()
		delete(c.suspects, addr)
		c.mu.Unlock()
	}
	switch {
	case stale && took > slow:
		c.near.Store(nil)
	case stale && !known:
		c.near.Store(&addr)
	case !stale && !known:
		c.leader.Store(&addr)
	}
}
