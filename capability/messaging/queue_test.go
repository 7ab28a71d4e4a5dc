package messaging

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

// TestQueue: what comes out is what went in, in order, but for the oldest where
// there was no room; each message says how many are missing before it.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxMessages := rapid.IntRange(1, 200).Draw(t, "messages")
		maxBytes := rapid.Int64Range(1, 2000).Draw(t, "bytes")
		q := queue{maxMessages: maxMessages, maxBytes: maxBytes}
		var model []int // numbers of the messages that wait
		sizes := map[int]int64{}
		bytes := func() (n int64) {
			for _, i := range model {
				n += sizes[i]
			}
			return n
		}
		pushed, last := 0, -1
		for range rapid.IntRange(1, 600).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "do") > 0 {
				topic := fmt.Sprint(pushed)
				data := make([]byte, rapid.SampledFrom([]int{0, 1, 10, 100, 1999}).Draw(t, "size"))
				n := int64(len(topic) + len(data))
				q.push(topic, data)
				if n <= maxBytes {
					sizes[pushed] = n
					model = append(model, pushed)
					for len(model) > maxMessages || bytes() > maxBytes {
						model = model[1:]
					}
				}
				pushed++
			} else {
				m, ok := q.pop()
				if ok != (len(model) > 0) {
					t.Fatalf("pop is %v with %d waiting", ok, len(model))
				}
				if !ok {
					continue
				}
				if m.Topic != fmt.Sprint(model[0]) {
					t.Fatalf("got %s, want %d", m.Topic, model[0])
				}
				if want := uint64(model[0] - last - 1); m.Dropped != want {
					t.Fatalf("message %d says %d dropped, want %d", model[0], m.Dropped, want)
				}
				last, model = model[0], model[1:]
			}
			if q.len() != len(model) || q.bytes != bytes() {
				t.Fatalf("%d messages of %d bytes wait, want %d of %d", q.len(), q.bytes, len(model), bytes())
			}
			if room := cap(q.items); room > 4*(maxMessages+keepItems) {
				t.Fatalf("room for %d messages of at most %d", room, maxMessages)
			}
		}
	})
}

func TestRoundsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs, inside atomic.Int64
		r := newRounds(func() error {
			if inside.Add(1) != 1 {
				t.Error("two runs at a time")
			}
			time.Sleep(time.Second)
			inside.Add(-1)
			runs.Add(1)
			return nil
		})
		stop, cause := make(chan struct{}), errors.New("stopped")
		var wg sync.WaitGroup
		wg.Go(func() { r.run(stop, func() error { return cause }) })
		first := r.join(nil)
		synctest.Wait() // it is under way: who comes now needs another
		var second []*round
		for range 100 {
			second = append(second, r.join(nil))
		}
		began := time.Now()
		<-first.done
		for _, n := range second {
			if n == first {
				t.Fatal("joined a run that had begun")
			}
			<-n.done
			if n.err != nil {
				t.Fatal(n.err)
			}
		}
		if runs.Load() != 2 || time.Since(began) != 2*time.Second {
			t.Errorf("%d runs in %s", runs.Load(), time.Since(began))
		}
		// One under way ends; the one that waits fails, and so do all later.
		var g guard
		last := r.join(nil)
		synctest.Wait()
		waits := r.join(g.take(func() bool { return false }))
		close(stop)
		<-waits.done
		late := r.join(g.take(func() bool { return false }))
		<-late.done
		wg.Wait()
		if last.err != nil || !errors.Is(waits.err, cause) || !errors.Is(late.err, cause) {
			t.Errorf("errors are %v, %v, %v", last.err, waits.err, late.err)
		}
		if g.check() != nil {
			t.Error("a ticket was not given back")
		}
	})
}

func TestBackoff(t *testing.T) {
	var b backoff
	for want := backoffMin; want < 4*backoffMax; want *= 2 {
		limit := min(want, backoffMax)
		if d := b.next(); d < limit/2 || d >= limit {
			t.Errorf("wait is %s, want one from %s to %s", d, limit/2, limit)
		}
	}
}

// TestReceiversShare: of several that wait each gets a message, also of those that come
// at the same time.
func TestReceiversShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := (&Client{cfg: ClientConfig{Config: wasmatrix.MessagingConfig{MaxPending: 10, MaxBytes: 10}}}).newSubscription("x", "")
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := s.Receive(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		s.mu.Lock()
		for range 3 {
			s.queue.push("x", nil)
		}
		s.signal()
		s.mu.Unlock()
		wg.Wait()
	})
}
