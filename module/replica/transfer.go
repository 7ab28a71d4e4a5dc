package replica

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// errStalled is the cause of a context that [stallWatch] ended.
var errStalled = errors.New("transfer made no progress")

// stallWatch ends a transfer that no byte has passed through for some time: a
// peer that hangs is no slower noticed the larger the module is.
type stallWatch struct {
	after  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func watchStall(ctx context.Context, after time.Duration) (context.Context, *stallWatch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &stallWatch{
		after: after, cancel: cancel,
		timer: time.AfterFunc(after, func() { cancel(errStalled) }),
	}
}

func (s *stallWatch) stop() {
	s.timer.Stop()
	s.cancel(nil)
}

func (s *stallWatch) reader(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		s.timer.Reset(s.after)
		return r.Read(p)
	})
}

func (s *stallWatch) writer(w io.Writer) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		s.timer.Reset(s.after)
		return w.Write(p)
	})
}

// explain gives the failure of a transfer under ctx, the context of
// watchStall, a code.
func (s *stallWatch) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), errStalled) {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "transfer made no progress for %s", s.after)
	}
	if _, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return err
	}
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "transfer broke off: %w", err)
}

type (
	readerFunc func([]byte) (int, error)
	writerFunc func([]byte) (int, error)
)

func (f readerFunc) Read(p []byte) (int, error)  { return f(p) }
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// contextReader stops reading when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, contextError(c.ctx)
	}
	return c.r.Read(p)
}

func contextError(ctx context.Context) error {
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "module transfer was cut off: %w", ctx.Err()).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}
