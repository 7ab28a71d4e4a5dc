package rpc

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// takeBody reads a small body whole, so that it can be sent twice, and bounds
// the time and size of a larger one.
func (c *call) takeBody(limit int64) error {
	r := c.request
	if r.Method == http.MethodGet || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	deadlines := http.NewResponseController(c.ResponseWriter)
	if c.procedure.stream {
		c.rest = &patientReader{r: r.Body, deadlines: deadlines}
		if c.procedure.refusable {
			c.first = &recorder{r: c.rest}
			c.rest = c.first
		}
		return nil
	}
	// Envelopes and compression may add to the message; Connect enforces the
	// limit itself, on what it decodes.
	if most := limit + maxPart; r.ContentLength > most {
		return bodyError(&http.MaxBytesError{Limit: most})
	}
	body := http.MaxBytesReader(c.ResponseWriter, r.Body, limit+maxPart)
	release := boundReading(deadlines, firstBytesTimeout)
	first, err := readUpTo(body, r.ContentLength, maxKept+1)
	release()
	if err != nil {
		return bodyError(err)
	}
	c.kept = first
	if len(first) <= maxKept {
		return nil
	}
	_ = deadlines.SetReadDeadline(time.Now().Add(restTimeout))
	c.rest = body
	return nil
}

// boundReading ends the reading of a body after d, unless it is released
// before. Most bodies are there at once: for them a timer of our own is cheaper
// than a deadline, which HTTP/2 passes to another goroutine twice a call.
func boundReading(deadlines *http.ResponseController, d time.Duration) (release func()) {
	ended := make(chan struct{})
	t := time.AfterFunc(d, func() {
		defer close(ended)
		_ = deadlines.SetReadDeadline(time.Unix(1, 0)) // not supported in some tests: then there is none
	})
	return func() {
		if !t.Stop() {
			<-ended
			_ = deadlines.SetReadDeadline(time.Time{})
		}
	}
}

// readUpTo reads to the end, but at most limit bytes. Length is what the client
// announced, or negative; it is a hint only.
func readUpTo(r io.Reader, length, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	if length >= 0 {
		// One more than there is, and what Buffer wants, so that it need not grow to see the end.
		buf.Grow(int(min(length, limit)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(r, limit))
	return buf.Bytes(), err
}

// bodyError says why a body could not be read.
func bodyError(err error) *wasmatrix.Error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the request has more than %d bytes", tooLarge.Limit)
	}
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the request's body broke off: %w", err)
}

// whole reports whether the body is kept, so that the call can be made again.
func (c *call) whole() bool { return c.rest == nil }

// again reports whether the body can be read once more from its start.
func (c *call) again() bool { return c.whole() || c.first != nil && !c.first.lost }

// body is a reader of the body from its start. Unless again, it can be read once.
func (c *call) body() io.Reader {
	switch {
	case c.whole():
		return bytes.NewReader(c.kept)
	case c.first != nil:
		return c.first.start()
	}
	return io.MultiReader(bytes.NewReader(c.kept), c.rest)
}

// recorder keeps the beginning of a body while that is about one message, so that
// it can be read once more.
type recorder struct {
	r    io.Reader
	kept []byte
	lost bool // more was read than is kept
}

// maxRecorded has a message with its envelope, in bytes, and what a reader may
// take besides.
const maxRecorded = maxPart + 64<<10

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	switch {
	case r.lost:
	case len(r.kept)+n > maxRecorded:
		r.kept, r.lost = nil, true
	default:
		r.kept = append(r.kept, b[:n]...)
	}
	return n, err
}

// start is a reader from the start, of what is not lost.
func (r *recorder) start() io.Reader {
	return io.MultiReader(bytes.NewReader(slices.Clone(r.kept)), r)
}

// patientReader waits for each piece of a stream, but not for ever.
type patientReader struct {
	r         io.Reader
	deadlines *http.ResponseController
}

func (p *patientReader) Read(b []byte) (int, error) {
	_ = p.deadlines.SetReadDeadline(time.Now().Add(partTimeout))
	return p.r.Read(b)
}
