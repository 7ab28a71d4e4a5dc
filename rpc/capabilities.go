package rpc

import (
	"context"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// capabilities serves CapabilityService.
type capabilities struct{ *Server }

func (c *capabilities) AssignCapability(ctx context.Context, m *api.AssignCapabilityRequest) (*api.AssignCapabilityResponse, error) {
	a, err := wasmatrix.NewAssignment(wasmatrix.InstanceID(m.GetInstanceId()), wasmatrix.CapabilityID(m.GetCapabilityId()), wire.GrantFrom(m))
	if err != nil {
		return nil, err
	}
	req, err := wire.Request(m)
	if err != nil {
		return nil, err
	}
	answer, err := c.cfg.Log.Propose(ctx, wasmatrix.AssignCapability{At: now(), Request: req, Assignment: a})
	if err != nil {
		return nil, err
	}
	// A repeated request answers with what there is now, which may be nothing.
	if made, ok := answer.(*wasmatrix.Assignment); ok && made != nil {
		a = made
	}
	return &api.AssignCapabilityResponse{Capability: wire.CapabilityTo(a)}, nil
}

func (c *capabilities) RevokeCapability(ctx context.Context, m *api.RevokeCapabilityRequest) (*api.RevokeCapabilityResponse, error) {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return nil, err
	}
	capability := wasmatrix.CapabilityID(m.GetCapabilityId())
	if err := capability.Validate(); err != nil {
		return nil, field(err, "capability_id")
	}
	req, err := wire.Request(m)
	if err != nil {
		return nil, err
	}
	if _, err := c.cfg.Log.Propose(ctx, wasmatrix.RevokeCapability{At: now(), Request: req, Instance: id, Capability: capability}); err != nil {
		return nil, err
	}
	return &api.RevokeCapabilityResponse{}, nil
}

func (c *capabilities) ListCapabilities(ctx context.Context, m *api.ListCapabilitiesRequest) (*api.ListCapabilitiesResponse, error) {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return nil, err
	}
	snap, err := c.read(ctx, m.GetStale())
	if err != nil {
		return nil, err
	}
	if _, ok := snap.Instance(id); !ok {
		return nil, instanceNotFound(id)
	}
	res := &api.ListCapabilitiesResponse{}
	for a := range snap.Assignments(id) {
		res.Capabilities = append(res.Capabilities, wire.CapabilityTo(a))
	}
	return res, nil
}
