package capability

import (
	"context"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// HostConfig configures what [NewHost] makes. Both are required.
type HostConfig struct {
	// Grants returns what an instance was given, by a state that has the log index
	// atLeast, or nil where it holds no place on any node.
	Grants    func(ctx context.Context, id wasmatrix.InstanceID, atLeast uint64) (*wasmatrix.GrantSet, error)
	Providers Providers
}

// NewHost makes a [Host] that checks claims against the replicated state.
func NewHost(c HostConfig) Host {
	return &host{HostConfig: c, admitted: make(map[scopeKey]admitted)}
}

type host struct {
	HostConfig

	mu       sync.Mutex
	admitted map[scopeKey]admitted // before; the rules took time to make
}

type admitted struct {
	under *wasmatrix.Assignment
	scope *Scope
}

// scopeKey identifies an assignment, but for those of one log index.
type scopeKey struct {
	instance    wasmatrix.InstanceID
	incarnation uint64
	epoch       uint64
	capability  wasmatrix.CapabilityID
	granted     uint64
}

// maxScopes bounds what is remembered of callers.
const maxScopes = 16_384

// Admit implements [Host].
func (h *host) Admit(ctx context.Context, claimed *Scope) (*Scope, error) {
	set, err := h.Grants(ctx, claimed.Instance, claimed.Granted)
	if err != nil {
		return nil, err
	}
	refuse := func(why string) (*Scope, error) {
		return nil, wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "the call of instance %s under capability %s: %s", claimed.Instance, claimed.Capability, why)
	}
	switch {
	case set == nil:
		return refuse("the instance has no place on a node")
	case set.Incarnation != claimed.Incarnation:
		return refuse("the instance is another one of its name")
	case set.Epoch > claimed.Epoch:
		// The other way round it is this state that lags.
		return refuse("its epoch was superseded")
	}
	for _, a := range set.Assignments {
		if a.ID == claimed.Capability && a.CreateIndex == claimed.Granted {
			return h.scope(set, a, claimed.Epoch), nil
		}
	}
	return refuse("no such assignment")
}

func (h *host) scope(set *wasmatrix.GrantSet, a *wasmatrix.Assignment, epoch uint64) *Scope {
	key := scopeKey{set.Instance, set.Incarnation, epoch, a.ID, a.CreateIndex}
	h.mu.Lock()
	defer h.mu.Unlock()
	if before, ok := h.admitted[key]; ok && (before.under == a || before.under.Same(a)) {
		return before.scope
	}
	s := &Scope{
		Instance: set.Instance, Incarnation: set.Incarnation, Epoch: epoch, Exclusive: set.Exclusive,
		Capability: a.ID, Granted: a.CreateIndex, Provider: a.ProviderID(), Namespace: Namespace(a, set.Incarnation),
		Stale: a.Stale, Rules: wasmatrix.RulesOf(a.Type, a.Permissions),
	}
	if len(h.admitted) >= maxScopes {
		clear(h.admitted)
	}
	h.admitted[key] = admitted{a, s}
	return s
}

// allow checks the permission of one call.
func (s *Scope) allow(access wasmatrix.Access, subject string) error {
	if s.Rules == nil || !s.Rules.Allow(access, subject) {
		return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "capability %s of instance %s does not allow %s here", s.Capability, s.Instance, access)
	}
	return nil
}

// KV implements [Providers].
func (h *host) KV(ctx context.Context, s *Scope) (KV, error) {
	kv, err := h.Providers.KV(ctx, s)
	if err != nil {
		return nil, err
	}
	return checkedKV{kv}, nil
}

// HTTP implements [Providers].
func (h *host) HTTP(ctx context.Context, s *Scope) (HTTP, error) {
	http, err := h.Providers.HTTP(ctx, s)
	if err != nil {
		return nil, err
	}
	return checkedHTTP{http}, nil
}

// Messaging implements [Providers].
func (h *host) Messaging(ctx context.Context, s *Scope) (Messaging, error) {
	m, err := h.Providers.Messaging(ctx, s)
	if err != nil {
		return nil, err
	}
	return checkedMessaging{m}, nil
}

type checkedKV struct{ KV }

func (c checkedKV) Get(ctx context.Context, s *Scope, key string) (Entry, bool, error) {
	if err := s.allow(wasmatrix.AccessKVRead, key); err != nil {
		return Entry{}, false, err
	}
	return c.KV.Get(ctx, s, key)
}

func (c checkedKV) Set(ctx context.Context, s *Scope, key string, value []byte, o SetOptions) (uint64, error) {
	if err := s.allow(wasmatrix.AccessKVWrite, key); err != nil {
		return 0, err
	}
	return c.KV.Set(ctx, s, key, value, o)
}

func (c checkedKV) Delete(ctx context.Context, s *Scope, key string, id WriteID) (bool, error) {
	if err := s.allow(wasmatrix.AccessKVDelete, key); err != nil {
		return false, err
	}
	return c.KV.Delete(ctx, s, key, id)
}

func (c checkedKV) List(ctx context.Context, s *Scope, q ListQuery) (Page, error) {
	if err := s.allow(wasmatrix.AccessKVRead, q.Prefix); err != nil {
		return Page{}, err
	}
	return c.KV.List(ctx, s, q)
}

type checkedHTTP struct{ HTTP }

func (c checkedHTTP) Open(ctx context.Context, s *Scope, r *Request) (Exchange, error) {
	host, err := HostOf(r.URL)
	if err == nil {
		err = s.allow(wasmatrix.AccessHTTP, host)
	}
	if err != nil {
		return nil, err
	}
	return c.HTTP.Open(ctx, s, r)
}

type checkedMessaging struct{ Messaging }

func (c checkedMessaging) Publish(ctx context.Context, s *Scope, topic string, data []byte) error {
	err := wasmatrix.ValidateTopic(topic, false)
	if err == nil {
		err = s.allow(wasmatrix.AccessPublish, topic)
	}
	if err != nil {
		return err
	}
	return c.Messaging.Publish(ctx, s, topic, data)
}

func (c checkedMessaging) Subscribe(ctx context.Context, s *Scope, topic, group string) (Subscription, error) {
	err := wasmatrix.ValidateTopic(topic, true)
	if err == nil {
		err = s.allow(wasmatrix.AccessSubscribe, topic)
	}
	if err != nil {
		return nil, err
	}
	return c.Messaging.Subscribe(ctx, s, topic, group)
}
