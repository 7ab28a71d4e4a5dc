package capability

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/wasmatrix/wasmatrix"
)

// Client is what one epoch of an instance may call. Its methods may be called
// concurrently, and block for as long as the provider does, but no longer than
// their context or the deadline of [Limits].
type Client struct {
	gate        *Gate
	instance    wasmatrix.InstanceID
	incarnation uint64
	epoch       uint64
	exclusive   bool
	budget      sync.Once     // makes calls and bytes: most instances never call
	calls       *rate.Limiter // begun a second
	bytes       *rate.Limiter // a second

	mu     sync.Mutex
	closed bool
	index  uint64 // of the set that it has
	grants map[wasmatrix.CapabilityID]*grant
	ending map[*grant]struct{} // revoked, with calls that have not ended
	open   int                 // calls under way
}

// grant is one assignment in force. Its fields but for scope are guarded by the
// client's mu.
type grant struct {
	scope   *Scope
	given   *wasmatrix.Assignment
	passes  map[*pass]struct{}
	revoked bool
	ended   chan struct{} // closed when it is revoked and nothing under it goes on
}

// NewClient makes the client of one epoch, which has what set says, until Close.
func (g *Gate) NewClient(set *wasmatrix.GrantSet) *Client {
	c := &Client{
		gate: g, instance: set.Instance, incarnation: set.Incarnation, epoch: set.Epoch, exclusive: set.Exclusive,
	}
	c.replace(set)
	g.mu.Lock()
	g.clients[c] = struct{}{}
	g.mu.Unlock()
	return c
}

// Index returns the [wasmatrix.GrantSet.Index] of the set in force.
func (c *Client) Index() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.index
}

// Set replaces what the instance was given, unless it has a newer set, and
// returns when every call under way that is not allowed any more has ended, or
// with the error of ctx: what was taken away is so from the beginning of the call.
func (c *Client) Set(ctx context.Context, set *wasmatrix.GrantSet) error {
	for _, g := range c.replace(set) {
		select {
		case <-g.ended:
		case <-ctx.Done():
			return wasmatrix.Errorf(wasmatrix.CodeTimeout, "calls under capability %s of instance %s have not ended yet: %w", g.scope.Capability, c.instance, ctx.Err())
		}
	}
	return nil
}

// replace puts a set in force and returns the grants that are ending, with this
// set or since an earlier one.
func (c *Client) replace(set *wasmatrix.GrantSet) []*grant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.grants != nil && set.Index <= c.index {
		return slices.Collect(maps.Keys(c.ending))
	}
	c.index = set.Index
	before := c.grants
	c.grants = make(map[wasmatrix.CapabilityID]*grant, len(set.Assignments))
	for _, a := range set.Assignments {
		if old := before[a.ID]; old != nil && old.given.Same(a) {
			c.grants[a.ID] = old
			delete(before, a.ID)
			continue
		}
		c.grants[a.ID] = &grant{scope: c.scope(a), given: a, ended: make(chan struct{})}
	}
	for _, g := range before {
		c.end(g, errRevoked)
	}
	return slices.Collect(maps.Keys(c.ending))
}

func (c *Client) scope(a *wasmatrix.Assignment) *Scope {
	return &Scope{
		Instance: c.instance, Incarnation: c.incarnation, Epoch: c.epoch, Exclusive: c.exclusive,
		Capability: a.ID, Granted: a.CreateIndex, Provider: a.ProviderID(), Namespace: Namespace(a, c.incarnation),
		Stale: a.Stale, Rules: wasmatrix.RulesOf(a.Type, a.Permissions), Alive: c.gate.alive,
	}
}

// end revokes a grant. The caller holds mu.
func (c *Client) end(g *grant, why *wasmatrix.Error) {
	g.revoked = true
	for p := range g.passes {
		p.abort(why)
	}
	if len(g.passes) == 0 {
		close(g.ended)
		return
	}
	if c.ending == nil {
		c.ending = make(map[*grant]struct{})
	}
	c.ending[g] = struct{}{}
}

// Shut ends all calls under way, without waiting for their ends, and denies later
// ones.
func (c *Client) Shut() { c.shut() }

// Close is Shut, and waits. It may be called more than once, as may Shut.
func (c *Client) Close() {
	over := c.shut()
	c.gate.mu.Lock()
	delete(c.gate.clients, c)
	c.gate.mu.Unlock()
	for _, g := range over {
		<-g.ended
	}
}

func (c *Client) shut() (ending []*grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, g := range c.grants {
		c.end(g, errClosed)
	}
	c.grants = nil
	return slices.Collect(maps.Keys(c.ending))
}

// lapse ends the calls under way.
func (c *Client) lapse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.grants {
		for p := range g.passes {
			p.abort(errLapsed)
		}
	}
}

// What ends a call from outside.
var (
	errRevoked = wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "the capability was revoked or changed")
	errClosed  = wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "the instance is to end")
	errLapsed  = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this node is out of touch with the cluster")
)

// operation is what a call does: its name in facts, and what it needs.
type operation struct {
	name   string
	typ    wasmatrix.ProviderType
	access wasmatrix.Access
	lasts  bool // has no deadline of its own
}

