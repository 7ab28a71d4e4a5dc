package node

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the delay between attempts of one thing: it doubles from first to
// limit, and is spread over its upper half.
type backoff struct {
	first, limit time.Duration
	next         time.Duration
}

func (b *backoff) reset() { b.next = 0 }

// wait lets the delay pass, or less if early is received from. It reports false
// when ctx has ended.
func (b *backoff) wait(ctx context.Context, early <-chan struct{}) bool {
	b.next = min(b.limit, max(b.first, 2*b.next))
	t := time.NewTimer(b.next/2 + rand.N(b.next/2+1))
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
