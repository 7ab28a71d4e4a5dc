package group

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// Three groups in one process on loopback, 256-byte commands: what it costs to
// have a majority store one, alone and shared.
func BenchmarkPropose(b *testing.B) {
	for _, kind := range []string{LogStoreBolt, LogStoreWAL} {
		for _, clients := range []int{1, 256} {
			b.Run(fmt.Sprintf("%s/clients=%d", kind, clients), func(b *testing.B) {
				c := newCluster(b, 3, func(conf *Config) { conf.LogStore, conf.Timing = kind, DefaultTiming() })
				l := c.leader()
				command := make([]byte, 256)
				var left atomic.Int64
				left.Store(int64(b.N))
				before := l.Stats()
				b.ResetTimer()
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if _, _, err := l.Propose(b.Context(), command); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				after := l.Stats()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
				b.ReportMetric(float64(after.Commands-before.Commands)/float64(after.Entries-before.Entries), "commands/entry")
			})
		}
	}
}

// Linearizable reads, which write nothing.
func BenchmarkRead(b *testing.B) {
	for _, clients := range []int{1, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			c := newCluster(b, 3, func(conf *Config) { conf.Timing = DefaultTiming() })
			l := c.leader()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := l.Read(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
		})
	}
}
