package agent

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/httpout"
	"github.com/wasmatrix/wasmatrix/capability/kv"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/link"
)

// carriers are the ways to other processes that carry calls out, one each.
type carriers struct {
	dial link.Dial

	mu     sync.Mutex
	byAddr map[string]*carried
}

// carried is one of them, and when it was last asked for.
type carried struct {
	*client.Carrier
	used time.Time
}

// idleCarrier is how long the way to a process is kept that nobody asks for.
const idleCarrier = 5 * time.Minute

func newCarriers(dial link.Dial) *carriers {
	return &carriers{dial: dial, byAddr: make(map[string]*carried)}
}

// to returns the way to a process. It connects when it is first used.
func (c *carriers) to(addr string) *client.Carrier {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	one := c.byAddr[addr]
	if one == nil {
		for other, old := range c.byAddr {
			if now.Sub(old.used) > idleCarrier && !old.Busy() {
				_ = old.Close() // it has nothing under way
				delete(c.byAddr, other)
			}
		}
		one = &carried{Carrier: client.NewCarrier(c.dial, addr)}
		c.byAddr[addr] = one
	}
	one.used = now
	return one.Carrier
}

// Dial implements [kv.Dialer].
func (c *carriers) Dial(addr string) capability.KV { return c.to(addr).KV() }

func (c *carriers) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.byAddr {
		_ = one.Close() // ends what is under way
	}
	clear(c.byAddr)
}

// nodeProviders makes what runs on a node.
type nodeProviders struct {
	*worker
	embedded *kv.Client
}

func (m nodeProviders) KV(_ wasmatrix.ProviderID, c wasmatrix.KVConfig) (capability.KV, func(), error) {
	if c.URL == "" {
		return m.embedded, func() {}, nil
	}
	r, err := kv.NewRedis(c, redisPrefix(m.control.Cluster()))
	if err != nil {
		return nil, nil, err
	}
	return r, func() { m.logError("closing a kv provider", r.Close()) }, nil
}

func (m nodeProviders) HTTP(id wasmatrix.ProviderID, c wasmatrix.HTTPConfig) (capability.HTTP, func(), error) {
	p := httpout.New(c, httpout.Options{
		Alive: m.alive, Own: ownAddrs{m.gossip.Members, net.InterfaceAddrs}.has, Logger: m.log.Named("http").With("provider", id),
	})
	return p, p.Close, nil
}

func (m nodeProviders) Messaging(_ wasmatrix.ProviderID, c wasmatrix.MessagingConfig) (capability.Messaging, func(), error) {
	p, err := messaging.NewClient(messaging.ClientConfig{
		Name: m.cfg.Name, Config: c, Servers: m.messagingServers, Logger: m.log.Named("messaging"),
	})
	if err != nil {
		return nil, nil, err
	}
	return p, func() { m.logError("closing a messaging provider", p.Close()) }, nil
}

// redisPrefix begins the names of a cluster's keys on a Redis, unless its URL has a
// prefix.
func redisPrefix(id wasmatrix.ClusterID) string { return "wasmatrix-" + string(id) }

// openProviders makes the providers of this node. The node itself is made after
// them: until it is, nothing is alive.
func (w *worker) openProviders() {
	w.carriers = newCarriers(w.transport.DialContext)
	w.onClose(w.carriers.close)
	embedded := kv.NewClient(kv.ClientConfig{Dialer: w.carriers, Servers: w.servers})
	w.providers = newProviders(wasmatrix.NodeID(w.cfg.Name), nodeProviders{w, embedded},
		func(addr string) carrier { return w.carriers.to(addr) }, w.log.Named("providers"))
	w.onClose(w.providers.Close)
}

// alive reports whether this node may act for its instances.
func (w *worker) alive() bool { return w.node != nil && w.node.LeaseValid() }

// messagingServers lists where the messaging of the live servers is.
func (w *worker) messagingServers() []string {
	var out []string
	for _, m := range w.gossip.Members() {
		if m.Role == gossip.RoleServer && m.Status == gossip.StatusAlive && m.MessagingAddr() != "" {
			out = append(out, m.MessagingAddr())
		}
	}
	return out
}

// calls is what this node carries out for others.
func (w *worker) calls() capability.Host {
	return capability.NewHost(capability.HostConfig{
		Grants: newGrantCache(w.control.Grants).of, Providers: hosted{w.providers},
	})
}

// grantCache remembers what instances of other nodes were given for a moment, so
// that each of their calls does not ask a server. It is their own node that knows
// at once of a revocation, and waits for the calls that it has sent.
type grantCache struct {
	ask func(context.Context, wasmatrix.InstanceID, uint64) (*wasmatrix.GrantSet, error)

	mu    sync.Mutex
	known map[wasmatrix.InstanceID]knownGrants
}

type knownGrants struct {
	set *wasmatrix.GrantSet
	at  time.Time
}

const (
	grantsFresh = time.Second
	maxGrants   = 16_384
)

func newGrantCache(ask func(context.Context, wasmatrix.InstanceID, uint64) (*wasmatrix.GrantSet, error)) *grantCache {
	return &grantCache{ask: ask, known: make(map[wasmatrix.InstanceID]knownGrants)}
}

func (c *grantCache) of(ctx context.Context, id wasmatrix.InstanceID, atLeast uint64) (*wasmatrix.GrantSet, error) {
	c.mu.Lock()
	k, ok := c.known[id]
	c.mu.Unlock()
	if ok && k.set != nil && k.set.Index >= atLeast && time.Since(k.at) < grantsFresh {
		return k.set, nil
	}
	asked := time.Now()
	set, err := c.ask(ctx, id, atLeast)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxGrants {
		clear(c.known)
	}
	c.known[id] = knownGrants{set: set, at: asked}
	return set, nil
}
