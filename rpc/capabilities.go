package rpc

import (
	"context"
	"time"

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
	made, err := c.cfg.Scheduler.Assign(ctx, req, a)
	if err != nil {
		return nil, err
	}
	return &api.AssignCapabilityResponse{Capability: wire.CapabilityTo(made)}, nil
}

// maxRevokeTimeout bounds RevokeCapabilityRequest.timeout.
const maxRevokeTimeout = 10 * time.Minute

// RevokeCapability answers when nothing under the assignment can succeed any
// more. Its error has the outcome where it was revoked and that is not certain.
func (c *capabilities) RevokeCapability(ctx context.Context, m *api.RevokeCapabilityRequest) (*api.RevokeCapabilityResponse, error) {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return nil, err
	}
	capability := wasmatrix.CapabilityID(m.GetCapabilityId())
	if err := capability.Validate(); err != nil {
		return nil, field(err, "capability_id")
	}
	timeout := wire.DefaultRevokeTimeout
	if m.GetTimeout() != nil {
		if timeout, err = wire.DurationFrom(m.GetTimeout(), "timeout"); err != nil {
			return nil, err
		}
	}
	if timeout <= 0 || timeout > maxRevokeTimeout {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "timeout %s is not above 0 and at most %s", timeout, maxRevokeTimeout).
			With(wasmatrix.DetailField, "timeout")
	}
	req, err := wire.Request(m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.cfg.Scheduler.Revoke(ctx, req, id, capability); err != nil {
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
