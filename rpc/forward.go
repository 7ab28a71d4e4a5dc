package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// forwarder has every call executed where it can be: here, or on the leader. It
// passes requests on as they came, whatever their protocol, so that headers,
// codec, deadline, streams and error details arrive untouched; only hop-by-hop
// headers differ. Reads are tried here first, since whether a stale answer will
// do is said in their message; where the handler finds that it will not, its
// NOT_LEADER is taken back and the kept request is passed on. So it is with
// what the leader of a hosted group does, which is said in the message as well.
type forwarder struct {
	leadership  Leadership
	transport   http.RoundTripper
	name        string
	wait        time.Duration // for a leader to be known
	callTimeout time.Duration
	log         hclog.Logger

	mu    sync.Mutex
	pulse chan struct{} // guarded by mu; nil while nobody waits
}

// serve executes a call that came from a client.
func (f *forwarder) serve(c *call) {
	for here := !c.procedure.leader; ; {
		changed := f.leadership.LeaderChanged()
		addr, self, known := f.leadership.Leader()
		var why *wasmatrix.Error
		switch {
		case self || here:
			here = false
			c.redirectable = c.again
			c.here.ServeHTTP(c.exchange, c.local())
			if c.moved == nil {
				return
			}
			why = c.moved
			c.reset()
			if why.Details[detailGroup] != "" {
				// It is another group's leader that can do it. Whom this server takes
				// for that is asked once before it looks again.
				here = true
				if e, again := f.sendTo(c, why.Details[wasmatrix.DetailLeader], why); e == nil {
					return
				} else if !again {
					c.refuse(0, 0, e)
					return
				}
			} else if !self && known {
				continue
			}
		case known && addr != "":
			var again bool
			if why, again = f.send(c.context(), c, addr); why == nil {
				return
			} else if !again {
				c.refuse(0, 0, why)
				return
			}
		default:
			why = leading(f.leadership)
		}
		if !f.pause(c.context(), c, changed, why) {
			return
		}
		if c.timeout > 0 {
			writeTimeout(c.request.Header, time.Until(c.start.Add(c.timeout)))
		}
	}
}

// pause waits for the leadership to change, or a moment for a leader to be ready,
// or answers with why and returns false when the time is up.
func (f *forwarder) pause(ctx context.Context, c *call, changed <-chan struct{}, why *wasmatrix.Error) bool {
	if why == nil { // this server has become the leader meanwhile
		return true
	}
	if time.Since(c.start) > f.wait {
		c.refuse(0, 0, why)
		return false
	}
	select {
	case <-ctx.Done():
		c.refuse(0, 0, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the deadline of the request passed while it waited for a leader: %s", why.Message).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone))
		return false
	case <-changed:
		return true
	case <-f.tick():
		return true
	}
}

// leaderPoll is how often those who wait look again without a change of leader:
// one that was just elected may not be ready, or its address not be known yet.
const leaderPoll = 20 * time.Millisecond

// tick returns a channel that is closed soon: one timer for all who wait.
func (f *forwarder) tick() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pulse == nil {
		pulse := make(chan struct{})
		f.pulse = pulse
		time.AfterFunc(leaderPoll, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.pulse = nil
			close(pulse)
		})
	}
	return f.pulse
}

// sendTo is send where an address is known. Where it is not, nothing was answered
// because of why, and the call may be made again.
func (f *forwarder) sendTo(c *call, addr string, why *wasmatrix.Error) (e *wasmatrix.Error, again bool) {
	if addr == "" {
		return why, true
	}
	return f.send(c.context(), c, addr)
}

