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
	"github.com/wasmatrix/wasmatrix/rpc/link"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carrying carries out the calls of guests of other processes over a
// [capability.Host], on links at [wire.CallsPath].
type carrying struct {
	host         capability.Host // nil carries out none
	closing      context.Context //nolint:containedctx // of everything that lasts as long as the server
	timeout      time.Duration   // of a call of one message that asks for none
	prompt       bool            // see [Config.PromptReads]
	log          hclog.Logger
	authenticate func(context.Context, string, http.Header) (context.Context, error) // nil lets everyone in

	links linkSet
}

// ServeHTTP makes a link of a request. It returns when none of its calls executes any
// more.
func (s *carrying) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	x := newExchange(w, r)
	if s.authenticate != nil {
		var err error
		if ctx, err = s.authenticate(ctx, wire.CallsPath, r.Header); err != nil {
			x.refuse(0, 0, wire.Coded(err))
			return
		}
	}
	if !link.Asked(r) {
		w.Header().Set("Upgrade", link.Protocol)
		x.refuse(http.StatusUpgradeRequired, connect.CodeInvalidArgument,
			wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "calls of guests are carried over %s", link.Protocol))
		return
	}
	if !s.links.begin() {
		x.refuse(0, 0, wasmatrix.AsError(errClosing()))
		return
	}
	defer s.links.end()
	l, err := link.Accept(w)
	if err != nil {
		s.log.Debug("a request could not become a link", "from", r.RemoteAddr, "error", err)
		x.refuse(0, 0, wire.Coded(err)) // if the connection is still HTTP's
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.links.add(l, cancel)
	defer s.links.remove(l)
	s.log.Debug("carrying calls out", "for", r.RemoteAddr)
	err = s.carry(ctx, cancel, l)
	s.log.Debug("carrying calls out has ended", "for", r.RemoteAddr, "error", err)
}

// carry serves one link to its end. Cancel ends ctx, and with it the calls.
func (s *carrying) carry(ctx context.Context, cancel context.CancelFunc, l *link.Link) error {
	r := &carriage{carrying: s, ctx: ctx, sending: context.WithoutCancel(ctx), calls: make(map[uint64]*carried), link: l}
	// Reading ends with the server, so that no more calls begin.
	stop := context.AfterFunc(s.closing, l.Interrupt) //nolint:contextcheck // the server's life, not the call's
	err := r.receive()
	stop()
	if s.closing.Err() != nil {
		// What has a bound of its own may come to its end; the rest cannot go on.
		r.endOpen()
		err = errClosing()
	} else {
		cancel() // who is gone wants no effects either
	}
	r.work.Wait()
	l.End(err)
	return err
}

// carriage is the calls of one link.
type carriage struct {
	*carrying
	ctx  context.Context //nolint:containedctx // of the link
	link *link.Link
	// sending does not end with ctx: it is the link that does not let a message wait.
	sending context.Context //nolint:containedctx // as said
	work    sync.WaitGroup  // one for each call

	mu      sync.Mutex
	calls   map[uint64]*carried // guarded by mu; those under way
	short   int                 // guarded by mu; of those, the ones of one message
	highest uint64              // guarded by mu; of the numbers that began
}

// receive takes messages until the link ends. It blocks for no call.
func (r *carriage) receive() error {
	for {
		m := new(api.CarryRequest)
		err := r.link.Receive(m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := r.take(m); err != nil {
			r.send(&api.CarryResponse{Call: m.GetCall(), End: true, Error: wire.ErrorTo(wire.Coded(err))})
		}
	}
}

// send queues a message, waiting while too much waits.
func (r *carriage) send(m *api.CarryResponse) {
	if _, _, err := r.link.Send(r.sending, m, link.Claim{}); err != nil {
		// An answer that cannot be sent is an error that can.
		r.link.SendNow(&api.CarryResponse{Call: m.GetCall(), End: m.GetEnd(), Error: wire.ErrorTo(wire.Coded(err))})
	}
}

// take passes a message to its call, or begins one. An error is the end of a call
// that did not begin.
func (r *carriage) take(m *api.CarryRequest) error {
	c, how, err := r.admit(m)
	if c == nil || err != nil {
		return err
	}
	if !r.prompt || !c.claimed.Stale || m.GetKvGet() == nil || !c.promptly(how) {
		r.begin(c, how)
	}
	return nil
}

// admit passes a message to its call and returns nil, or the call that it is to begin.
func (r *carriage) admit(m *api.CarryRequest) (*carried, *beginning, error) {
	bad := func(format string, args ...any) (*carried, *beginning, error) {
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, format, args...).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	if m.GetCall() == 0 {
		return bad("a call has a number above zero")
	}
	begin := beginnings[partOf(m)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.calls[m.GetCall()]; ok {
		c.take(m)
		return nil, nil, nil
	}
	switch {
	case begin == nil && m.GetCall() <= r.highest:
		return nil, nil, nil // it crossed the end of its call
	case begin == nil:
		return bad("message of call %d, which has not begun", m.GetCall())
	case begin.open && len(r.calls)-r.short >= wire.MaxCarriedOpen, !begin.open && r.short >= wire.MaxCarried:
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "too many calls are under way on one connection").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	case r.host == nil:
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this process carries out no calls of others").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	claimed, err := wire.ScopeFrom(m.GetScope())
	if err != nil {
		return nil, nil, err
	}
	timeout, err := wire.DurationFrom(m.GetTimeout(), "timeout")
	if err != nil {
		return nil, nil, err
	}
	if timeout < 0 || m.GetTimeout() != nil && timeout == 0 {
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the time of the call had passed before it began").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	r.highest = max(r.highest, m.GetCall())
	return &carried{carriage: r, number: m.GetCall(), claimed: claimed, first: m, timeout: timeout}, begin, nil
}

// begin runs a call on a goroutine of its own.
func (r *carriage) begin(c *carried, how *beginning) {
	r.mu.Lock()
	defer r.mu.Unlock()
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

// ended forgets a call, and then sends its last message, where one is still wanted.
func (r *carriage) ended(c *carried, last *api.CarryResponse) {
	r.mu.Lock()
	delete(r.calls, c.number)
	if c.parts == nil {
		r.short--
	}
	r.mu.Unlock()
	last.Call, last.End = c.number, true
	r.send(last)
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
