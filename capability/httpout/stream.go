package httpout

import (
	"errors"
	"io"
	"sync"
)

// stream hands the body of a request from the guest to net/http, without keeping
// any of it: a piece is with the guest until it was taken.
//
// net/http may try a request again on another connection where it wrote nothing
// to the first. So what it reads from is an attempt, of which there may be
// several, one after the other, as long as nothing was read.
type stream struct {
	mu    sync.Mutex
	moved sync.Cond
	piece []byte // what write has left to hand over
	taken bool   // anything ever was
	eof   bool   // no more comes
	over  error  // nobody reads any more; set once
	last  *attempt
	// settled is set when there will be no further attempt.
	settled bool
}

// errDiscard is over where the server has answered and does not want the rest.
var errDiscard = errors.New("the rest of the body is not wanted")

func newStream() *stream {
	s := &stream{}
	s.moved.L = &s.mu
	return s
}

// write blocks until p was taken. Its error is the one of end; where the reader
// closed the body after an answer, the rest of p counts as taken.
func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.piece = p
	s.moved.Broadcast()
	for len(s.piece) > 0 && s.over == nil {
		s.moved.Wait()
	}
	left := len(s.piece)
	s.piece = nil
	switch {
	case left == 0 || s.over == errDiscard: //nolint:errorlint // this very value
		return len(p), nil
	default:
		return len(p) - left, s.over
	}
}

// finish says that the body is complete.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eof = true
	s.moved.Broadcast()
}

// end makes reading and writing fail with err, the first that is given.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil {
		s.over = err
	}
	s.moved.Broadcast()
}

// settle says that the server has answered: what the body is closed by from then
// on, or was before, is its end.
func (s *stream) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = true
	if s.last != nil && s.last.closed && s.over == nil {
		s.over = errDiscard
	}
	s.moved.Broadcast()
}

// open begins an attempt. It fails when some of the body is gone.
func (s *stream) open() (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return nil, errors.New("the body cannot be sent again")
	}
	s.last = &attempt{s: s}
	return s.last, nil
}

type attempt struct {
	s      *stream
	closed bool // guarded by s.mu
}

func (a *attempt) Read(p []byte) (int, error) {
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case a.closed:
			return 0, errors.New("the body was closed")
		case s.over != nil:
			return 0, s.over
		case len(s.piece) > 0:
			n := copy(p, s.piece)
			s.piece, s.taken = s.piece[n:], true
			if len(s.piece) == 0 {
				s.moved.Broadcast()
			}
			return n, nil
		case s.eof:
			return 0, io.EOF
		}
		s.moved.Wait()
	}
}

func (a *attempt) Close() error {
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a.closed = true
	if s.settled && s.over == nil {
		s.over = errDiscard
	}
	s.moved.Broadcast()
	return nil
}
