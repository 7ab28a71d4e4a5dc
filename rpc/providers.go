package rpc

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// providers serves ProviderService.
type providers struct{ *Server }

func providerID(s string) (wasmatrix.ProviderID, error) {
	id := wasmatrix.ProviderID(s)
	return id, field(id.Validate(), "provider_id")
}

func providerNotFound(id wasmatrix.ProviderID) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "there is no provider %s", id)
}

// maxChanges is how often a change of a provider is tried that others change too.
const maxChanges = 5

// change replaces the record of a provider by what f makes of the present one, nil
// where there is none. F may return its argument: then nothing is to be changed.
func (p *providers) change(ctx context.Context, m proto.Message, id wasmatrix.ProviderID, f func(*wasmatrix.Provider) (*wasmatrix.Provider, error)) (*api.Provider, error) {
	for try := 1; ; try++ {
		snap, err := p.read(ctx, false)
		if err != nil {
			return nil, err
		}
		req, _, answered, err := p.request(m)
		if err != nil {
			return nil, err
		}
		before, known := wasmatrix.ProviderOf(snap, id)
		if answered && known {
			return wire.PublicProviderTo(before), nil
		}
		after, err := f(before)
		if err != nil {
			return nil, err
		}
		if after == before {
			return wire.PublicProviderTo(before), nil
		}
		if err := wasmatrix.ValidateProvider(after); err != nil {
			return nil, err
		}
		after.Revision = 0
		if before != nil {
			after.Revision = before.Revision
		}
		answer, err := p.cfg.Log.Propose(ctx, wasmatrix.PutProvider{At: now(), Request: req, Provider: after, Create: after.Revision == 0})
		if wasmatrix.CodeOf(err) == wasmatrix.CodeConflict && try < maxChanges && p.moved(id, after.Revision) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if made, ok := answer.(*wasmatrix.Provider); ok && made != nil {
			after = made
		}
		return wire.PublicProviderTo(after), nil
	}
}

// moved reports whether a provider has another revision than was read.
func (p *providers) moved(id wasmatrix.ProviderID, revision uint64) bool {
	now, ok := wasmatrix.ProviderOf(p.cfg.State.Snapshot(), id)
	return !ok || now.Revision != revision
}

