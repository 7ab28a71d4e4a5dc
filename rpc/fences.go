package rpc

import (
	"context"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Fences has the embedded kv refuse the calls of older epochs.
type Fences interface {
	// Raise returns when that holds, with the fences in force in the order of those
	// given: one that was higher already stays so. Where this server does not lead kv
	// it fails with NOT_LEADER.
	Raise(context.Context, []wasmatrix.Fence) (inForce []wasmatrix.Fence, err error)
}

// maxFences bounds one request.
const maxFences = 10_000

func (c *control) RaiseFences(ctx context.Context, m *api.RaiseFencesRequest) (*api.RaiseFencesResponse, error) {
	if len(m.GetFences()) > maxFences {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "%d fences, at most %d are taken", len(m.GetFences()), maxFences).With(wasmatrix.DetailField, "fences")
	}
	if c.cfg.Fences == nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this server has no kv")
	}
	inForce, err := c.cfg.Fences.Raise(ctx, wire.FencesFrom(m.GetFences()))
	if err != nil {
		return nil, err
	}
	return &api.RaiseFencesResponse{InForce: wire.FencesTo(inForce)}, nil
}
