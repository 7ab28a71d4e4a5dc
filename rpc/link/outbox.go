package link

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
)

const (
	// maxOutbox bounds what waits to be sent, in bytes: who sends waits while there
	// is more.
	maxOutbox = 4 << 20
	// maxSpare is what an empty outbox keeps for what comes next.
	maxSpare = 256 << 10
	// minCompacted is what must have been sent for the rest to be moved in its place.
	minCompacted = 64 << 10
	// maxWrite is about how much one system call is given.
	maxWrite = 64 << 10
	// writeTimeout is how long the other side may take nothing.
	writeTimeout = 10 * time.Second
)

// Claim is the right to send a message, which may lapse.
type Claim struct {
	Alive func() bool // reports whether it has not; nil is always
	Call  uint64      // of the message, for who is told that it was dropped
	First bool        // message of its call

	from, to int64 // where the message is among all bytes
}

// writer sends what a connection takes, as [socket.Writer] does.
type writer interface {
	Some(p []byte, wait bool) (int, error)
}

// outbox is what is sent. Who puts a message in sends it at once where nobody else
// is sending, and otherwise leaves that to them, so that under load many messages
// leave together. Messages leave in order and whole; those that may not be sent,
// when their turn comes, are dropped.
type outbox struct {
	dropped func(Claim) // is told of them
	failed  func(error) // is told, once, why nothing can be sent any more

	mu      sync.Mutex
	idle    sync.Cond     // of mu; when sending has become false
	writer  writer        // guarded by mu until attached, then by sending
	stalls  func(bool)    // bounds the time of a write, or does so no more
	sending bool          // guarded by mu; somebody sends, or there is no connection yet
	buf     []byte        // guarded by mu; what waits begins at read
	read    int           // guarded by mu
	gone    int64         // guarded by mu; bytes that were sent or dropped in all
	claims  []Claim       // guarded by mu; of messages that have not left whole, in order
	closed  bool          // guarded by mu
	room    chan struct{} // guarded by mu; closed when there is room again, nil while nobody waits
}

func newOutbox(dropped func(Claim), failed func(error)) *outbox {
	o := &outbox{dropped: dropped, failed: failed, sending: true}
	o.idle.L = &o.mu
	return o
}

// attach gives the outbox its connection, and has sent what waits for it.
func (o *outbox) attach(w writer, stalls func(bool)) {
	o.mu.Lock()
	o.writer, o.stalls = w, stalls
	o.mu.Unlock()
	o.send()
}

// put encodes a message into the outbox and returns where it is among all bytes
// that ever were. It waits while too much is in there. It reports false once the
// outbox is closed.
func (o *outbox) put(ctx context.Context, m proto.Message, c Claim) (at int64, ok bool, err error) {
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
			return 0, true, NotBegun(ctx)
		}
		o.mu.Lock()
	}
	return o.putLocked(flagMessage, m, c)
}

// NotBegun is why a call did not begin whose context has ended: TIMEOUT, with outcome
// none.
func NotBegun(ctx context.Context) error {
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the call was not begun: %w", context.Cause(ctx)).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// putNow is put for what is small and cannot wait.
func (o *outbox) putNow(flags byte, m proto.Message) error {
	o.mu.Lock()
	_, _, err := o.putLocked(flags, m, Claim{})
	return err
}

// putLocked is the rest of put. Call it with mu held, which it releases.
func (o *outbox) putLocked(flags byte, m proto.Message, c Claim) (at int64, ok bool, err error) {
	if o.closed {
		o.mu.Unlock()
		return 0, false, nil
	}
	at = o.gone + int64(len(o.buf)-o.read)
	if o.buf, err = appendFrame(o.buf, flags, m); err != nil {
		o.mu.Unlock()
		return 0, true, err
	}
	if c.Alive != nil {
		c.from, c.to = at, o.gone+int64(len(o.buf)-o.read)
		o.claims = append(o.claims, c)
	}
	sending := o.sending
	o.sending = true
	o.mu.Unlock()
	if !sending {
		o.send()
	}
	return at, true, nil
}

// send sends what waits, without waiting for the other side: if it takes no more,
// or others go on adding, the rest is for a goroutine. Call it with sending set.
func (o *outbox) send() {
	if o.round(false) {
		go func() {
			o.stalls(true)
			for o.round(true) {
				o.stalls(true)
			}
		}()
	}
}

// round makes one system call, and returns whether another is to be made.
func (o *outbox) round(wait bool) (more bool) {
	o.mu.Lock()
	p, dropped := o.ready()
	o.mu.Unlock()
	for _, c := range dropped {
		o.dropped(c)
	}
	var n int
	var err error
	if len(p) > 0 {
		n, err = o.writer.Some(p, wait)
	}
	o.mu.Lock()
	o.advance(n)
	if err != nil {
		o.close()
	}
	more = !o.closed && o.read < len(o.buf)
	if !more && wait {
		o.stalls(false) // before another may send
	}
	o.sending = more
	if !more {
		o.idle.Broadcast()
	}
	o.mu.Unlock()
	if err != nil {
		o.failed(err)
	}
	return more
}

// ready returns what may leave next, and drops what may not. What it returns is
// good until advance. Call it with mu held.
func (o *outbox) ready() (p []byte, dropped []Claim) {
	end, next := o.read, 0
	for end < len(o.buf) && end-o.read < maxWrite && !o.closed {
		at := o.gone + int64(end-o.read)
		for next < len(o.claims) && o.claims[next].to <= at {
			next++
		}
		if next == len(o.claims) {
			end = len(o.buf)
			break
		}
		c := o.claims[next]
		switch {
		case at < c.from:
			end += int(c.from - at)
		case at > c.from || c.Alive(): // what was begun must be ended
			end += int(c.to - at)
		case end > o.read:
			return o.buf[o.read:end], dropped // it is asked again when it is the first
		default:
			dropped = append(dropped, c)
			o.advance(int(c.to - at))
			end, next = o.read, 0
		}
	}
	return o.buf[o.read:end], dropped
}

// advance takes away what was sent or dropped. Call it with mu held.
func (o *outbox) advance(n int) {
	o.read += n
	o.gone += int64(n)
	done := 0
	for done < len(o.claims) && o.claims[done].to <= o.gone {
		done++
	}
	if done == len(o.claims) {
		clear(o.claims)
		o.claims = o.claims[:0]
	} else {
		o.claims = o.claims[done:]
	}
	o.compact()
}

// compact gives back the room of what is gone. Call it with mu held.
func (o *outbox) compact() {
	switch {
	case o.read < len(o.buf) && (o.read < minCompacted || o.read < len(o.buf)/2):
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

// shut ends the outbox: nothing more is taken or sent.
func (o *outbox) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.close()
}

// close is shut with mu held.
func (o *outbox) close() {
	o.closed = true
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
	o.idle.Broadcast()
}

// flushed returns when everything was sent, or nothing will be any more.
func (o *outbox) flushed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.sending && o.writer != nil {
		o.idle.Wait()
	}
}

// sent reports whether anything of what was put in at a place has left since.
func (o *outbox) sent(at int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone > at
}
