package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/wasmatrix/wasmatrix/gen/api"
)

// reading decides who receives from a link. To hand an answer from one goroutine to
// another wakes a thread, which on a machine of few cores costs more than all the rest
// of a call. So a caller that is alone receives its answer itself. Where several calls
// are under way, or one that stays open, and when nothing has come for a while, a
// goroutine of the stream's own receives for all.
type reading struct {
	turn   chan struct{} // has a token while nobody receives
	wanted chan struct{} // has a token when the stream's goroutine should receive
	broke  chan error    // has why a caller could not receive any more, who keeps the turn
	recent atomic.Bool   // a caller has received since the last look
}

// lookEvery is how often the stream's goroutine looks whether anybody receives.
const lookEvery = time.Second

func newReading() reading {
	return reading{turn: make(chan struct{}, 1), wanted: make(chan struct{}, 1), broke: make(chan error, 1)}
}

// want has the stream's goroutine receive, once it is its turn.
func (r *reading) want() {
	select {
	case r.wanted <- struct{}{}:
	default:
	}
}

// receive is the stream's own goroutine, once the link is connected. The error is never
// nil.
func (s *carryStream) receive(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	s.turn <- struct{}{}
	s.want() // calls may wait already
	for {
		select {
		case <-s.wanted:
		case <-look.C:
			if s.recent.Swap(false) {
				continue
			}
		case err := <-s.broke:
			return err
		case <-ctx.Done():
			return errEnded
		}
		select {
		case <-s.turn:
		case err := <-s.broke:
			return err
		case <-ctx.Done():
			return errEnded
		}
		for more := true; more; more = s.busy() {
			if err := s.receiveOne(); err != nil {
				return err
			}
		}
		s.turn <- struct{}{}
	}
}

var errEnded = errors.New("the connection was closed")

// receiveOne passes on one message. It is for whoever has the turn.
func (s *carryStream) receiveOne() error {
	m := new(api.CarryResponse)
	err := s.link.Receive(m)
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("it ended the connection")
	case err != nil:
		return err
	case !s.pass(m):
		return fmt.Errorf("it sent a message for call %d that it should not have", m.GetCall())
	}
	return nil
}

// busy reports whether calls are under way.
func (s *carryStream) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls) > 0
}

// await returns what a unary call is answered with, or false where ctx ends before.
func (s *carryStream) await(ctx context.Context, u *unaryCall) (*api.CarryResponse, bool) {
	if u.alone {
		select {
		case m := <-u.answer:
			return m, true
		case <-s.turn:
			s.receiveFor(ctx, u)
		case <-ctx.Done():
		}
	}
	select {
	case m := <-u.answer:
		return m, true
	default:
	}
	select {
	case m := <-u.answer:
		return m, true
	case <-ctx.Done():
		return nil, false
	}
}

// receiveFor receives until a call is answered, its context has ended, or the link is
// broken. Call it with the turn.
func (s *carryStream) receiveFor(ctx context.Context, u *unaryCall) {
	s.recent.Store(true)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		s.link.Interrupt()
	})
	var err error
	for err == nil && len(u.answer) == 0 {
		err = s.receiveOne()
	}
	if !stop() {
		<-interrupted // or it would interrupt who receives next
		s.link.Resume()
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.broke <- err
		return
	}
	s.turn <- struct{}{}
	if s.busy() {
		s.want()
	}
}