func (p *providers) StartProvider(ctx context.Context, m *api.StartProviderRequest) (*api.StartProviderResponse, error) {
	id, err := providerID(m.GetProviderId())
	if err != nil {
		return nil, err
	}
	constraints, err := wire.ConstraintsFrom(m.GetConstraints(), "constraints")
	if err != nil {
		return nil, err
	}
	made, err := p.change(ctx, m, id, func(before *wasmatrix.Provider) (*wasmatrix.Provider, error) {
		if before == nil {
			if m.GetType() == "" {
				return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "there is no provider %s: to make it, give its type", id).With(wasmatrix.DetailField, "type")
			}
			return &wasmatrix.Provider{ID: id, Type: wasmatrix.ProviderType(m.GetType()), Config: m.GetConfig(), Constraints: constraints}, nil
		}
		differs := func(what string) error {
			return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %s has another %s: update it, or start one of another name", id, what).With(wasmatrix.DetailField, what)
		}
		after := *before
		after.Stopped = false
		switch {
		case m.GetType() != "" && m.GetType() != string(before.Type):
			return nil, differs("type")
		case before.Revision == 0: // a default one, as it is at first
			after.Config, after.Constraints = m.GetConfig(), constraints
			if len(after.Config) == 0 && len(after.Constraints) == 0 {
				return before, nil
			}
			return &after, nil
		case len(m.GetConfig()) > 0 && !maps.Equal(m.GetConfig(), before.Config):
			return nil, differs("config")
		case len(constraints) > 0 && !slices.EqualFunc(constraints, before.Constraints, sameConstraint):
			return nil, differs("constraints")
		case !before.Stopped:
			return before, nil
		}
		return &after, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.StartProviderResponse{Provider: made}, nil
}

func sameConstraint(a, b wasmatrix.Constraint) bool { return a.String() == b.String() }

func (p *providers) StopProvider(ctx context.Context, m *api.StopProviderRequest) (*api.StopProviderResponse, error) {
	id, err := providerID(m.GetProviderId())
	if err != nil {
		return nil, err
	}
	stopped, err := p.change(ctx, m, id, func(before *wasmatrix.Provider) (*wasmatrix.Provider, error) {
		if before == nil {
			return nil, providerNotFound(id)
		}
		if before.Stopped {
			return before, nil
		}
		after := *before
		after.Stopped = true
		return &after, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.StopProviderResponse{Provider: stopped}, nil
}

func (p *providers) UpdateProvider(ctx context.Context, m *api.UpdateProviderRequest) (*api.UpdateProviderResponse, error) {
	id, err := providerID(m.GetProviderId())
	if err != nil {
		return nil, err
	}
	constraints, err := wire.ConstraintsFrom(m.GetConstraints(), "constraints")
	if err != nil {
		return nil, err
	}
	if err := checkUpdate(m); err != nil {
		return nil, err
	}
	updated, err := p.change(ctx, m, id, func(before *wasmatrix.Provider) (*wasmatrix.Provider, error) {
		if before == nil {
			return nil, providerNotFound(id)
		}
		if m.Revision != nil && m.GetRevision() != before.Revision {
			return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %s is at revision %d, not %d", id, before.Revision, m.GetRevision()).With(wasmatrix.DetailField, "revision")
		}
		after := *before
		after.Config = make(map[string]string, len(before.Config)+len(m.GetConfig()))
		maps.Copy(after.Config, before.Config)
		for _, key := range m.GetUnset() {
			if _, ok := before.Config[key]; !ok {
				return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "provider %s has no %q in its configuration", id, key).With(wasmatrix.DetailField, "unset")
			}
			delete(after.Config, key)
		}
		maps.Copy(after.Config, m.GetConfig())
		if len(constraints) > 0 || m.GetEverywhere() {
			after.Constraints = constraints
		}
		return &after, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateProviderResponse{Provider: updated}, nil
}

// checkUpdate checks what can be without knowing the provider.
func checkUpdate(m *api.UpdateProviderRequest) error {
	if len(m.GetConfig())+len(m.GetUnset())+len(m.GetConstraints()) == 0 && !m.GetEverywhere() {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "nothing to change: config, unset, constraints and everywhere are empty").With(wasmatrix.DetailField, "config")
	}
	if m.GetEverywhere() && len(m.GetConstraints()) > 0 {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "everywhere and constraints exclude each other").With(wasmatrix.DetailField, "everywhere")
	}
	for _, key := range m.GetUnset() {
		if _, both := m.GetConfig()[key]; both {
			return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "%q is both set and unset", key).With(wasmatrix.DetailField, "unset")
		}
	}
	return nil
}

func (p *providers) RemoveProvider(ctx context.Context, m *api.RemoveProviderRequest) (*api.RemoveProviderResponse, error) {
	id, err := providerID(m.GetProviderId())
	if err != nil {
		return nil, err
	}
	req, err := wire.Request(m)
	if err != nil {
		return nil, err
	}
	if _, err := p.cfg.Log.Propose(ctx, wasmatrix.RemoveProvider{At: now(), Request: req, Provider: id}); err != nil {
		return nil, err
	}
	return &api.RemoveProviderResponse{}, nil
}

func (p *providers) ListProviders(ctx context.Context, m *api.ListProvidersRequest) (*api.ListProvidersResponse, error) {
	snap, err := p.read(ctx, m.GetStale())
	if err != nil {
		return nil, err
	}
	res := &api.ListProvidersResponse{}
	for _, one := range wasmatrix.AllProviders(snap) {
		res.Providers = append(res.Providers, wire.PublicProviderTo(one))
	}
	return res, nil
}

func (p *providers) GetProvider(ctx context.Context, m *api.GetProviderRequest) (*api.GetProviderResponse, error) {
	id, err := providerID(m.GetProviderId())
	if err != nil {
		return nil, err
	}
	snap, err := p.read(ctx, m.GetStale())
	if err != nil {
		return nil, err
	}
	one, ok := wasmatrix.ProviderOf(snap, id)
	if !ok {
		return nil, providerNotFound(id)
	}
	res := &api.GetProviderResponse{Provider: wire.PublicProviderTo(one)}
	if !one.Stopped {
		for n := range snap.Nodes() {
			if one.RunsOn(n) {
				res.Nodes = append(res.Nodes, string(n.ID))
			}
		}
	}
	looked := 0
	for i := range snap.Instances("") {
		if looked++; looked%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if i.Status.Final() {
			continue
		}
		for a := range snap.Assignments(i.ID) {
			if a.ProviderID() == id {
				res.Assignments++
			}
		}
	}
	return res, nil
}
