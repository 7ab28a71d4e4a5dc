package link

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
	"github.com/wasmatrix/wasmatrix/socket"
)

// How it is seen that the other side is gone, which a connection does not tell of a
// machine that is cut off or a process that is paused. The side that has connected
// asks, when it has heard nothing for beat; it gives up after silences of them, and
// the other side, which hears its questions, after more. Beats are counted by this
// process's own timer: one that was itself paused does not blame the other.
const (
	beat             = time.Second
	silences         = 4
	silencesAccepted = 10
)

// lingering is how long a link that has ended may take to be closed by the other
// side, which reads until then what is on its way.
const lingering = time.Second

// bufferSize is how much is read at a time, in bytes.
const bufferSize = 64 << 10

// Link is one side of a connection. Send may be called by any goroutine, Receive by one
// at a time. Close it.
type Link struct {
	out *outbox

	conn   net.Conn // nil before it is connected
	frames frameReader

	heard    atomic.Bool // since the last beat
	silent   int         // beats in a row without anything heard; the timer's
	asks     bool        // this side sends pings
	patience int         // how many silent beats are too many

	mu    sync.Mutex
	timer *time.Timer // guarded by mu
	why   error       // guarded by mu; why it was broken from this side
}

// New makes a link that is not connected yet: what is sent waits. Dropped is told of
// messages whose claims have lapsed. It must not call the link.
func New(dropped func(Claim)) *Link {
	l := &Link{asks: true, patience: silences}
	l.out = newOutbox(dropped, l.fail)
	return l
}

// start begins to use a connection, of which some bytes may have been read already.
func (l *Link) start(conn net.Conn, r io.Reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	l.frames.r = bufio.NewReaderSize(&hearing{r, &l.heard}, bufferSize)
	l.timer = time.AfterFunc(beat, l.beat)
	if l.why != nil {
		_ = conn.Close()
		l.timer.Stop()
	}
}

// attach has sent what waits.
func (l *Link) attach() {
	l.out.attach(socket.NewWriter(l.conn), func(bounded bool) {
		var t time.Time
		if bounded {
			t = time.Now().Add(writeTimeout)
		}
		_ = l.conn.SetWriteDeadline(t) // of a connection that is closed
	})
}

// hearing takes note that something was read.
type hearing struct {
	r     io.Reader
	heard *atomic.Bool
}

func (h *hearing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 && !h.heard.Load() {
		h.heard.Store(true)
	}
	return n, err
}

// beat runs on the timer, one at a time.
func (l *Link) beat() {
	if l.silent++; l.heard.Swap(false) {
		l.silent = 0
	}
	switch {
	case l.silent >= l.patience:
		l.fail(wasmatrix.Errorf(wasmatrix.CodeCommunication, "nothing was heard of the other side for %s", time.Duration(l.silent)*beat))
	case l.silent > 0 && l.asks:
		_ = l.out.putNow(flagPing, nil) // has nothing that could not be encoded
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.timer.Reset(beat)
	}
}

// fail breaks the link from this side.
func (l *Link) fail(why error) {
	l.mu.Lock()
	if l.why == nil {
		l.why = why
	}
	conn := l.conn
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.out.shut()
	if conn != nil {
		_ = conn.Close() // ends those that read and write
	}
}

// Send queues a message, and returns where it is among all that were. The message
// leaves if the claim says so when its turn comes. It waits while too much is queued,
// no longer than ctx: TIMEOUT. What cannot be encoded is INVALID_REQUEST, what is too
// large RESOURCE_EXHAUSTED; outcome is none with all of them. Ok is false, and err
// nil, where the link is broken, which Receive tells.
func (l *Link) Send(ctx context.Context, m proto.Message, c Claim) (at int64, ok bool, err error) {
	return l.out.put(ctx, m, c)
}

// SendNow is Send of what is small, has no claim and does not wait. It does nothing
// where the link is broken.
func (l *Link) SendNow(m proto.Message) { _ = l.out.putNow(flagMessage, m) }

// Sent reports whether anything of the message at a place may have left.
func (l *Link) Sent(at int64) bool { return l.out.sent(at) }

// Receive reads the next message into m. An error is the end: io.EOF where the other
// side has ended well, what it said of its end, or why the link broke.
func (l *Link) Receive(m proto.Message) error {
	for {
		flags, b, err := l.frames.next()
		if err != nil {
			return l.broken(err)
		}
		switch flags {
		case flagPing:
			_ = l.out.putNow(flagPong, nil) // has nothing that could not be encoded
		case flagPong:
		case flagEnd:
			e := new(api.Error)
			if err := proto.Unmarshal(b, e); err != nil {
				return unreadable(err)
			}
			if e.GetCode() == "" {
				return io.EOF
			}
			return wire.ErrorFrom(e)
		default:
			if err := proto.Unmarshal(b, m); err != nil {
				return unreadable(err)
			}
			return nil
		}
	}
}

func unreadable(err error) error {
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a message that cannot be read: %w", err)
}

// broken is why reading failed.
func (l *Link) broken(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		return l.why
	}
	return err
}

// Interrupt ends Receive with [os.ErrDeadlineExceeded], now and later, and lets sending
// go on.
func (l *Link) Interrupt() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) }

// Resume ends Interrupt. Receive goes on where it was, if in the middle of a message.
func (l *Link) Resume() { _ = l.conn.SetReadDeadline(time.Time{}) }

// End has everything sent that was queued, tells the other side why this is the end,
// nil where all is well, and closes the link. Nobody may send or receive any more.
func (l *Link) End(why error) {
	e := new(api.Error)
	if why != nil {
		e = wire.ErrorTo(wire.Coded(why))
	}
	if l.out.putNow(flagEnd, e) == nil {
		l.out.flushed()
	}
	// A connection that is closed with something unread takes back what it has sent.
	if c, ok := l.conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		_ = l.conn.SetReadDeadline(time.Now().Add(lingering))
		_, _ = io.Copy(io.Discard, l.conn)
	}
	l.Close()
}

// errClosed is why a link is broken that was closed.
var errClosed = errors.New("the connection is closed")

// Close breaks the link, unless it is broken, and returns when nothing is being sent.
// It may be called several times, and before the link is connected.
func (l *Link) Close() {
	l.fail(errClosed)
	l.out.flushed()
}
