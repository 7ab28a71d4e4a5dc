package client

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// The envelope of a message of a stream, as the protocol of Connect has it: a byte
// of flags and the length, big-endian.
const (
	envelopeSize = 5
	flagEnd      = 0b10 // the end of the stream, in JSON
)

const (
	// maxOutbox bounds what waits to be sent on a stream, in bytes: calls wait while
	// there is more.
	maxOutbox = 4 << 20
	// maxSpare is what an empty outbox keeps for what comes next.
	maxSpare = 256 << 10
	// minCompacted is what must have been read for the rest to be moved in its place.
	minCompacted = 64 << 10
)

// outbox is the body of a request that never ends: what is put in is read in
// order. One Read gives all that waits, as far as there is room for it, so that
// under load many messages leave together. Those that whoever put them in may not
// send any more, when their turn comes, are dropped.
type outbox struct {
	dropped func(*api.CarryResponse) // is told what a message that was dropped is answered with

	mu     sync.Mutex
	filled sync.Cond // of mu; when something was put in, or it was closed

	buf    []byte        // guarded by mu; what waits begins at read
	read   int           // guarded by mu
	gone   int64         // guarded by mu; bytes that were read in all
	claims []claim       // guarded by mu; of messages that were not read whole, in order
	closed bool          // guarded by mu
	room   chan struct{} // guarded by mu; closed when there is room again, nil while nobody waits
}

// claim is the right to send a message, which may lapse.
type claim struct {
	from, to int64 // where the message is among all bytes
	call     uint64
	first    bool // message of the call
	alive    func() bool
}

// answer is what the message is answered with if it is dropped. Without its first
// message a call has not begun; a later one fails alone.
func (c *claim) answer() *api.CarryResponse {
	e := wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this process may not act for the instance any more, and has not").
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	return &api.CarryResponse{Call: c.call, End: c.first, Error: wire.ErrorTo(e)}
}

func newOutbox(dropped func(*api.CarryResponse)) *outbox {
	o := &outbox{dropped: dropped}
	o.filled.L = &o.mu
	return o
}

// errTooLarge and errNotText are what a message cannot have.
func errTooLarge(size int) error {
	return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the call has %d bytes, at most %d can be carried", size, wire.MaxCarry).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

func errNotText(err error) error {
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the call has what is not UTF-8: %w", err).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// put encodes a message into the outbox and returns where it is among all bytes
// that ever were. It waits while too much is in there. It reports false once the
// outbox is closed. Alive is asked when the message is to leave; nil is always.
func (o *outbox) put(ctx context.Context, m *api.CarryRequest, alive func() bool) (at int64, ok bool, err error) {
	o.mu.Lock()
	for len(o.buf)-o.read >= maxOutbox && !o.closed {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return 0, true, refused(ctx)
		}
		o.mu.Lock()
	}
	defer o.mu.Unlock()
	at, ok, err = o.encode(m)
	if ok && err == nil && alive != nil {
		end := o.gone + int64(len(o.buf)-o.read)
		o.claims = append(o.claims, claim{from: at, to: end, call: m.GetCall(), first: m.GetScope() != nil, alive: alive})
	}
	return at, ok, err
}

// putNow is put for a small message of a call under way. It does not wait, and can
// fail only as the stream does, which ends the call.
func (o *outbox) putNow(m proto.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _, _ = o.encode(m)
}

// encode is the last of put. Call it with mu held.
func (o *outbox) encode(m proto.Message) (at int64, ok bool, err error) {
	if o.closed {
		return 0, false, nil
	}
	start := len(o.buf)
	buf := slices.Grow(o.buf, envelopeSize)[:start+envelopeSize]
	buf[start] = 0
	buf, err = proto.MarshalOptions{}.MarshalAppend(buf, m)
	size := len(buf) - start - envelopeSize
	switch {
	case err != nil:
		return 0, true, errNotText(err)
	case size > wire.MaxCarry:
		return 0, true, errTooLarge(size)
	}
	binary.BigEndian.PutUint32(buf[start+1:], uint32(size))
	o.buf = buf
	o.filled.Signal()
	return o.gone + int64(start-o.read), true, nil
}

// Read implements [io.Reader] for the transport, which has one goroutine for it.
func (o *outbox) Read(p []byte) (int, error) {
	for {
		n, dropped, err := o.take(p)
		for _, answer := range dropped {
			o.dropped(answer)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// take waits for messages and copies them, leaving out what may not be sent.
func (o *outbox) take(p []byte) (n int, dropped []*api.CarryResponse, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.read == len(o.buf) && !o.closed {
		o.filled.Wait()
	}
	if o.closed {
		return 0, nil, context.Canceled
	}
	for n < len(p) && o.read < len(o.buf) {
		size, drop := o.next()
		if drop {
			dropped = append(dropped, o.claims[0].answer())
		} else {
			size = copy(p[n:], o.buf[o.read:o.read+size])
			n += size
		}
		o.read += size
		o.gone += int64(size)
		if len(o.claims) > 0 && o.gone == o.claims[0].to {
			o.claims = o.claims[1:]
		}
	}
	o.compact()
	return n, dropped, nil
}

// next returns how many of the bytes that are next can be treated alike, and
// whether they are to be dropped. Call it with mu held.
func (o *outbox) next() (size int, drop bool) {
	if len(o.claims) == 0 {
		return len(o.buf) - o.read, false
	}
	c := &o.claims[0]
	if o.gone < c.from {
		return int(c.from - o.gone), false
	}
	// What was begun must be ended.
	return int(c.to - o.gone), o.gone == c.from && !c.alive()
}

// compact gives back the room of what was read. Call it with mu held.
func (o *outbox) compact() {
	switch {
	case o.read < len(o.buf) && o.read < minCompacted:
	case o.read < len(o.buf)/2:
	case o.read < len(o.buf):
		o.buf, o.read = o.buf[:copy(o.buf, o.buf[o.read:])], 0
	case cap(o.buf) > maxSpare:
		o.buf, o.read = nil, 0
	default:
		o.buf, o.read = o.buf[:0], 0
	}
	if o.room != nil && len(o.buf)-o.read < maxOutbox {
		close(o.room)
		o.room = nil
	}
}

// Close implements [io.Closer]: for the transport when it sends no more, and for
// us when nothing will come.
func (o *outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.filled.Broadcast()
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
	return nil
}

// sent reports whether anything of what was put in at a place was read since.
func (o *outbox) sent(at int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone > at
}
