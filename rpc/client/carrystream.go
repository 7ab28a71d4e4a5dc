package client

import (
	"context"
	"slices"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/link"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carryStream is one link of a carrier, and the calls over it.
type carryStream struct {
	carrier *Carrier
	link    *link.Link
	cancel  context.CancelFunc
	over    chan struct{} // closed when nothing comes any more
	reading               // who receives

	mu      sync.Mutex
	calls   map[uint64]receiver // guarded by mu; nil once it is broken
	last    uint64              // guarded by mu; number that was given
	short   int                 // guarded by mu; unary calls in calls
	waiting []chan struct{}     // guarded by mu; unary calls that may begin when others have ended
	why     error               // guarded by mu; why it broke
}

// receiver is a call that messages come to.
type receiver interface {
	// receive takes a message. It must not block, and returns false for one that
	// should not have come.
	receive(*api.CarryResponse) bool
}

// broken is what calls receive last when their stream breaks.
var broken = &api.CarryResponse{End: true}

// unaryCall is a call of one message and one answer.
type unaryCall struct {
	number uint64
	alone  bool                    // no other call was under way when it began
	at     int64                   // where its message is among all that were sent
	answer chan *api.CarryResponse // has room for one
}

func (u *unaryCall) receive(m *api.CarryResponse) bool {
	if !m.GetEnd() {
		return false
	}
	u.answer <- m
	return true
}

var unaryCalls = sync.Pool{New: func() any { return &unaryCall{answer: make(chan *api.CarryResponse, 1)} }}

// notPlaced is the place of a call whose first message was not sent.
const notPlaced = int64(1<<63 - 1)

func openCarry(c *Carrier) *carryStream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &carryStream{carrier: c, cancel: cancel, over: make(chan struct{}), reading: newReading(), calls: make(map[uint64]receiver)}
	s.link = link.New(func(c link.Claim) { s.pass(lapsed(c)) })
	go s.run(ctx)
	return s
}

// lapsed is what a message is answered with that might not be sent. Without its first
// message a call has not begun; a later one fails alone.
func lapsed(c link.Claim) *api.CarryResponse {
	e := wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this process may not act for the instance any more, and has not").
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	return &api.CarryResponse{Call: c.Call, End: c.First, Error: wire.ErrorTo(e)}
}

func (s *carryStream) isBroken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls == nil
}

// end breaks the stream.
func (s *carryStream) end() {
	s.cancel()
	s.link.Close()
}

// run receives until the stream breaks, and then ends the calls that are left.
func (s *carryStream) run(ctx context.Context) {
	defer close(s.over)
	err := s.link.Connect(ctx, s.carrier.dial, s.carrier.addr, wire.CallsPath)
	if err == nil {
		err = s.receive(ctx)
	}
	s.end()
	s.mu.Lock()
	left := s.calls
	s.calls, s.why = nil, err
	for _, w := range s.waiting {
		close(w)
	}
	s.waiting = nil
	s.mu.Unlock()
	for _, call := range left {
		call.receive(broken)
	}
}

// lost is the error of a call that was sent at a place when the stream broke. Call it
// once that has.
func (s *carryStream) lost(at int64) *wasmatrix.Error {
	outcome := wasmatrix.OutcomeNone
	if s.link.Sent(at) {
		outcome = wasmatrix.OutcomeUnknown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.carrier.unavailable(outcome, "the connection to %s, which carries out the call, failed: %w", s.carrier.addr, s.why)
}

// pass gives a message to its call, if that still waits.
func (s *carryStream) pass(m *api.CarryResponse) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	call, ok := s.calls[m.GetCall()]
	if !ok {
		return true // it was given up
	}
	if m.GetEnd() {
		s.remove(m.GetCall(), call)
	}
	return call.receive(m)
}

// remove takes a call off the list. Call it with mu held.
func (s *carryStream) remove(number uint64, call receiver) {
	delete(s.calls, number)
	switch call.(type) {
	case *unaryCall, abandoned:
		s.short--
		s.wake()
	}
}

// wake has a call that waits look again. Call it with mu held.
func (s *carryStream) wake() {
	if len(s.waiting) > 0 {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// enter lists a unary call, once there are few enough.
func (s *carryStream) enter(ctx context.Context) (*unaryCall, error) {
	s.mu.Lock()
	for s.calls != nil && s.short >= wire.MaxCarried {
		turn := make(chan struct{})
		s.waiting = append(s.waiting, turn)
		s.mu.Unlock()
		select {
		case <-turn:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			if i := slices.Index(s.waiting, turn); i >= 0 {
				s.waiting = slices.Delete(s.waiting, i, i+1)
			} else {
				s.wake() // the turn is another's
			}
			return nil, link.NotBegun(ctx)
		}
	}
	if s.calls == nil {
		s.mu.Unlock()
		return nil, s.lost(notPlaced)
	}
	defer s.mu.Unlock()
	u, _ := unaryCalls.Get().(*unaryCall)
	u.at = notPlaced
	s.short++
	s.last++
	u.number = s.last
	s.calls[u.number] = u
	u.alone = len(s.calls) == 1
	return u, nil
}

// enterOpen lists a call that stays open, and returns its number.
func (s *carryStream) enterOpen(call receiver) (uint64, error) {
	s.mu.Lock()
	if s.calls == nil {
		s.mu.Unlock()
		return 0, s.lost(notPlaced)
	}
	defer s.mu.Unlock()
	s.last++
	s.calls[s.last] = call
	s.want()
	return s.last, nil
}

// forget gives a unary call up, and returns false where its answer has come.
func (s *carryStream) forget(u *unaryCall) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[u.number] != receiver(u) {
		return false
	}
	s.remove(u.number, u)
	s.want() // others may have relied on this one to receive
	return true
}

// abandoned is in the place of a unary call that nobody waits for any more. It counts as
// one until the other side has ended it.
type abandoned struct{}

func (abandoned) receive(m *api.CarryResponse) bool { return m.GetEnd() }

// abandon gives a unary call up before its end has come, and returns false where that
// has.
func (s *carryStream) abandon(u *unaryCall) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[u.number] != receiver(u) {
		return false
	}
	s.calls[u.number] = abandoned{}
	s.want() // somebody has to receive the end
	unaryCalls.Put(u)
	return true
}

// done returns a unary call for others to use, and what it has said.
func (s *carryStream) done(u *unaryCall, m *api.CarryResponse) (*api.CarryResponse, error) {
	at := u.at
	unaryCalls.Put(u)
	if m == broken {
		return nil, s.lost(at)
	}
	if m.Error != nil {
		return nil, wire.ErrorFrom(m.Error)
	}
	return m, nil
}

// send queues a message, which leaves if alive says so. At, unless nil, becomes
// where it is among all that were.
func (s *carryStream) send(ctx context.Context, m *api.CarryRequest, alive func() bool, at *int64) error {
	place, ok, err := s.link.Send(ctx, m, link.Claim{Alive: alive, Call: m.GetCall(), First: m.GetScope() != nil})
	switch {
	case err != nil:
		return err
	case !ok:
		s.want() // to see why
		<-s.over
		return s.lost(notPlaced)
	}
	if at != nil {
		*at = place
	}
	return nil
}

// sendCancel ends a call at the other side, which confirms it.
func (s *carryStream) sendCancel(number uint64) {
	s.link.SendNow(&api.CarryRequest{Call: number, Part: &api.CarryRequest_Cancel{Cancel: &api.Cancel{}}})
}
