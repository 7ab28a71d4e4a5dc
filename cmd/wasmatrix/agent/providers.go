package agent

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// providers are those of a node, as the leader places them: what runs here, and
// ways to what runs elsewhere.
type providers struct {
	self  wasmatrix.NodeID
	make  providerMaker
	reach func(addr string) carrier // what another node hosts
	log   hclog.Logger

	known chan struct{} // closed with the first Update
	first sync.Once

	mu     sync.Mutex
	closed bool
	placed map[wasmatrix.ProviderID]*placedProvider
}

// providerMaker makes what runs here.
type providerMaker interface {
	KV(wasmatrix.ProviderID, wasmatrix.KVConfig) (capability.KV, func(), error)
	HTTP(wasmatrix.ProviderID, wasmatrix.HTTPConfig) (capability.HTTP, func(), error)
	Messaging(wasmatrix.ProviderID, wasmatrix.MessagingConfig) (capability.Messaging, func(), error)
}

// carrier is another process that has providers.
type carrier interface {
	KV() capability.KV
	HTTP() capability.HTTP
	Messaging() capability.Messaging
}

// placedProvider is one provider in one revision. What runs of it here is made when
// it is first called. Its fields but for the first are guarded by providers.mu.
type placedProvider struct {
	wasmatrix.PlacedProvider

	kv        capability.KV
	http      capability.HTTP
	messaging capability.Messaging
	close     func()
}

func newProviders(self wasmatrix.NodeID, m providerMaker, reach func(string) carrier, log hclog.Logger) *providers {
	return &providers{self: self, make: m, reach: reach, log: log, known: make(chan struct{})}
}

// Update implements [node.Providers]. What runs of a provider whose record has
// changed is closed, and its calls end; it is made anew when it is called.
func (p *providers) Update(list []wasmatrix.PlacedProvider) {
	p.mu.Lock()
	before := p.placed
	p.placed = make(map[wasmatrix.ProviderID]*placedProvider, len(list))
	for _, one := range list {
		next := &placedProvider{PlacedProvider: one}
		if old := before[one.ID]; old != nil && old.Revision == one.Revision && old.CreateIndex == one.CreateIndex && p.runs(old) == p.runs(next) {
			next.kv, next.http, next.messaging, next.close = old.kv, old.http, old.messaging, old.close
			old.close = nil
		}
		p.placed[one.ID] = next
	}
	var over []func()
	for id, old := range before {
		if old.close != nil {
			p.log.Info("closing a provider that has changed", "provider", id)
			over = append(over, old.close)
		}
	}
	p.mu.Unlock()
	p.first.Do(func() { close(p.known) })
	for _, end := range over {
		go end() // Update must not wait for a network
	}
}

// runs reports whether this node hosts a provider.
func (p *providers) runs(one *placedProvider) bool {
	return !one.Stopped && (one.Everywhere || slices.ContainsFunc(one.Hosts, func(h wasmatrix.ProviderHost) bool { return h.Node == p.self }))
}

// Close ends what runs here.
func (p *providers) Close() {
	p.mu.Lock()
	p.closed = true
	over := p.placed
	p.placed = nil
	p.mu.Unlock()
	for _, one := range over {
		if one.close != nil {
			one.close()
		}
	}
}

// find returns the provider of a scope, which is of a type and not stopped.
func (p *providers) find(ctx context.Context, s *capability.Scope, typ wasmatrix.ProviderType) (*placedProvider, error) {
	select {
	case <-p.known:
	default:
		select {
		case <-p.known:
		case <-ctx.Done():
			return nil, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this node has not been told yet which providers there are")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.placed[s.Provider]
	switch {
	case p.closed:
		return nil, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this node is ending")
	case one == nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "there is no provider %q", s.Provider)
	case one.Type != typ:
		return nil, wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "provider %q is of type %s", s.Provider, one.Type)
	case one.Stopped:
		return nil, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "provider %q is stopped", s.Provider)
	}
	return one, nil
}

// kind is what the types of provider differ in: C is the configuration, T what
// carries the calls out.
type kind[C, T any] struct {
	typ   wasmatrix.ProviderType
	parse func(map[string]string) (C, error)
	start func(providerMaker, wasmatrix.ProviderID, C) (T, func(), error)
	via   func(carrier) T
	slot  func(*placedProvider) *T
}

var (
	kvKind = kind[wasmatrix.KVConfig, capability.KV]{
		wasmatrix.ProviderKV, wasmatrix.KVConfigOf, providerMaker.KV, carrier.KV,
		func(p *placedProvider) *capability.KV { return &p.kv },
	}
	httpKind = kind[wasmatrix.HTTPConfig, capability.HTTP]{
		wasmatrix.ProviderHTTP, wasmatrix.HTTPConfigOf, providerMaker.HTTP, carrier.HTTP,
		func(p *placedProvider) *capability.HTTP { return &p.http },
	}
	messagingKind = kind[wasmatrix.MessagingConfig, capability.Messaging]{
		wasmatrix.ProviderMessaging, wasmatrix.MessagingConfigOf, providerMaker.Messaging, carrier.Messaging,
		func(p *placedProvider) *capability.Messaging { return &p.messaging },
	}
)

// of returns what carries out the calls of a scope: here, or on a node that hosts
// the provider unless only here will do.
func (k *kind[C, T]) of(ctx context.Context, p *providers, s *capability.Scope, here bool) (none T, err error) {
	one, err := p.find(ctx, s, k.typ)
	switch {
	case err != nil:
		return none, err
	case p.runs(one):
		return k.local(p, one)
	case here:
		// The caller's knowledge is old.
		return none, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "node %s does not host provider %q", p.self, one.ID)
	case len(one.Hosts) == 0:
		return none, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "no node that is up hosts provider %q", one.ID)
	}
	return k.via(p.reach(one.Hosts[rand.IntN(len(one.Hosts))].Addr)), nil
}

// local returns what runs here, and makes it first if need be.
func (k *kind[C, T]) local(p *providers, one *placedProvider) (none T, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := k.slot(one)
	switch {
	case p.closed || p.placed[one.ID] != one:
		return none, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "provider %q is being changed", one.ID)
	case one.close != nil:
		return *slot, nil
	}
	conf, err := k.parse(one.Config)
	if err == nil {
		*slot, one.close, err = k.start(p.make, one.ID, conf)
	}
	if err != nil {
		return none, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "provider %q does not start: %w", one.ID, err)
	}
	return *slot, nil
}

// KV implements [capability.Providers].
func (p *providers) KV(ctx context.Context, s *capability.Scope) (capability.KV, error) {
	return kvKind.of(ctx, p, s, false)
}

// HTTP implements [capability.Providers].
func (p *providers) HTTP(ctx context.Context, s *capability.Scope) (capability.HTTP, error) {
	return httpKind.of(ctx, p, s, false)
}

// Messaging implements [capability.Providers].
func (p *providers) Messaging(ctx context.Context, s *capability.Scope) (capability.Messaging, error) {
	return messagingKind.of(ctx, p, s, false)
}

// hosted is what this node offers to others: what runs here, and no way further.
type hosted struct{ *providers }

func (h hosted) KV(ctx context.Context, s *capability.Scope) (capability.KV, error) {
	return kvKind.of(ctx, h.providers, s, true)
}

func (h hosted) HTTP(ctx context.Context, s *capability.Scope) (capability.HTTP, error) {
	return httpKind.of(ctx, h.providers, s, true)
}

func (h hosted) Messaging(ctx context.Context, s *capability.Scope) (capability.Messaging, error) {
	return messagingKind.of(ctx, h.providers, s, true)
}
