package client

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/link"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Carrier has the calls of guests carried out by another process: a server, or a
// node that hosts the provider. All callers share one stream, which is opened when
// it is first used, and anew after it broke.
//
// Calls under way when the stream breaks fail with PROVIDER_UNAVAILABLE, with
// [wasmatrix.DetailOutcome] unknown where they may have taken effect. A call whose
// context ends is cancelled at the other side too. One that reads returns at once; any
// other when that side says that nothing of it executes any more, or after
// cancelPatience. Whether the caller may still act ([capability.Scope].Alive) is asked
// when a message leaves.
type Carrier struct {
	dial link.Dial
	addr string

	mu     sync.Mutex
	stream *carryStream // guarded by mu; nil before it is used
	closed bool         // guarded by mu
}

// cancelPatience is how long a cancelled call waits for its end to be confirmed.
const cancelPatience = 5 * time.Second

// NewCarrier makes a carrier to the process at addr (host:port), which dial connects
// to, such as that of [NewTransport]. Close it.
func NewCarrier(dial link.Dial, addr string) *Carrier { return &Carrier{dial: dial, addr: addr} }

// KV returns the kv that the other process reaches.
func (c *Carrier) KV() capability.KV { return carriedKV{c} }

// HTTP returns the http that the other process reaches.
func (c *Carrier) HTTP() capability.HTTP { return carriedHTTP{c} }

// Messaging returns the messaging that the other process reaches.
func (c *Carrier) Messaging() capability.Messaging { return carriedMessaging{c} }

// Busy reports whether calls are under way, as exchanges and subscriptions are
// while they are open.
func (c *Carrier) Busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream == nil {
		return false
	}
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return len(c.stream.calls) > 0
}

// Close breaks the stream, and with it the calls under way. Later calls fail.
func (c *Carrier) Close() error {
	c.mu.Lock()
	s := c.stream
	c.closed = true
	c.mu.Unlock()
	if s != nil {
		s.end()
		<-s.over
	}
	return nil
}

// current returns the stream, opening it unless it is.
func (c *Carrier) current() (*carryStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, c.unavailable(wasmatrix.OutcomeNone, "the connection is closed")
	}
	if c.stream == nil || c.stream.isBroken() {
		c.stream = openCarry(c)
	}
	return c.stream, nil
}

func (c *Carrier) unavailable(outcome, format string, args ...any) *wasmatrix.Error {
	e := wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, format, args...).With("address", c.addr)
	return e.With(wasmatrix.DetailOutcome, outcome)
}

// read makes a call of one message that has no effects, and returns its answer.
func (c *Carrier) read(ctx context.Context, m *api.CarryRequest, s *capability.Scope) (*api.CarryResponse, error) {
	stream, u, err := c.begin(ctx, m, s)
	if err != nil {
		return nil, err
	}
	if res, ok := stream.await(ctx, u); ok {
		return stream.done(u, res)
	}
	if number := u.number; stream.abandon(u) {
		stream.sendCancel(number)
		return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "%s did not answer in time: %w", c.addr, context.Cause(ctx)).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	return stream.done(u, <-u.answer) // it came after all
}

// unary makes a call of one message and returns its answer.
func (c *Carrier) unary(ctx context.Context, m *api.CarryRequest, s *capability.Scope) (*api.CarryResponse, error) {
	stream, u, err := c.begin(ctx, m, s)
	if err != nil {
		return nil, err
	}
	if res, ok := stream.await(ctx, u); ok {
		return stream.done(u, res)
	}
	stream.sendCancel(u.number)
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelPatience)
	defer cancel()
	if res, ok := stream.await(patience, u); ok {
		return stream.done(u, res)
	}
	if !stream.forget(u) {
		return stream.done(u, <-u.answer) // it came after all
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the call was cancelled, and %s did not confirm within %s that it has ended", c.addr, cancelPatience).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// begin sends the first message of a call of one.
func (c *Carrier) begin(ctx context.Context, m *api.CarryRequest, s *capability.Scope) (*carryStream, *unaryCall, error) {
	stream, err := c.current() //nolint:contextcheck // the stream outlives the call
	if err != nil {
		return nil, nil, err
	}
	u, err := stream.enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	m.Call = u.number
	if err := stream.first(ctx, m, s, &u.at); err != nil {
		if !stream.forget(u) {
			<-u.answer
		}
		return nil, nil, err
	}
	return stream, u, nil
}

// first sends the first message of a call, with whom it is for and how long it may
// take. At becomes where it is among what was queued.
func (s *carryStream) first(ctx context.Context, m *api.CarryRequest, scope *capability.Scope, at *int64) error {
	if ctx.Err() != nil {
		return link.NotBegun(ctx)
	}
	m.Scope = wire.ScopeTo(scope)
	if deadline, ok := ctx.Deadline(); ok {
		m.Timeout = wire.DurationTo(max(time.Until(deadline), 1))
	}
	return s.send(ctx, m, scope.Alive, at)
}
