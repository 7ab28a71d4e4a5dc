package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// hammer calls do from n workers for a while, and returns the rate of successes
// per second and the latencies of all of them. Do is told its worker and count.
func hammer(ctx context.Context, n int, length time.Duration, do func(ctx context.Context, worker, i int) error) (float64, []time.Duration, error) {
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		all      []time.Duration
		firstErr error
		stop     atomic.Bool
	)
	began := time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	for w := range n {
		wg.Go(func() {
			var mine []time.Duration
			var err error
			for i := 0; !stop.Load() && ctx.Err() == nil; i++ {
				t := time.Now()
				if err = do(ctx, w, i); err != nil {
					break
				}
				mine = append(mine, time.Since(t))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			if firstErr == nil && err != nil {
				firstErr = fmt.Errorf("worker %d: %w", w, err)
			}
		})
	}
	wg.Wait()
	return float64(len(all)) / time.Since(began).Seconds(), all, firstErr
}
