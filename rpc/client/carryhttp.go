package client

import (
	"context"
	"io"
	"sync"

	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carriedHTTP is an http of another process.
type carriedHTTP struct{ carrier *Carrier }

func (h carriedHTTP) Open(ctx context.Context, s *capability.Scope, r *capability.Request) (capability.Exchange, error) {
	m := &api.CarryRequest{Part: &api.CarryRequest_HttpOpen{HttpOpen: wire.HTTPOpenTo(r)}}
	call, err := h.carrier.open(ctx, m, s, 1)
	if err != nil {
		return nil, err
	}
	x := &carriedExchange{call: call, ctx: ctx, alive: s.Alive}
	// The other side must not hold what nobody waits for.
	x.unbind = context.AfterFunc(ctx, func() { call.cancel.Do(func() { call.stream.sendCancel(call.number) }) })
	x.close = sync.OnceValue(x.end)
	return x, nil
}

// carriedExchange is an exchange of another process. Each part waits for its answer.
type carriedExchange struct {
	call   *openCall
	ctx    context.Context //nolint:containedctx // it bounds all of the exchange
	alive  func() bool
	unbind func() bool
	close  func() error

	response *capability.Response
	rest     []byte // of the response's body
	eof      bool
}

// do sends a part and returns its answer.
func (x *carriedExchange) do(m *api.CarryRequest) (*api.CarryResponse, error) {
	select {
	case <-x.call.ended:
	default:
		m.Call = x.call.number
		if err := x.call.stream.send(x.ctx, m, x.alive, nil); err != nil {
			return nil, err
		}
	}
	res, err := x.call.next(x.ctx)
	switch {
	case err != nil:
		return nil, err
	case res.Error != nil:
		return nil, wire.ErrorFrom(res.Error)
	default:
		return res, nil
	}
}

func (x *carriedExchange) Write(p []byte) (int, error) {
	n := 0
	for first := true; first || n < len(p); first = false { // an empty piece is one
		piece := p[n:min(n+abi.MaxPiece, len(p))]
		if _, err := x.do(&api.CarryRequest{Part: &api.CarryRequest_HttpWrite{HttpWrite: &api.HTTPWrite{Data: piece}}}); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

func (x *carriedExchange) Response() (*capability.Response, error) {
	if x.response != nil {
		return x.response, nil
	}
	res, err := x.do(&api.CarryRequest{Part: &api.CarryRequest_HttpSend{HttpSend: &api.HTTPSend{}}})
	if err != nil {
		return nil, err
	}
	x.response = wire.HTTPResponseFrom(res.GetHttpResponse())
	return x.response, nil
}

func (x *carriedExchange) Read(p []byte) (int, error) {
	if len(x.rest) == 0 && !x.eof && len(p) > 0 {
		res, err := x.do(&api.CarryRequest{Part: &api.CarryRequest_HttpRead{HttpRead: &api.HTTPRead{Size: uint32(min(len(p), abi.MaxPiece))}}})
		if err != nil {
			return 0, err
		}
		x.rest, x.eof = res.GetHttpPiece().GetData(), res.GetHttpPiece().GetEof()
	}
	n := copy(p, x.rest)
	x.rest = x.rest[n:]
	if x.eof && len(x.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// Close ends the exchange at the other side, and the part that is being done.
func (x *carriedExchange) Close() error { return x.close() }

func (x *carriedExchange) end() error {
	x.unbind()
	return x.call.close()
}
