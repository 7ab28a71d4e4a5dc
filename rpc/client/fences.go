package client

import (
	"context"
	"net/http"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Fences raises fences at the server that leads kv.
type Fences struct {
	control apiconnect.ControlServiceClient
}

// NewFences makes the client over a transport such as that of [NewTransport],
// which stays the caller's.
func NewFences(rt http.RoundTripper) *Fences {
	return &Fences{control: apiconnect.NewControlServiceClient(newRouter(rt, nil), baseURL, internal...)}
}

// Raise raises fences at the server whose API is at addr, and returns those in
// force as that says.
func (f *Fences) Raise(ctx context.Context, addr string, fences []wasmatrix.Fence) ([]wasmatrix.Fence, error) {
	res, err := f.control.RaiseFences(withTarget(ctx, addr), &api.RaiseFencesRequest{Fences: wire.FencesTo(fences)})
	if err != nil {
		return nil, err
	}
	return wire.FencesFrom(res.GetInForce()), nil
}
