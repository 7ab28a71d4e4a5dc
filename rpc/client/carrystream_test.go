package client

import (
	"context"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// TestATurnIsNotLost: where a call that waits for its turn is given up as it gets
// it, the turn is the next one's.
func TestATurnIsNotLost(t *testing.T) {
	for range 20 {
		s := &carryStream{calls: make(map[uint64]receiver), short: wire.MaxCarried}
		waiting := func(n int) {
			for {
				s.mu.Lock()
				have := len(s.waiting)
				s.mu.Unlock()
				if have == n {
					return
				}
				time.Sleep(10 * time.Microsecond)
			}
		}
		ctx, giveUp := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		enter := func(ctx context.Context, done chan error) {
			u, err := s.enter(ctx)
			if err == nil {
				s.forget(u)
			}
			done <- err
		}
		go enter(ctx, first)
		waiting(1)
		go enter(t.Context(), second)
		waiting(2)
		s.mu.Lock()
		giveUp()
		s.short--
		s.wake()
		s.mu.Unlock()
		if <-first == nil {
			t.Fatal("a call began that was given up")
		}
		select {
		case err := <-second:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the turn was lost")
		}
	}
}
