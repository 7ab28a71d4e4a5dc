package nodetest

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Reply makes the response to a request, and its body.
type Reply func(r *capability.Request, body []byte) (*capability.Response, io.Reader)

// HTTPOpen begins a request to the one server that there is.
func (w *World) HTTPOpen(ctx context.Context, id wasmatrix.CapabilityID, r *capability.Request) (capability.Exchange, error) {
	if err := w.call(ctx, "open "+string(id)); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, r)
	w.opened++
	return &exchange{w: w, ctx: ctx, request: r}, nil
}

// exchange looks at its context nowhere but where World.Before does.
type exchange struct {
	w        *World
	ctx      context.Context //nolint:containedctx // it bounds the exchange
	request  *capability.Request
	once     sync.Once
	body     []byte
	response *capability.Response
	rest     io.Reader
}

func (e *exchange) Write(p []byte) (int, error) {
	if err := e.w.call(e.ctx, "write"); err != nil {
		return 0, err
	}
	e.body = append(e.body, p...)
	return len(p), nil
}

func (e *exchange) Response() (*capability.Response, error) {
	if err := e.w.call(e.ctx, "response"); err != nil {
		return nil, err
	}
	if e.response != nil {
		return e.response, nil
	}
	if e.w.Reply != nil {
		e.response, e.rest = e.w.Reply(e.request, e.body)
		return e.response, nil
	}
	e.response = &capability.Response{Status: 200, Header: []capability.Field{{Name: "X-Echo", Value: "yes"}, {Name: "Length", Value: strconv.Itoa(len(e.body))}}}
	e.rest = bytes.NewReader(e.body)
	return e.response, nil
}

func (e *exchange) Read(p []byte) (int, error) {
	if err := e.w.call(e.ctx, "read"); err != nil {
		return 0, err
	}
	return e.rest.Read(p)
}

func (e *exchange) Close() error {
	e.once.Do(func() { e.w.close() })
	return nil
}

func (w *World) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed++
}
