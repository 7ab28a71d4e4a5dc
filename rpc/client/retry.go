package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// retrier is the interceptor that makes every call safe to lose: it rotates over
// the servers and sends the same request, with the same request ID, until it is
// answered or the time is up.
type retrier struct {
	servers  *servers
	timeout  time.Duration // of one attempt of a unary call
	retryFor time.Duration // of all attempts; negative: one attempt
	log      hclog.Logger
}

// Delays between attempts: nothing until each server was tried once, then these.
const (
	firstDelay = 25 * time.Millisecond
	maxDelay   = time.Second
)

// do calls attempt until it succeeds, fails for good, or the time is up. Safe
// says that the effect of a repetition is that of one call.
func (r *retrier) do(ctx context.Context, procedure string, timeout time.Duration, safe bool, attempt func(context.Context) error) error {
	start := time.Now()
	delay := firstDelay
	for n := 1; ; n++ {
		addr, ok := r.servers.pick()
		if !ok {
			return wasmatrix.Errorf(wasmatrix.CodeCommunication, "no server is known").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
		}
		e, again := r.once(ctx, addr, timeout, safe, attempt)
		if e == nil {
			return nil
		}
		if again {
			r.servers.failed(addr, e.Details[wasmatrix.DetailLeader])
		}
		wait := time.Duration(0)
		if n >= r.servers.count() {
			wait = delay/2 + rand.N(delay/2+1)
			delay = min(2*delay, maxDelay)
		}
		if !again || r.retryFor < 0 || time.Since(start)+wait > r.retryFor {
			return e
		}
		r.log.Debug("trying again", "procedure", procedure, "server", addr, "attempt", n, "error", e)
		if wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				t.Stop()
				return e
			case <-t.C:
			}
		}
	}
}

// once makes one attempt at addr and judges its failure.
func (r *retrier) once(ctx context.Context, addr string, timeout time.Duration, safe bool, attempt func(context.Context) error) (e *wasmatrix.Error, again bool) {
	actx := withTarget(ctx, addr)
	if timeout > 0 {
		var cancel context.CancelFunc
		actx, cancel = context.WithTimeout(actx, timeout)
		defer cancel()
	}
	err := attempt(actx)
	if err == nil {
		return nil, false
	}
	e = wire.FromConnect(err)
	if ctx.Err() != nil {
		return e, false
	}
	unknown := e.Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown
	lost := e.Retryable() || e.Code == wasmatrix.CodeTimeout && unknown
	return e, lost && (safe || !unknown)
}

// WrapUnary implements connect.Interceptor.
func (r *retrier) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		safe := req.Spec().IdempotencyLevel == connect.IdempotencyNoSideEffects
		if m, ok := req.Any().(proto.Message); ok {
			if id, has := wire.RequestID(m); has {
				safe = true
				if id == "" {
					wire.SetRequestID(m, wire.NewRequestID())
				}
			}
		}
		var res connect.AnyResponse
		err := r.do(ctx, req.Spec().Procedure, r.timeoutOf(req.Any()), safe, func(ctx context.Context) (err error) {
			res, err = next(ctx, req)
			return err
		})
		if err != nil {
			return nil, err
		}
		return res, nil
	}
}

// timeoutOf gives a call that waits on the server more time than others.
func (r *retrier) timeoutOf(m any) time.Duration {
	var wait time.Duration
	var asked *durationpb.Duration
	switch m := m.(type) {
	case *api.StopInstanceRequest:
		wait, asked = wire.DefaultStopTimeout, m.GetTimeout()
	case *api.RevokeCapabilityRequest:
		wait, asked = wire.DefaultRevokeTimeout, m.GetTimeout()
	case *api.InvokeInstanceRequest:
		wait, asked = wasmatrix.DefaultInvokeTimeout, m.GetTimeout()
	}
	if asked != nil {
		wait = asked.AsDuration()
	}
	if r.timeout <= 0 {
		return r.timeout
	}
	return r.timeout + max(wait, 0)
}

// WrapStreamingHandler implements connect.Interceptor; servers do not use it.
func (r *retrier) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// WrapStreamingClient implements connect.Interceptor. A server stream that
// breaks before its first message is opened anew elsewhere; later the caller,
// who alone knows where to go on, has to do it. Streams have no timeout of
// their own.
func (r *retrier) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		// A caller within do has its target already.
		addr, targeted := ctx.Value(targetKey{}).(string)
		if !targeted {
			addr, _ = r.servers.pick()
		}
		open := func(addr string) connect.StreamingClientConn { return next(withTarget(ctx, addr), spec) }
		if spec.StreamType != connect.StreamTypeServer || targeted {
			return &codedConn{StreamingClientConn: open(addr)}
		}
		return &reopeningConn{StreamingClientConn: open(addr), ctx: ctx, r: r, addr: addr, open: open}
	}
}

// codedConn turns the errors of a stream into *wasmatrix.Error.
type codedConn struct{ connect.StreamingClientConn }

func (c *codedConn) Send(m any) error    { return coded(c.StreamingClientConn.Send(m)) }
func (c *codedConn) Receive(m any) error { return coded(c.StreamingClientConn.Receive(m)) }

// coded leaves io.EOF, which is no failure, as it is.
func coded(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return wire.FromConnect(err)
}

// reopeningConn is a server stream that is opened elsewhere when it fails before
// its first message. Connect calls Send and CloseRequest before the first
// Receive, and one goroutine receives.
type reopeningConn struct {
	connect.StreamingClientConn
	ctx     context.Context //nolint:containedctx // of the call, which lasts as long as the stream
	r       *retrier
	addr    string
	open    func(addr string) connect.StreamingClientConn
	request any
	began   bool

	mu     sync.Mutex // guards closed against the replacement of the stream
	closed bool
}

func (c *reopeningConn) Send(m any) error {
	c.request = m
	return ignoreEOF(c.StreamingClientConn.Send(m))
}

// ignoreEOF: after an io.EOF of Send, Receive tells what happened.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (c *reopeningConn) Receive(m any) error {
	err := c.StreamingClientConn.Receive(m)
	if err == nil || c.began || errors.Is(err, io.EOF) {
		c.began = true
		return coded(err)
	}
	// The first attempt was made; the rest goes through the common loop.
	c.r.servers.failed(c.addr, wire.FromConnect(err).Details[wasmatrix.DetailLeader])
	if e := wire.FromConnect(err); !e.Retryable() || c.r.retryFor < 0 || c.ctx.Err() != nil {
		return e
	}
	ended := false
	err = c.r.do(c.ctx, c.Spec().Procedure, 0, true, func(ctx context.Context) error {
		addr, _ := ctx.Value(targetKey{}).(string)
		if err := c.replace(c.open(addr)); err != nil {
			return err
		}
		if err := ignoreEOF(c.StreamingClientConn.Send(c.request)); err != nil {
			return err
		}
		if err := c.CloseRequest(); err != nil {
			return err
		}
		err := c.StreamingClientConn.Receive(m)
		if errors.Is(err, io.EOF) {
			ended = true
			return nil
		}
		return err
	})
	c.began = err == nil
	if ended {
		return io.EOF
	}
	return err
}

// replace ends the old stream and takes the new one.
func (c *reopeningConn) replace(next connect.StreamingClientConn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.StreamingClientConn.CloseResponse()
	c.StreamingClientConn = next
	if c.closed {
		return context.Canceled
	}
	return nil
}

// CloseResponse may be called while another goroutine receives.
func (c *reopeningConn) CloseResponse() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.StreamingClientConn.CloseResponse()
}
