package dispatch_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// BenchmarkStarts measures what dispatch itself costs: 256 clients start
// instances, each in a request of its own, on nodes that answer after 1 ms,
// over a log that takes 2 ms and the real state machine. Real time passes. It
// prints starts acknowledged per second, and proposals for each thousand.
func BenchmarkStarts(b *testing.B) {
	for _, nodes := range []int{2, 100} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			w := newWorld(b, 1, dispatch.Config{})
			defer w.close()
			w.elect(0)
			var all []*process
			for n := range nodes {
				all = append(all, w.boot(fmt.Sprintf("n%d", n), 10_000_000))
			}
			w.up(all...)
			next := make(chan int)
			var clients sync.WaitGroup
			for range 256 {
				clients.Go(func() {
					for n := range next {
						if _, err := w.d().Start(context.Background(), item(fmt.Sprintf("r%d", n), 1, w.spec())); err != nil {
							b.Error(err)
						}
					}
				})
			}
			n := 0
			for b.Loop() {
				next <- n
				n++
			}
			close(next)
			clients.Wait()
			acknowledged := b.Elapsed()
			for w.state().StatusCount(wasmatrix.StatusRunning) < n {
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64(n)/acknowledged.Seconds(), "starts/s")
			b.ReportMetric(1000*float64(w.count(wasmatrix.StartInstances{}))/float64(n), "proposals/1000")
		})
	}
}
