package client

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// openCall is a call that has several messages.
type openCall struct {
	stream  *carryStream
	number  uint64
	at      int64                   // where its first message is among all that were sent
	answers chan *api.CarryResponse // has room for all that may come
	ended   chan struct{}           // closed when last is set
	last    *api.CarryResponse
	cancel  sync.Once
}

func (o *openCall) receive(m *api.CarryResponse) bool {
	if m.GetEnd() {
		o.last = m
		close(o.ended)
		return true
	}
	select {
	case o.answers <- m:
		return true
	default:
		return false
	}
}

// open begins a call that has room for some messages that were not received yet,
// and returns when the first comes, which says no more than that. Ctx bounds this.
func (c *Carrier) open(ctx context.Context, m *api.CarryRequest, s *capability.Scope, room int) (*openCall, error) {
	stream, err := c.current() //nolint:contextcheck // the stream outlives the call
	if err != nil {
		return nil, err
	}
	o := &openCall{stream: stream, answers: make(chan *api.CarryResponse, room), ended: make(chan struct{})}
	if o.number, err = stream.enterOpen(o); err != nil {
		return nil, err
	}
	m.Call = o.number
	if err := stream.first(ctx, m, s, &o.at); err != nil {
		stream.drop(o)
		return nil, err
	}
	if _, err := o.next(ctx); err != nil {
		return nil, err
	}
	return o, nil
}

// drop forgets a call that did not begin.
func (s *carryStream) drop(o *openCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, o.number)
}

// next waits for a message. Where ctx ends, it ends the call, and waits for that.
// The error of the call's end is returned once nothing else is left.
func (o *openCall) next(ctx context.Context) (*api.CarryResponse, error) {
	select {
	case m := <-o.answers:
		return m, nil
	case <-o.ended:
	case <-ctx.Done():
		if err := o.end(); err != nil {
			return nil, err
		}
	}
	select {
	case m := <-o.answers:
		return m, nil
	default:
	}
	if err := o.failure(); err != nil {
		return nil, err
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the call was ended").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// failure is the error of the call's end, nil where it was ended by its caller.
// Call it after that.
func (o *openCall) failure() error {
	switch {
	case o.last == broken:
		return o.stream.lost(o.at)
	case o.last.Error != nil:
		return wire.ErrorFrom(o.last.Error)
	default:
		return nil
	}
}

// end cancels the call at the other side and waits until that has confirmed it. It
// fails with TIMEOUT where it has not in time. It may be called several times.
func (o *openCall) end() error {
	o.cancel.Do(func() { o.stream.sendCancel(o.number) })
	select {
	case <-o.ended:
		return nil
	default:
	}
	patience := time.NewTimer(cancelPatience)
	defer patience.Stop()
	select {
	case <-o.ended:
		return nil
	case <-patience.C:
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the call was cancelled, and %s did not confirm within %s that it has ended", o.stream.carrier.addr, cancelPatience).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	}
}

// close ends the call for its owner, and returns what the other side says of that.
// Of what has ended already, or is gone, nothing is left to be closed.
func (o *openCall) close() error {
	select {
	case <-o.ended:
		return nil
	default:
	}
	if err := o.end(); err != nil || o.last == broken {
		return err
	}
	return o.failure()
}
