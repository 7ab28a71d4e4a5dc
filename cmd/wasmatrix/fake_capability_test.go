package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
)

// fakeCaps are what web-1 was given. Nobody else has any.
func fakeCaps() []*api.Capability {
	return []*api.Capability{
		{
			InstanceId: "web-1", CapabilityId: "bus", Type: "messaging", Permissions: []string{"msg:publish:orders.>"}, Provider: "nats",
			CreatedAt: ago(90 * time.Minute),
		},
		{
			InstanceId: "web-1", CapabilityId: "store", Type: "kv", Permissions: []string{"kv:read", "kv:write:tmp/"}, CreatedAt: ago(2 * time.Hour),
			CreateIndex: 11,
		},
		{
			InstanceId: "web-1", CapabilityId: "visits", Type: "kv", Permissions: []string{"kv:read"}, Namespace: "visits", Stale: true,
			CreatedAt: ago(49 * time.Hour),
		},
	}
}

// fakeNeeds are the types that the module of web-1 needs.
var fakeNeeds = []string{"http", "kv"}

func fakeGrants(id string) ([]*api.Capability, []string) {
	if id != "web-1" {
		return nil, nil
	}
	return fakeCaps(), fakeNeeds
}

type fakeCapabilityService struct {
	apiconnect.UnimplementedCapabilityServiceHandler
	*fakeServer
}

func (s fakeCapabilityService) AssignCapability(_ context.Context, req *api.AssignCapabilityRequest) (*api.AssignCapabilityResponse, error) {
	s.note(req)
	if _, err := s.instance(req.GetInstanceId()); err != nil {
		return nil, err
	}
	if req.GetProvider() == "nowhere" {
		return nil, wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "no provider %q", req.GetProvider())
	}
	perms := slices.Sorted(slices.Values(req.GetPermissions()))
	return &api.AssignCapabilityResponse{Capability: &api.Capability{
		InstanceId: req.GetInstanceId(), CapabilityId: req.GetCapabilityId(), Type: req.GetType(), Permissions: perms, Provider: req.GetProvider(),
		Namespace: req.GetNamespace(), Stale: req.GetStale(), CreatedAt: ago(0), CreateIndex: 43,
	}}, nil
}

// RevokeCapability revokes, but for visits, whose node is cut off.
func (s fakeCapabilityService) RevokeCapability(_ context.Context, req *api.RevokeCapabilityRequest) (*api.RevokeCapabilityResponse, error) {
	s.note(req)
	if _, err := s.instance(req.GetInstanceId()); err != nil {
		return nil, err
	}
	switch req.GetCapabilityId() {
	case "visits":
		return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the node has not answered").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeCommitted).With("node", "n1")
	case "lost":
		return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "who knows").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	case "store":
		return &api.RevokeCapabilityResponse{}, nil
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "no capability %q", req.GetCapabilityId())
}

func (s fakeCapabilityService) ListCapabilities(_ context.Context, req *api.ListCapabilitiesRequest) (*api.ListCapabilitiesResponse, error) {
	s.note(req)
	if _, err := s.instance(req.GetInstanceId()); err != nil {
		return nil, err
	}
	caps, _ := fakeGrants(req.GetInstanceId())
	return &api.ListCapabilitiesResponse{Capabilities: caps}, nil
}

// fakeProviders are as the API shows them: without passwords.
func fakeProviders() map[string]*api.Provider {
	all := map[string]*api.Provider{}
	for _, p := range []*api.Provider{
		{
			ProviderId: "big", Type: "kv", Config: map[string]string{"url": "redis://:xxxxx@10.0.0.9:6379/0", "max_keys": "1000000"}, Revision: 2,
			ChangedAt: ago(2 * time.Hour),
		},
		{ProviderId: "http", Type: "http"},
		{ProviderId: "kv", Type: "kv"},
		{ProviderId: "messaging", Type: "messaging"},
		{
			ProviderId: "outside", Type: "http", Config: map[string]string{"allow_hosts": "*.example.com", "timeout": "5s"}, Revision: 3,
			Constraints: []string{"zone=dmz", "disk in (ssd,nvme)"}, ChangedAt: ago(49 * time.Hour), Stopped: true,
		},
	} {
		all[p.GetProviderId()] = p
	}
	return all
}

type fakeProviderService struct {
	apiconnect.UnimplementedProviderServiceHandler
	*fakeServer
}

func (s fakeProviderService) provider(id string) (*api.Provider, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.providers[id]; ok {
		return proto.CloneOf(p), nil
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "no provider %q", id)
}

func (s fakeProviderService) StartProvider(_ context.Context, req *api.StartProviderRequest) (*api.StartProviderResponse, error) {
	s.note(req)
	if p, err := s.provider(req.GetProviderId()); err == nil {
		if req.GetType() != "" && (req.GetType() != p.GetType() || !maps.Equal(req.GetConfig(), p.GetConfig())) {
			return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q is another", req.GetProviderId())
		}
		p.Stopped = false
		return &api.StartProviderResponse{Provider: p}, nil
	}
	return &api.StartProviderResponse{Provider: &api.Provider{
		ProviderId: req.GetProviderId(), Type: req.GetType(), Config: req.GetConfig(), Constraints: req.GetConstraints(), Revision: 1, ChangedAt: ago(0),
	}}, nil
}

func (s fakeProviderService) StopProvider(_ context.Context, req *api.StopProviderRequest) (*api.StopProviderResponse, error) {
	s.note(req)
	p, err := s.provider(req.GetProviderId())
	if err != nil {
		return nil, err
	}
	p.Stopped = true
	return &api.StopProviderResponse{Provider: p}, nil
}

func (s fakeProviderService) UpdateProvider(_ context.Context, req *api.UpdateProviderRequest) (*api.UpdateProviderResponse, error) {
	s.note(req)
	p, err := s.provider(req.GetProviderId())
	if err != nil {
		return nil, err
	}
	if req.Revision != nil && req.GetRevision() != p.GetRevision() {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "revision %d, not %d", p.GetRevision(), req.GetRevision())
	}
	p.Config = maps.Clone(p.GetConfig())
	for _, k := range req.GetUnset() {
		delete(p.Config, k)
	}
	maps.Copy(p.Config, req.GetConfig())
	p.Revision++
	return &api.UpdateProviderResponse{Provider: p}, nil
}

func (s fakeProviderService) RemoveProvider(_ context.Context, req *api.RemoveProviderRequest) (*api.RemoveProviderResponse, error) {
	s.note(req)
	p, err := s.provider(req.GetProviderId())
	if err == nil && !p.GetStopped() {
		err = wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q is not stopped", req.GetProviderId())
	}
	return &api.RemoveProviderResponse{}, err
}

func (s fakeProviderService) ListProviders(_ context.Context, req *api.ListProvidersRequest) (*api.ListProvidersResponse, error) {
	s.note(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &api.ListProvidersResponse{}
	for _, id := range slices.Sorted(maps.Keys(s.providers)) {
		res.Providers = append(res.Providers, s.providers[id])
	}
	return res, nil
}

func (s fakeProviderService) GetProvider(_ context.Context, req *api.GetProviderRequest) (*api.GetProviderResponse, error) {
	s.note(req)
	p, err := s.provider(req.GetProviderId())
	if err != nil {
		return nil, err
	}
	res := &api.GetProviderResponse{Provider: p, Nodes: []string{"n1", "n3"}, Assignments: 7}
	if p.GetStopped() {
		res.Nodes = nil
	}
	return res, nil
}
