package client

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carryStream is one stream of a carrier. It speaks the protocol of Connect for
// streams itself, so that messages leave together, and arrive without a copy:
// Connect's own client sends each by itself and hands it from goroutine to
// goroutine once more.
type carryStream struct {
	carrier *Carrier
	out     *outbox
	cancel  context.CancelFunc
	over    chan struct{} // closed when nothing comes any more

	mu      sync.Mutex
	calls   map[uint64]receiver // guarded by mu; nil once it is broken
	last    uint64              // guarded by mu; number that was given
	short   int                 // guarded by mu; unary calls in calls
	waiting []chan struct{}     // guarded by mu; unary calls that may begin when others have ended
	why     *wasmatrix.Error    // guarded by mu; why it broke
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
	at     int64                   // where its message is in the outbox
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

// notPlaced is the place of a call whose first message was not put into the outbox.
const notPlaced = int64(1<<63 - 1)

func openCarry(c *Carrier) *carryStream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &carryStream{carrier: c, cancel: cancel, over: make(chan struct{}), calls: make(map[uint64]receiver)}
	s.out = newOutbox(func(answer *api.CarryResponse) { s.pass(answer) })
	go s.run(ctx)
	return s
}

func (s *carryStream) isBroken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls == nil
}

// end breaks the stream.
func (s *carryStream) end() {
	s.cancel()
	// Until the transport is done with the body it does not look at the context.
	_ = s.out.Close()
}

// run receives until the stream breaks, and then ends the calls that are left.
func (s *carryStream) run(ctx context.Context) {
	defer close(s.over)
	err := s.receive(ctx)
	s.end()
	e := wire.FromConnect(err)
	s.mu.Lock()
	left := s.calls
	s.calls, s.why = nil, e
	for _, w := range s.waiting {
		close(w)
	}
	s.waiting = nil
	s.mu.Unlock()
	for _, call := range left {
		call.receive(broken)
	}
}

// lost is the error of a call that was put into the outbox at a place when the
// stream broke. Call it once that has.
func (s *carryStream) lost(at int64) *wasmatrix.Error {
	outcome := wasmatrix.OutcomeNone
	if s.out.sent(at) {
		outcome = wasmatrix.OutcomeUnknown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.carrier.unavailable(outcome, "the connection to %s, which carries out the call, failed: %w", s.carrier.addr, s.why)
}

// receive opens the stream and passes on what comes. The error is never nil.
func (s *carryStream) receive(ctx context.Context) error {
	req := &http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Scheme: "http", Host: s.carrier.addr, Path: apiconnect.ProviderCallServiceCarryProcedure},
		Host:   s.carrier.addr,
		Header: http.Header{
			"Content-Type": {"application/connect+proto"}, "Connect-Protocol-Version": {"1"}, "User-Agent": {"wasmatrix/" + wasmatrix.Version},
		},
		Body: s.out, ContentLength: -1,
	}
	res, err := s.carrier.http.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/connect+proto" {
		return fmt.Errorf("it answered with status %d and content type %q", res.StatusCode, res.Header.Get("Content-Type"))
	}
	r := bufio.NewReaderSize(res.Body, 64<<10)
	var large []byte
	for {
		head, err := r.Peek(envelopeSize)
		if err != nil {
			return broke(err)
		}
		flags, size := head[0], int(binary.BigEndian.Uint32(head[1:]))
		if flags&^flagEnd != 0 || size > wire.MaxCarry {
			return fmt.Errorf("it sent a message of flags %x and %d bytes", flags, size)
		}
		_, _ = r.Discard(envelopeSize)
		var b []byte
		if size <= r.Size() {
			b, err = r.Peek(size)
		} else {
			if cap(large) < size {
				large = make([]byte, size)
			}
			b = large[:size]
			_, err = io.ReadFull(r, b)
		}
		if err != nil {
			return broke(err)
		}
		if flags == flagEnd {
			return endOfStream(b)
		}
		m := new(api.CarryResponse)
		if err := proto.Unmarshal(b, m); err != nil {
			return fmt.Errorf("it sent a message that cannot be read: %w", err)
		}
		if size <= r.Size() {
			_, _ = r.Discard(size)
		}
		if !s.pass(m) {
			return fmt.Errorf("it sent a message for call %d that it should not have", m.GetCall())
		}
	}
}

func broke(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
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
	if _, unary := call.(*unaryCall); !unary {
		return
	}
	s.short--
	s.wake()
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
			return nil, refused(ctx)
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
// where it is in the outbox.
func (s *carryStream) send(ctx context.Context, m *api.CarryRequest, alive func() bool, at *int64) error {
	place, ok, err := s.out.put(ctx, m, alive)
	switch {
	case err != nil:
		return err
	case !ok:
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
	s.out.putNow(&api.CarryRequest{Call: number, Part: &api.CarryRequest_Cancel{Cancel: &api.Cancel{}}})
}

// endOfStream reads why a stream was ended.
func endOfStream(b []byte) error {
	var end struct {
		Error *struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Details []struct {
				Type  string `json:"type"`
				Value string `json:"value"`
			} `json:"details"`
		} `json:"error"`
	}
	if err := json.Unmarshal(b, &end); err != nil {
		return fmt.Errorf("it ended the stream with what cannot be read: %w", err)
	}
	if end.Error == nil {
		return errors.New("it ended the stream")
	}
	for _, d := range end.Error.Details {
		m := new(api.Error)
		if raw, err := base64.RawStdEncoding.DecodeString(d.Value); err == nil && d.Type == string(m.ProtoReflect().Descriptor().FullName()) && proto.Unmarshal(raw, m) == nil {
			return wire.ErrorFrom(m)
		}
	}
	return fmt.Errorf("it ended the stream: %s: %s", end.Error.Code, end.Error.Message)
}
