package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// headSize is the size of what precedes a message, in bytes.
const headSize = 5

// Flags of a frame. There is one at most.
const (
	flagMessage = 0
	flagEnd     = 1 // nothing follows; has a wasmatrix.v1.Error, without a code where all is well
	flagPing    = 2 // wants a pong
	flagPong    = 3
)

// appendFrame appends a frame. It fails, and appends nothing, where the message
// cannot be encoded or is too large, with outcome none.
func appendFrame(b []byte, flags byte, m proto.Message) ([]byte, error) {
	start := len(b)
	out := slices.Grow(b, headSize)[:start+headSize]
	if m != nil {
		var err error
		if out, err = (proto.MarshalOptions{}).MarshalAppend(out, m); err != nil {
			return b, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the call has what is not UTF-8: %w", err).
				With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
		}
	}
	size := len(out) - start - headSize
	if size > wire.MaxCarry {
		return b, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the call has %d bytes, at most %d can be carried", size, wire.MaxCarry).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	out[start] = flags
	binary.BigEndian.PutUint32(out[start+1:], uint32(size))
	return out, nil
}

// frameReader reads frames.
type frameReader struct {
	r     *bufio.Reader
	large []byte // for what does not fit into r

	// Of a frame whose head was read, where reading the rest was interrupted.
	begun bool
	flags byte
	size  int
	got   int // bytes in large
}

// next reads a frame. What it returns is good until the next. The end of the
// connection between two frames is io.EOF, in the middle of one
// io.ErrUnexpectedEOF; what is no frame is E1, one that is too large E8. Where a read
// deadline has passed, next may be called again and goes on where it was.
func (f *frameReader) next() (flags byte, b []byte, err error) {
	if !f.begun {
		if err := f.head(); err != nil {
			return 0, nil, err
		}
	}
	if f.size <= f.r.Size() {
		if b, err = f.r.Peek(f.size); err == nil {
			_, _ = f.r.Discard(f.size) // it stays where it is until the next read
		}
	} else {
		var n int
		n, err = io.ReadFull(f.r, f.large[f.got:f.size])
		f.got += n
		b = f.large[:f.size]
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, err
	}
	f.begun = false
	return f.flags, b, nil
}

// head reads the head of a frame.
func (f *frameReader) head() error {
	if cap(f.large) > maxSpare {
		f.large = nil
	}
	head, err := f.r.Peek(headSize)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	f.flags, f.size, f.got = head[0], int(binary.BigEndian.Uint32(head[1:])), 0
	switch {
	case f.flags > flagPong:
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a frame with flags %x", f.flags)
	case f.size > wire.MaxCarry:
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "a message of %d bytes, at most %d are allowed", f.size, wire.MaxCarry)
	}
	_, _ = f.r.Discard(headSize)
	if f.size > f.r.Size() {
		f.large = slices.Grow(f.large[:0], f.size)[:f.size]
	}
	f.begun = true
	return nil
}
