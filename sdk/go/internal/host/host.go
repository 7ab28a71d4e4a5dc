// Package host has the functions of docs/abi.md as they are, and what all
// packages of the SDK make of their results. On other platforms than wasip1 each
// function fails with ErrUnsupported.
package host

import (
	"errors"
	"strconv"
	"time"
	"unsafe"
)

// Code is the number of an error, as the host gives it, without its sign.
type Code int32 //nolint:errname // the number of an Error

// The codes.
const (
	ErrBounds      Code = 1
	ErrTooLarge    Code = 2
	ErrNoCall      Code = 3
	ErrDenied      Code = 4
	ErrNotFound    Code = 5
	ErrConflict    Code = 6
	ErrInvalid     Code = 7
	ErrUnavailable Code = 8
	ErrLimit       Code = 9
	ErrTimeout     Code = 10
	ErrHandle      Code = 11
	ErrFailed      Code = 12
	ErrUnsupported Code = 1 << 30 // of this package
)

var words = map[Code]string{
	ErrBounds: "out of bounds", ErrTooLarge: "too large", ErrNoCall: "no invocation of bytes is under way", ErrDenied: "denied",
	ErrNotFound: "not found", ErrConflict: "conflict", ErrInvalid: "invalid argument", ErrUnavailable: "provider unavailable",
	ErrLimit: "limit reached", ErrTimeout: "timeout", ErrHandle: "not open", ErrFailed: "failed", ErrUnsupported: "there is no host of wasmatrix",
}

// Error makes a code an error by itself, for errors.Is.
func (c Code) Error() string {
	if w, ok := words[c]; ok {
		return w
	}
	return "error " + strconv.Itoa(int(c))
}

// Error is a call that failed.
type Error struct {
	Code Code
	Text string // what the host says of it; may be empty
}

// Error returns what the code means, and what the host says.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code.Error()
	}
	return e.Code.Error() + ": " + e.Text
}

// Is reports whether target is the code of e.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// Unknown reports whether the effect of a write that failed with err is unknown.
func Unknown(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrTimeout) || errors.Is(err, ErrFailed)
}

// Check returns n, or the error that it stands for.
func Check(n int32) (int, error) {
	if n >= 0 {
		return int(n), nil
	}
	text := make([]byte, 512)
	size := max(0, int(ErrorRead(Bytes(text))))
	return 0, &Error{Code: Code(-n), Text: string(text[:min(size, len(text))])}
}

// Bytes is the address and the length of b.
func Bytes(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

// Result calls a function that fills a buffer, beginning with one of size bytes,
// and returns all of the result.
func Result(size int, call func(unsafe.Pointer, uint32) int32) ([]byte, error) {
	buf := make([]byte, size)
	n, err := Check(call(Bytes(buf)))
	if err != nil {
		return nil, err
	}
	if n <= size {
		return buf[:n:n], nil
	}
	all := make([]byte, n)
	for at := copy(all, buf); at < n; {
		ptr, left := Bytes(all[at:])
		more, err := Check(ResultRead(uint32(at), ptr, left))
		if err != nil {
			return nil, err
		}
		if more == 0 {
			return nil, &Error{Code: ErrFailed, Text: "the result ended early"}
		}
		at += more
	}
	return all, nil
}

// Millis is d in milliseconds, of which one that has begun counts.
func Millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
