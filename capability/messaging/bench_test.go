package messaging_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
)

// BenchmarkPublish measures Publish to one embedded server over loopback, which
// returns when the server has the message: 128 bytes, nobody subscribed.
func BenchmarkPublish(b *testing.B) {
	data := make([]byte, 128)
	for _, publishers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("publishers=%d", publishers), func(b *testing.B) {
			c := newCluster(b, 1).client(messaging.ClientConfig{})
			publish(b, c, "warm", "")
			alive := &capability.Scope{Alive: func() bool { return true }}
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ResetTimer()
			for range publishers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := c.Publish(b.Context(), alive, "bench.topic", data); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkDeliver measures from before Publish until Receive has returned in
// another client of the same process, one message at a time: through one server,
// and from one server to another.
func BenchmarkDeliver(b *testing.B) {
	for _, servers := range []int{1, 2} {
		b.Run(fmt.Sprintf("servers=%d", servers), func(b *testing.B) {
			cl := newCluster(b, servers).servers()
			from, to := clientOf(b, cl[0]), clientOf(b, cl[len(cl)-1])
			sub := subscribe(b, to, "bench.topic", "")
			warm(b, from, sub)
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				began := time.Now()
				received := make(chan error, 1)
				go func() {
					_, err := sub.Receive(b.Context())
					took = append(took, time.Since(began))
					received <- err
				}()
				if err := from.Publish(b.Context(), anyone, "bench.topic", binary.LittleEndian.AppendUint64(nil, 1)); err != nil {
					b.Fatal(err)
				}
				if err := <-received; err != nil {
					b.Fatal(err)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// warm sends a message until it comes, since a client of one server is not told when
// the others know, and drops what comes late.
func warm(b *testing.B, from *messaging.Client, sub capability.Subscription) {
	b.Helper()
	eventually(b, "a message", func() bool {
		publish(b, from, "bench.topic", "")
		_, err := sub.Receive(past)
		return err == nil
	})
	publish(b, from, "bench.topic", "last")
	for string(receive(b, sub).Data) != "last" {
	}
}

// BenchmarkRate measures how many messages of 128 bytes 64 publishers get to one
// subscription, none dropped.
func BenchmarkRate(b *testing.B) {
	data := make([]byte, 128)
	for _, servers := range []int{1, 2} {
		b.Run(fmt.Sprintf("servers=%d", servers), func(b *testing.B) {
			cl := newCluster(b, servers).servers()
			from, to := clientOf(b, cl[0]), newClient(b, messaging.ClientConfig{
				Servers: func() []string { return []string{cl[len(cl)-1].Addr().Client} },
				Config:  config(b, "max_pending", "1000000", "max_pending_bytes", "1GiB"),
			})
			sub := subscribe(b, to, "bench.topic", "")
			warm(b, from, sub)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ResetTimer()
			for range 64 {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := from.Publish(b.Context(), anyone, "bench.topic", data); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			for range b.N {
				m, err := sub.Receive(b.Context())
				if err != nil || m.Dropped > 0 {
					b.Fatal(err, m.Dropped)
				}
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkPublishUnderFlood measures Publish at a node to whose guests others send all
// they can: 16 publishers to 20 subscriptions that nobody takes from.
func BenchmarkPublishUnderFlood(b *testing.B) {
	cl := newCluster(b, 1)
	from, node := cl.client(messaging.ClientConfig{}), cl.client(messaging.ClientConfig{})
	for range 20 {
		subscribe(b, node, "flood", "")
	}
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for from.Publish(ctx, anyone, "flood", make([]byte, 16)) == nil {
			}
		})
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if err := node.Publish(b.Context(), anyone, "quiet", nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	stop()
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
}
