// Package wasmatrix is what guests of wasmatrix that are written in Go have of
// their host: input and output of invocations here, and kv, http and messaging
// in the packages below, each under the ID of a capability that the instance was
// given.
//
// Guests are built for wasip1:
//
//	GOOS=wasip1 GOARCH=wasm go build -o command.wasm .
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o reactor.wasm .
//
// A guest has one thread: while it waits for the host, none of its goroutines
// executes. The functions may be called by several goroutines. On other
// platforms the packages compile, and everything fails with ErrUnsupported, so that
// the rest of a guest can be tested anywhere.
package wasmatrix

import "github.com/wasmatrix/wasmatrix/sdk/go/internal/host"

// Error is a call of the host that failed. errors.Is tells its code.
type Error = host.Error

// Code is the kind of an [Error], and an error by itself.
type Code = host.Code //nolint:errname // the number of an Error

// The codes.
const (
	ErrBounds      = host.ErrBounds   // memory beyond the guest's own was named
	ErrTooLarge    = host.ErrTooLarge // more than the host takes
	ErrNoCall      = host.ErrNoCall   // no invocation of bytes is under way
	ErrDenied      = host.ErrDenied   // no such capability, or its permissions do not allow it
	ErrNotFound    = host.ErrNotFound // no such key
	ErrConflict    = host.ErrConflict // the revision is not the one expected
	ErrInvalid     = host.ErrInvalid  // an argument is malformed
	ErrUnavailable = host.ErrUnavailable
	ErrLimit       = host.ErrLimit // a limit or quota was reached
	ErrTimeout     = host.ErrTimeout
	ErrHandle      = host.ErrHandle // what was closed already
	ErrFailed      = host.ErrFailed // the other side failed
	ErrUnsupported = host.ErrUnsupported
)

// Unknown reports whether a write that failed with err may have had its effect, or
// may still have it.
func Unknown(err error) bool { return host.Unknown(err) }

// Version is that of the host's contract, 0 where there is no host. Guests that
// use these packages need 2.
func Version() int { return int(host.Version()) }

// Input is what the invocation under way was given; nil if there is none.
func Input() ([]byte, error) {
	n := host.InputLen()
	if n == 0 {
		return nil, nil
	}
	in := make([]byte, n)
	ptr, size := host.Bytes(in)
	got, err := host.Check(host.InputRead(0, ptr, size))
	return in[:got], err
}

// Output writes what the invocation under way returns.
var Output output

type output struct{}

// Write appends to the output. It implements [io.Writer].
func (output) Write(p []byte) (int, error) {
	if _, err := host.Check(host.OutputWrite(host.Bytes(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString appends to the output.
func (o output) WriteString(s string) (int, error) { return o.Write([]byte(s)) }
