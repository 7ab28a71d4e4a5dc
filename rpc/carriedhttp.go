package rpc

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// exchangeHTTP does the parts of an exchange one after the other, until it is
// cancelled or its time has passed.
func (c *carried) exchangeHTTP(s *capability.Scope) (*api.CarryResponse, error) {
	request, err := wire.HTTPOpenFrom(c.first.GetHttpOpen())
	if err != nil {
		return nil, err
	}
	http, err := c.host.HTTP(c.ctx, s)
	if err != nil {
		return nil, err
	}
	x, err := http.Open(c.ctx, s, request)
	if err != nil {
		return nil, err
	}
	closing := sync.OnceValue(x.Close)
	defer func() { _ = closing() }()
	// The end interrupts the part that is being done.
	closed := make(chan struct{})
	context.AfterFunc(c.ctx, func() {
		defer close(closed)
		_ = closing()
	})
	c.answer(&api.CarryResponse{})
	parts := &httpParts{Exchange: x}
	for c.ctx.Err() == nil {
		select {
		case m := <-c.parts:
			answer, err := parts.do(m)
			if err != nil {
				answer = &api.CarryResponse{Error: wire.ErrorTo(wire.Coded(err))}
			}
			c.answer(answer)
		case <-c.ctx.Done():
		}
	}
	<-closed
	err = closing()
	if late := c.timedOut(); late != nil {
		err = late
	}
	return nil, err
}

// maxResponseHeader bounds a response's header, in bytes, so that it fits into a
// message.
const maxResponseHeader = 1 << 20

// httpParts does the parts of an exchange.
type httpParts struct {
	capability.Exchange
	failed error // of the last Read, which has given something all the same
}

func (x *httpParts) do(m *api.CarryRequest) (*api.CarryResponse, error) {
	switch p := m.GetPart().(type) {
	case *api.CarryRequest_HttpWrite:
		if _, err := x.Write(p.HttpWrite.GetData()); err != nil {
			return nil, err
		}
		return &api.CarryResponse{Part: &api.CarryResponse_HttpTaken{HttpTaken: &api.HTTPTaken{}}}, nil
	case *api.CarryRequest_HttpSend:
		r, err := x.Response()
		if err != nil {
			return nil, err
		}
		size := 0
		for _, f := range r.Header {
			size += len(f.Name) + len(f.Value)
		}
		if size > maxResponseHeader {
			return nil, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the header of the response has %d bytes, at most %d can be carried", size, maxResponseHeader)
		}
		return &api.CarryResponse{Part: &api.CarryResponse_HttpResponse{HttpResponse: wire.HTTPResponseTo(r)}}, nil
	default:
		return x.read(m.GetHttpRead().GetSize())
	}
}

func (x *httpParts) read(size uint32) (*api.CarryResponse, error) {
	if size == 0 || size > abi.MaxPiece {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a piece of %d bytes: 1 to %d are allowed", size, abi.MaxPiece).
			With(wasmatrix.DetailField, "http_read.size")
	}
	var buf []byte
	n, err := 0, x.failed
	if err == nil {
		buf = make([]byte, size)
		n, err = x.Read(buf)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if x.failed = err; n == 0 {
			return nil, err
		}
		err = nil
	}
	return &api.CarryResponse{Part: &api.CarryResponse_HttpPiece{HttpPiece: &api.HTTPPiece{Data: buf[:n], Eof: err != nil}}}, nil
}