var (
	opGet       = operation{"kv.get", wasmatrix.ProviderKV, wasmatrix.AccessKVRead, false}
	opList      = operation{"kv.list", wasmatrix.ProviderKV, wasmatrix.AccessKVRead, false}
	opSet       = operation{"kv.set", wasmatrix.ProviderKV, wasmatrix.AccessKVWrite, false}
	opDelete    = operation{"kv.delete", wasmatrix.ProviderKV, wasmatrix.AccessKVDelete, false}
	opRequest   = operation{"http.request", wasmatrix.ProviderHTTP, wasmatrix.AccessHTTP, true}
	opPublish   = operation{"msg.publish", wasmatrix.ProviderMessaging, wasmatrix.AccessPublish, false}
	opSubscribe = operation{"msg.subscribe", wasmatrix.ProviderMessaging, wasmatrix.AccessSubscribe, true}
)

// pass is one admitted call, until done.
type pass struct {
	context.Context // ends with the call, the grant or the lease

	client *Client
	grant  *grant
	op     *operation
	cancel context.CancelFunc
	why    atomic.Pointer[wasmatrix.Error] // it was ended from outside
	once   sync.Once
}

// abort ends the call from outside.
func (p *pass) abort(why *wasmatrix.Error) {
	p.why.CompareAndSwap(nil, why)
	p.cancel()
}

// admit is the gate: every capability call of every guest passes here, and
// nothing else makes a pass. It checks the lease, the assignment, the permission
// on the subject, and the limits, in this order. The caller calls done.
func (c *Client) admit(ctx context.Context, id wasmatrix.CapabilityID, op *operation, subject string, bytes int) (*pass, error) {
	if !c.gate.alive() {
		return nil, errLapsed
	}
	c.budget.Do(func() {
		c.calls = rate.NewLimiter(rate.Limit(c.gate.limits.Calls), c.gate.limits.Calls)
		c.bytes = rate.NewLimiter(rate.Limit(c.gate.limits.Bytes), c.gate.limits.Bytes)
	})
	c.mu.Lock()
	g := c.grants[id]
	why := ""
	switch {
	case g == nil:
		why = "no such assignment"
	case g.given.Type != op.typ:
		why = "the assignment is of type " + string(g.given.Type)
	case !g.scope.Rules.Allow(op.access, subject):
		why = "no permission"
	}
	if why != "" {
		c.mu.Unlock()
		return nil, c.deny(id, op, why)
	}
	if c.open >= c.gate.limits.Concurrent {
		c.mu.Unlock()
		return nil, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "%d calls are under way, the most that an instance may have", c.gate.limits.Concurrent)
	}
	if now := time.Now(); !c.calls.AllowN(now, 1) || bytes > 0 && !c.bytes.AllowN(now, bytes) {
		c.mu.Unlock()
		return nil, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the instance has made too many calls, or sent too many bytes, within a second")
	}
	p := &pass{client: c, grant: g, op: op}
	if op.lasts {
		p.Context, p.cancel = context.WithCancel(ctx)
	} else {
		p.Context, p.cancel = context.WithTimeout(ctx, c.gate.limits.Deadline)
	}
	if g.passes == nil {
		g.passes = make(map[*pass]struct{})
	}
	g.passes[p] = struct{}{}
	c.open++
	c.mu.Unlock()
	c.gate.calls.Add(1)
	c.gate.open.Add(1)
	return p, nil
}

// done ends a call. It may be called more than once.
func (p *pass) done() {
	p.once.Do(func() {
		p.cancel()
		c := p.client
		c.gate.open.Add(-1)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
		delete(p.grant.passes, p)
		if p.grant.revoked && len(p.grant.passes) == 0 {
			delete(c.ending, p.grant)
			close(p.grant.ended)
		}
	})
}

// verdict is what becomes of a call that its provider has answered with err: a
// call that lost its ground meanwhile has failed, whatever the answer was.
func (p *pass) verdict(err error) error {
	why := p.why.Load()
	switch {
	case why != nil:
		return unknown(why)
	case err == nil && !p.client.gate.alive():
		return unknown(errLapsed)
	case err == nil:
		return nil
	case wasmatrix.CodeOf(err) == wasmatrix.CodePermissionDenied:
		_ = p.client.deny(p.grant.scope.Capability, p.op, "refused by the provider") // err says more, to the guest
		return err
	case p.Err() != nil && wasmatrix.CodeOf(err) == wasmatrix.CodeInternal:
		return unknown(wasmatrix.Errorf(wasmatrix.CodeTimeout, "the call took too long: %w", err))
	case wasmatrix.CodeOf(err) == wasmatrix.CodeInternal:
		// Guests are not told what the inside of the host looks like.
		p.client.gate.denials.log.Error("a provider failed", "instance", p.client.instance, "operation", p.op.name, "provider", p.grant.scope.Provider, "error", err)
	}
	return err
}

// unknown says that a call may have had its effect.
func unknown(err *wasmatrix.Error) error {
	return err.With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// deny notes a refusal and returns it.
func (c *Client) deny(id wasmatrix.CapabilityID, op *operation, why string) error {
	c.gate.refused.Add(1)
	if id.Validate() != nil {
		id = "invalid" // what guests make up is not to be written to the log
	}
	c.gate.denials.add(denialKind{c.instance, c.epoch, id, op.name, why})
	return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "%s under capability %s: %s", op.name, id, why)
}

// take charges bytes that have come, which cannot be refused any more: it waits
// until they are within the limit.
func (p *pass) take(n int) error {
	for n > 0 {
		part := min(n, p.client.gate.limits.Bytes)
		if err := p.client.bytes.WaitN(p, part); err != nil {
			return p.verdict(wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the instance receives too many bytes: %w", err))
		}
		n -= part
	}
	return nil
}
