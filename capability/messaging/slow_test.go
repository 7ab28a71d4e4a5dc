package messaging_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
)

// TestP10_MessagingCountsDrops: whatever a subscriber's bounds and pace, what it
// receives and what it is told was dropped are what was published, and at each
// message exactly those are missing that it says.
func TestP10_MessagingCountsDrops(t *testing.T) {
	from := newCluster(t, 1)
	publisher := from.client(messaging.ClientConfig{})
	rapid.Check(t, func(rt *rapid.T) {
		pending := rapid.Int64Range(1, 50).Draw(rt, "pending")
		bytes := rapid.Int64Range(64, 8000).Draw(rt, "bytes")
		cfg := config(t)
		cfg.MaxPending, cfg.MaxBytes = pending, bytes
		c, err := messaging.NewClient(messaging.ClientConfig{Config: cfg, Servers: from.addrs})
		if err != nil {
			rt.Fatal(err)
		}
		defer c.Close()
		s, err := c.Subscribe(context.Background(), anyone, "n", "")
		if err != nil {
			rt.Fatal(err)
		}
		published, next := uint64(0), uint64(0)
		take := func(ctx context.Context) bool {
			m, err := s.Receive(ctx)
			if err != nil {
				return false
			}
			if n := binary.LittleEndian.Uint64(m.Data); n != next+m.Dropped {
				rt.Fatalf("message %d says that %d were dropped, after %d", n, m.Dropped, next)
			}
			next += m.Dropped + 1
			return true
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			for range rapid.IntRange(0, 80).Draw(rt, "publish") {
				data := make([]byte, 8+rapid.IntRange(0, 500).Draw(rt, "size"))
				binary.LittleEndian.PutUint64(data, published)
				published++
				if err := publisher.Publish(context.Background(), anyone, "n", data); err != nil {
					rt.Fatal(err)
				}
			}
			for range rapid.IntRange(0, 80).Draw(rt, "receive") {
				if !take(past) {
					break
				}
			}
		}
		// The last always fits, and tells what was missing.
		if err := publisher.Publish(context.Background(), anyone, "n", binary.LittleEndian.AppendUint64(nil, published)); err != nil {
			rt.Fatal(err)
		}
		for next <= published {
			if !take(context.Background()) {
				rt.Fatal("the last message does not come")
			}
		}
		if next != published+1 {
			rt.Fatalf("%d received and dropped of %d", next, published+1)
		}
	})
}

// TestSlowSubscriber: one that takes nothing costs the others of its node nothing, and
// no more memory than its bounds.
func TestSlowSubscriber(t *testing.T) {
	cl := newCluster(t, 1)
	from, node := cl.client(messaging.ClientConfig{}), cl.client(messaging.ClientConfig{})
	slow, fast := subscribe(t, node, "flood", ""), subscribe(t, node, "flood", "")
	const (
		publishers = 16
		each       = 100
		size       = 256 << 10 // 400 MiB in all
	)
	data := make([]byte, size)
	// The fast one takes each, and lags by less than its bound.
	ahead := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for range each {
				ahead <- struct{}{}
				if err := from.Publish(context.Background(), anyone, "flood", data); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var largest uint64
	got := uint64(0)
	for got < publishers*each {
		m := receive(t, fast)
		got += 1 + m.Dropped
		if m.Dropped > 0 {
			t.Errorf("a subscriber that is fast is told of %d dropped", m.Dropped)
		}
		<-ahead
		if got%200 == 0 {
			runtime.GC()
			var mem runtime.MemStats
			runtime.ReadMemStats(&mem)
			largest = max(largest, mem.HeapAlloc)
		}
	}
	wg.Wait()
	// What clients and the server hold between them, and 4 MiB for either subscription.
	t.Logf("%d MiB in use at most", largest>>20)
	if largest > 48<<20 {
		t.Errorf("%d MiB in use", largest>>20)
	}
	publish(t, from, "flood", "last")
	m := receive(t, slow)
	n, dropped := uint64(1), m.Dropped
	for string(m.Data) != "last" {
		m = receive(t, slow)
		n++
		dropped += m.Dropped
	}
	if n+dropped != publishers*each+1 {
		t.Errorf("%d received and %d dropped of %d", n, dropped, publishers*each+1)
	}
	if n > 17 {
		t.Errorf("%d messages of 256 KiB waited, within 4 MiB", n)
	}
	if n := messaging.Overflowed(node); n != 0 {
		t.Errorf("%d messages were lost before they came to a queue", n)
	}
}

// TestFlood: messages as small as they can be, faster than they are taken, are lost in
// the subscription's own queue alone, where they are counted.
func TestFlood(t *testing.T) {
	cl := newCluster(t, 1)
	from, node := cl.client(messaging.ClientConfig{}), cl.client(messaging.ClientConfig{})
	var subs []capability.Subscription
	for range 20 {
		subs = append(subs, subscribe(t, node, "f", ""))
	}
	const publishers, each = 64, 500
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for range each {
				if err := from.Publish(context.Background(), anyone, "f", nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	// Its own publishers get on meanwhile.
	for range 500 {
		publish(t, node, "other", "")
	}
	wg.Wait()
	publish(t, from, "f", "last")
	for i, s := range subs {
		n := uint64(0)
		for {
			short, cancel := context.WithTimeout(context.Background(), patience)
			m, err := s.Receive(short)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			n += 1 + m.Dropped
			if len(m.Data) > 0 {
				break
			}
		}
		if n != publishers*each+1 {
			t.Errorf("subscription %d: %d received and dropped of %d", i, n, publishers*each+1)
		}
	}
	if n := messaging.Overflowed(node); n != 0 {
		t.Errorf("%d messages were lost before they came to a queue", n)
	}
}
