package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carrying serves ProviderCallService: it carries out the calls of guests of
// other processes over a [capability.Host].
type carrying struct {
	host    capability.Host // nil carries out none
	closing context.Context //nolint:containedctx // of everything that lasts as long as the server
	timeout time.Duration   // of a call of one message that asks for none
	log     hclog.Logger
}

// Carry serves one stream. It returns when none of its calls executes any more.
func (s *carrying) Carry(ctx context.Context, stream *connect.BidiStream[api.CarryRequest, api.CarryResponse]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &carriage{carrying: s, ctx: ctx, calls: make(map[uint64]*carried), out: newReplies(stream.Conn())}
	if x, ok := exchangeOf(ctx); ok {
		x.batching = true
		defer func() { x.batching = false }()
		r.out.flush = x.flush
		// Reading ends with the server, so that no more calls begin.
		unread := make(chan struct{})
		stop := context.AfterFunc(s.closing, func() { //nolint:contextcheck // the server's life, not the call's
			defer close(unread)
			_ = http.NewResponseController(x.ResponseWriter).SetReadDeadline(time.Unix(1, 0))
		})
		defer func() {
			if !stop() {
				<-unread // it may not touch a request that was answered
			}
		}()
	}
	r.out.failed = cancel // who takes no answers wants no effects either
	err := r.receive(stream)
	if s.closing.Err() != nil {
		// What has a bound of its own may come to its end; the rest cannot go on.
		r.endOpen()
		err = errClosing()
	} else {
		cancel()
	}
	r.work.Wait()
	r.out.wait()
	return err
}

// carriage is one stream of calls.
type carriage struct {
	*carrying
	ctx  context.Context //nolint:containedctx // of the stream
	out  *replies
	work sync.WaitGroup // one for each call

	mu      sync.Mutex
	calls   map[uint64]*carried // guarded by mu; those under way
	short   int                 // guarded by mu; of those, the ones of one message
	highest uint64              // guarded by mu; of the numbers that began
}

// receive takes messages until the stream ends. It blocks for no call.
func (r *carriage) receive(stream *connect.BidiStream[api.CarryRequest, api.CarryResponse]) error {
	for {
		m, err := stream.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := r.take(m); err != nil {
			r.out.send(&api.CarryResponse{Call: m.GetCall(), End: true, Error: wire.ErrorTo(wire.Coded(err))})
		}
	}
}

// take passes a message to its call, or begins one. An error is the end of a call
// that did not begin.
func (r *carriage) take(m *api.CarryRequest) error {
	bad := func(format string, args ...any) error {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, format, args...).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	if m.GetCall() == 0 {
		return bad("a call has a number above zero")
	}
	begin := beginnings[partOf(m)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.calls[m.GetCall()]; ok {
		c.take(m)
		return nil
	}
	switch {
	case begin == nil && m.GetCall() <= r.highest:
		return nil // it crossed the end of its call
	case begin == nil:
		return bad("message of call %d, which has not begun", m.GetCall())
	case begin.open && len(r.calls)-r.short >= wire.MaxCarriedOpen, !begin.open && r.short >= wire.MaxCarried:
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "too many calls are under way on one connection").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	case r.host == nil:
		return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this process carries out no calls of others").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	claimed, err := wire.ScopeFrom(m.GetScope())
	if err != nil {
		return err
	}
	timeout, err := wire.DurationFrom(m.GetTimeout(), "timeout")
	if err != nil {
		return err
	}
	if timeout < 0 || m.GetTimeout() != nil && timeout == 0 {
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the time of the call had passed before it began").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	c := &carried{carriage: r, number: m.GetCall(), claimed: claimed, first: m, timeout: timeout}
	r.begin(c, begin)
	return nil
}

// begin runs a call. Call it with mu held.
func (r *carriage) begin(c *carried, how *beginning) {
	r.highest = max(r.highest, c.number)
	r.calls[c.number] = c
	if how.open {
		c.parts = make(chan *api.CarryRequest, 1)
		c.credited = make(chan struct{}, 1)
	} else {
		r.short++
		if c.timeout == 0 {
			c.timeout = r.timeout
		}
	}
	if c.timeout > 0 && how.bounded {
		c.ctx, c.cancel = context.WithTimeout(r.ctx, c.timeout)
	} else {
		c.ctx, c.cancel = context.WithCancel(r.ctx)
	}
	r.work.Add(1)
	go c.run(how)
}

// ended forgets a call, and then sends its last message.
func (r *carriage) ended(c *carried, last *api.CarryResponse) {
	r.mu.Lock()
	delete(r.calls, c.number)
	if c.parts == nil {
		r.short--
	}
	r.mu.Unlock()
	last.Call, last.End = c.number, true
	r.out.send(last)
}

// endOpen ends the calls that would go on for as long as their callers want.
func (r *carriage) endOpen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c.parts != nil {
			c.refuse(wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the process that carries out the call is shutting down").
				With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown))
		}
	}
}