// send passes the call to the leader at addr and its answer back. An error says
// that nothing was answered, and whether the call may be made again: nothing
// happened, or it is a read.
func (f *forwarder) send(ctx context.Context, c *call, addr string) (e *wasmatrix.Error, again bool) {
	if ctx.Err() != nil {
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the deadline of the request passed").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone), false
	}
	body := &watchedBody{Reader: c.body()}
	res, err := f.transport.RoundTrip(f.request(ctx, c, addr, body))
	if err != nil {
		if e := body.failure(); e != nil {
			return e, false
		}
		e := wire.FromConnect(err)
		f.log.Debug("forwarding failed", "procedure", c.request.URL.Path, "leader", addr, "error", err)
		untouched := c.whole() || !body.touched.Load()
		again := e.Code == wasmatrix.CodeCommunication && untouched && (wire.NotSent(err) || !c.procedure.leader)
		return wasmatrix.Errorf(e.Code, "forwarding to the leader at %s: %w", addr, err).
			With(wasmatrix.DetailOutcome, e.Details[wasmatrix.DetailOutcome]), again
	}
	defer res.Body.Close()
	code := wasmatrix.Code(res.Header.Get(wire.HeaderCode))
	if (code == wasmatrix.CodeNotLeader || code == wasmatrix.CodeNoLeader) && c.whole() {
		return wasmatrix.Errorf(code, "the server at %s does not lead", addr), true
	}
	return f.answer(c, addr, res)
}

// request makes the outgoing request.
func (f *forwarder) request(ctx context.Context, c *call, addr string, body *watchedBody) *http.Request {
	in := c.request
	out := &http.Request{
		Method: in.Method,
		URL:    &url.URL{Scheme: "http", Host: addr, Path: in.URL.Path, RawPath: in.URL.RawPath, RawQuery: in.URL.RawQuery},
		Host:   addr,
		Header: in.Header.Clone(),
	}
	removeHopByHop(out.Header)
	if slices.Contains(in.Header["Te"], "trailers") {
		out.Header.Set("Te", "trailers")
	}
	out.Header.Set(wire.HeaderForwarded, f.name+" ") // never empty
	if in.Method != http.MethodGet {
		out.Body = io.NopCloser(body)
		out.ContentLength = in.ContentLength
		if c.whole() {
			out.ContentLength = int64(len(c.kept))
			out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.kept)), nil }
		}
	}
	return out.WithContext(ctx)
}

// watchedBody knows whether anything of a body was read, and whether the client
// broke it off.
type watchedBody struct {
	io.Reader
	touched atomic.Bool
	broken  atomic.Pointer[error]
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.touched.Store(true)
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.broken.Store(&err)
	}
	return n, err
}

// failure is that of the client, nil if it has none.
func (b *watchedBody) failure() *wasmatrix.Error {
	if err := b.broken.Load(); err != nil {
		return bodyError(*err)
	}
	return nil
}

// maxWholeAnswer bounds an answer that is read to its end before anything of it
// is passed on, in bytes, so that a leader that dies in between leaves an error
// with a detail rather than half an answer.
const maxWholeAnswer = 1 << 20

// answer passes the leader's answer on.
func (f *forwarder) answer(c *call, addr string, res *http.Response) (*wasmatrix.Error, bool) {
	var first []byte
	var err error
	if !c.procedure.answers {
		first, err = io.ReadAll(io.LimitReader(res.Body, maxWholeAnswer))
		if err != nil {
			e := wasmatrix.Errorf(wasmatrix.CodeCommunication, "the leader at %s broke off: %w", addr, err).
				With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
			return e, c.whole() && !c.procedure.leader
		}
	}
	h := c.Header()
	maps.Copy(h, res.Header)
	removeHopByHop(h)
	h.Set(wire.HeaderLeader, addr)
	c.coded = true // by the leader
	c.WriteHeader(res.StatusCode)
	_, err = c.Write(first)
	if err == nil && (c.procedure.answers || len(first) == maxWholeAnswer) {
		err = copyFlushing(c.exchange, res.Body)
	}
	if err != nil {
		// Half an answer was sent: only an aborted connection says so.
		f.log.Debug("an answer of the leader broke off", "procedure", c.request.URL.Path, "leader", addr, "error", err)
		panic(http.ErrAbortHandler)
	}
	c.Flush() // or net/http may forget trailers that follow no body
	for name, values := range res.Trailer {
		h[http.TrailerPrefix+name] = values
	}
	return nil, false
}

// copyFlushing copies a stream and passes each piece on at once.
func copyFlushing(x *exchange, r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := x.Write(buf[:n]); err != nil {
				return err
			}
			x.Flush()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// hopByHop headers concern one connection only.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Expect", // was answered here
}

func removeHopByHop(h http.Header) {
	for _, name := range hopByHop {
		h.Del(name)
	}
}
