package dispatch_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// SetGrants implements dispatch.Agents.
func (a agents) SetGrants(ctx context.Context, node *wasmatrix.Node, term, index uint64, sets []*wasmatrix.GrantSet) error {
	p, err := a.find(node)
	if err != nil {
		return err
	}
	if err := p.reach(ctx); err != nil {
		return err
	}
	if !pause(ctx, time.Millisecond) {
		return ctx.Err()
	}
	stuck, err := p.takeGrants(node, term, index, sets)
	if stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (p *process) takeGrants(node *wasmatrix.Node, term, index uint64, sets []*wasmatrix.GrantSet) (stuck bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setGrants++
	if err := p.obeys(node, term); err != nil {
		return false, err
	}
	if p.mute {
		return false, errors.New("cannot just now")
	}
	p.floor = max(p.floor, index)
	for _, set := range sets {
		if h := p.held[set.Instance]; h != nil && set.Index > h.grants.Index {
			h.grants = set
		}
	}
	return p.stuck, nil
}

// obeys refuses what is meant for another process or comes from an old leader. The
// caller holds mu.
func (p *process) obeys(node *wasmatrix.Node, term uint64) error {
	if p.boot != node.Boot || term < p.term {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "for boot %s in term %d, this is %s in term %d", node.Boot, term, p.boot, p.term)
	}
	p.term = term
	return nil
}

// SetProviders implements dispatch.Agents.
func (a agents) SetProviders(ctx context.Context, node *wasmatrix.Node, term, index uint64, providers []wasmatrix.PlacedProvider) error {
	p, err := a.find(node)
	if err != nil {
		return err
	}
	if err := p.reach(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.obeys(node, term); err != nil {
		return err
	}
	if p.unplaceable != nil {
		return p.unplaceable
	}
	if index >= p.placed {
		p.placed = index
		p.providers = append(p.providers, providers)
	}
	return nil
}

// may reports whether a call under a capability of an instance succeeds now.
func (p *process) may(id wasmatrix.InstanceID, c wasmatrix.CapabilityID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.held[id]
	select {
	case <-p.dead:
		return false
	default:
	}
	return h != nil && !h.status.Final() && p.resumed == nil && time.Now().Before(p.lease) &&
		slices.ContainsFunc(h.grants.Assignments, func(a *wasmatrix.Assignment) bool { return a.ID == c })
}

// delayed keeps an Execute that goes astray, to be carried out when nobody waits
// for it any more.
func (p *process) delayed(ctx context.Context, late func()) bool {
	p.mu.Lock()
	astray := p.astray
	p.mu.Unlock()
	if astray {
		<-ctx.Done()
		p.set(func() { p.strays = append(p.strays, late) })
	}
	return astray
}

func kvGrant(id wasmatrix.InstanceID, c wasmatrix.CapabilityID) *wasmatrix.Assignment {
	return &wasmatrix.Assignment{Instance: id, ID: c, Grant: wasmatrix.Grant{Type: wasmatrix.ProviderKV, Permissions: []wasmatrix.Permission{"kv:read"}}}
}

// granted is item with capabilities.
func granted(it wasmatrix.StartItem, cs ...wasmatrix.CapabilityID) wasmatrix.StartItem {
	for _, c := range cs {
		it.Assignments = append(it.Assignments, kvGrant("", c))
	}
	return it
}
