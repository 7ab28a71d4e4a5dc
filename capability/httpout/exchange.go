package httpout

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// exchange implements [capability.Exchange]. The first Write starts a goroutine
// that makes the request, with its redirects; it is fed through a stream and ends
// with the response's header. Without a body Response itself makes the request.
type exchange struct {
	p      *Provider
	pool   *pool
	scope  *capability.Scope
	method string
	to     *target
	header *header
	body   *stream

	ctx    context.Context // ends with the exchange
	cancel context.CancelCauseFunc
	stop   context.CancelFunc // of the timer

	// Of the goroutine that calls the methods.
	started  bool
	complete bool // the body is
	written  int64
	received int64
	eof      bool
	failed   error // what each further call returns

	done   chan struct{} // closed when the response is there, or will not be
	outset atomic.Bool   // a connection was found: something may have been sent

	over   sync.Once
	mu     sync.Mutex
	unhook func() bool // what calls finish when ctx ends; nil before
	// Set before done is closed.
	response *http.Response
	answer   *capability.Response
	err      error
	closed   bool // the response's body is to be closed by whoever sets it
}

func newExchange(p *Provider, s *capability.Scope, method string, to *target, h *header) *exchange {
	return &exchange{p: p, scope: s, method: method, to: to, header: h, body: newStream(), done: make(chan struct{})}
}

func (x *exchange) begin(ctx context.Context, timeout time.Duration) {
	ctx, x.cancel = context.WithCancelCause(ctx)
	x.ctx, x.stop = context.WithTimeoutCause(ctx, timeout, errTimeout)
}

// watch has the end of the context finish the exchange.
func (x *exchange) watch() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unhook = x.whenOver(x.finish)
}

// whenOver has f run when the context has ended, unless undone before.
func (x *exchange) whenOver(f func()) (undo func() bool) { return context.AfterFunc(x.ctx, f) }

// alive asks the scope alone.
func (x *exchange) alive() bool { return x.scope.Alive == nil || x.scope.Alive() }

// check is at the beginning of each method.
func (x *exchange) check() error {
	switch {
	case x.failed != nil:
		return x.failed
	case x.eof:
		return nil
	case x.ctx.Err() != nil:
		return x.fail(ended(x.ctx))
	case !x.p.alive() || !x.alive():
		return x.fail(errLapsed)
	}
	return nil
}

// fail ends the exchange, by err or what ended its context before.
func (x *exchange) fail(err error) error {
	if x.failed != nil {
		return x.failed
	}
	e := exchangeFailure(err)
	if x.ctx.Err() != nil {
		e = ended(x.ctx)
	}
	switch e.Code {
	case wasmatrix.CodeTimeout, wasmatrix.CodeCommunication, wasmatrix.CodeProviderUnavailable:
		if x.outset.Load() {
			e = e.With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
		}
	default:
	}
	x.failed = e
	x.cancel(e)
	if errors.Is(err, errLapsed) {
		x.pool.expire()
	}
	x.finish()
	return e
}

// finish lets go of everything. It runs when the context has ended, or before.
func (x *exchange) finish() {
	x.over.Do(func() {
		x.mu.Lock()
		x.closed = true
		response, unhook := x.response, x.unhook
		x.mu.Unlock()
		if unhook != nil {
			unhook()
		}
		x.cancel(errClosed)
		x.stop()
		x.body.end(errClosed)
		if response != nil {
			_ = response.Body.Close()
		}
		x.p.leave(x)
	})
}

// Close implements [capability.Exchange].
func (x *exchange) Close() error {
	x.cancel(errClosed)
	x.finish()
	return nil
}

// Write implements [capability.Exchange]. It returns when net/http has taken all
// of p; what the server did not wait for, having answered, counts as taken.
func (x *exchange) Write(p []byte) (int, error) {
	if err := x.check(); err != nil {
		return 0, err
	}
	switch n := x.written + int64(len(p)); {
	case x.complete || x.eof:
		return 0, errEnded
	case len(p) == 0:
		return 0, nil
	case n > x.p.config.MaxRequest:
		return 0, x.fail(x.p.tooLarge())
	case x.header.length >= 0 && n > x.header.length:
		return 0, x.fail(errLong)
	}
	if !x.started {
		if !x.p.begin() {
			return 0, x.fail(errStopped)
		}
		x.started = true
		go func() {
			defer x.p.running.Done()
			x.run(true)
		}()
	}
	n, err := x.body.write(p)
	x.written += int64(n)
	if err != nil {
		return n, x.fail(err)
	}
	return n, nil
}

// Response implements [capability.Exchange].
func (x *exchange) Response() (*capability.Response, error) {
	if x.complete && x.answered() && x.err == nil && x.failed == nil {
		return x.answer, nil
	}
	if err := x.check(); err != nil {
		return nil, err
	}
	if x.header.length >= 0 && x.written < x.header.length && !x.answered() {
		return nil, x.fail(errShort)
	}
	x.complete = true
	x.body.finish()
	if !x.started {
		x.started = true
		x.run(false)
	}
	<-x.done
	if x.err != nil {
		return nil, x.fail(x.err)
	}
	return x.answer, nil
}

// Read implements [capability.Exchange].
func (x *exchange) Read(p []byte) (int, error) {
	if x.eof {
		return 0, io.EOF
	}
	if _, err := x.Response(); err != nil {
		return 0, err
	}
	if err := x.check(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	left := x.p.config.MaxResponse - x.received
	if left <= 0 {
		p = make([]byte, 1) // whether this is the end
	} else if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := x.response.Body.Read(p)
	if n > 0 && left <= 0 {
		return 0, x.fail(x.p.tooLong())
	}
	x.received += int64(n)
	switch {
	case err == nil, n > 0: // an error comes again
		return n, nil
	case errors.Is(err, io.EOF) && x.ctx.Err() == nil:
		x.eof = true
		x.finish()
		return 0, io.EOF
	}
	return 0, x.fail(err)
}

func (p *Provider) tooLong() error {
	return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the body of the response has more than %d bytes", p.config.MaxResponse)
}

// answered reports whether the response is there already.
func (x *exchange) answered() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}
