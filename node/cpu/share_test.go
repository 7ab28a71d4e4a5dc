package cpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const slice = 500 * time.Microsecond

// spin holds slots until ctx ends, as a guest that never blocks.
func spin(ctx context.Context, sh *Share, slice time.Duration) {
	if sh.Acquire(ctx) != nil {
		return
	}
	for {
		time.Sleep(slice) // on the slot
		if sh.Yield(ctx) != nil {
			return
		}
	}
}

// TestIdleShareIsServedNext shows that who has slept, and wants half of its fair
// part, gets a slot at the next safe point, however many spin.
func TestIdleShareIsServedNext(t *testing.T) {
	for _, tt := range []struct {
		spinners int
		weight   uint32
	}{{1, 1000}, {2, 1000}, {100, 1000}, {1000, 1000}, {100, 100}, {1000, 20}, {30, 4000}} {
		spinners := tt.spinners
		t.Run(fmt.Sprintf("%d of %dm", spinners, tt.weight), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{Slots: 2})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range spinners {
					wg.Go(func() { spin(ctx, s.Join(tt.weight), slice) })
				}
				guest := s.Join(1000)
				time.Sleep(time.Second) // all have had turns
				const pause = 20 * time.Millisecond
				part := 2000 / float64(1000+spinners*int(tt.weight)) // of a slot
				work := time.Duration(min(0.1, part) / 2 * float64(pause))
				for range 50 {
					time.Sleep(pause)
					began := time.Now()
					if err := guest.Acquire(ctx); err != nil {
						t.Fatal(err)
					}
					if d := time.Since(began); d > slice {
						t.Errorf("waited %s behind %d spinners, longer than a slice of %s", d, spinners, slice)
					}
					time.Sleep(work)
					guest.Release()
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// TestNewcomersStarveNobody has one guest after the other come and crash, while
// another spins: it goes on getting its part.
func TestNewcomersStarveNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		spinner := s.Join(1000)
		var wg sync.WaitGroup
		wg.Go(func() { spin(ctx, spinner, slice) })
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					sh := s.Join(1000)
					if sh.Acquire(ctx) == nil {
						time.Sleep(slice)
						sh.Release()
					}
				}
			})
		}
		wg.Wait()
		if used := spinner.Used(); used < 500*time.Millisecond {
			t.Errorf("the spinner got %s of 2s among two streams of newcomers", used)
		}
	})
}

func TestEndOfContext(t *testing.T) {
	cause := errors.New("stopped")
	t.Run("waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Slots: 1})
			holder := s.Join(1000)
			if err := holder.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error)
			go func() { done <- s.Join(1000).Acquire(ctx) }()
			synctest.Wait()
			if st := s.Stats(); st.Waiting != 1 {
				t.Errorf("%+v", st)
			}
			cancel(cause)
			if err := <-done; !errors.Is(err, cause) {
				t.Error(err)
			}
			if st := s.Stats(); st.Waiting != 0 || st.Holding != 1 {
				t.Errorf("%+v", st)
			}
			holder.Release()
		})
	})
	t.Run("out of quota", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Slots: 1})
			sh := s.Join(10) // 1 ms in 100
			ctx, cancel := context.WithCancelCause(t.Context())
			if err := sh.Acquire(ctx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			began := time.Now()
			time.AfterFunc(7*time.Millisecond, func() { cancel(cause) })
			if err := sh.Yield(ctx); !errors.Is(err, cause) {
				t.Error(err)
			}
			if d := time.Since(began); d != 7*time.Millisecond {
				t.Errorf("ended after %s", d)
			}
			if st := s.Stats(); st.Holding != 0 {
				t.Errorf("%+v", st)
			}
		})
	})
	t.Run("at a safe point", func(t *testing.T) {
		s := New(Config{Slots: 1})
		sh := s.Join(1000)
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := sh.Acquire(ctx); err != nil {
			t.Fatal(err)
		}
		cancel(cause)
		if err := sh.Yield(ctx); !errors.Is(err, cause) {
			t.Error(err)
		}
		if st := s.Stats(); st.Holding != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestStorm ends many contexts while slots change hands.
func TestStorm(t *testing.T) {
	s := New(Config{Slots: 2})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*7+n)%5)*100*time.Microsecond)
				spin(ctx, s.Join(uint32(100+i*50)), 10*time.Microsecond)
				cancel()
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Holding != 0 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

func TestReleaseAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: 1})
		sh := s.Join(0) // a whole core
		sh.Release()    // of nothing
		if err := sh.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if used, st := sh.Used(), s.Stats(); used != 2*time.Second || st.Used != used || st.Holding != 1 {
			t.Errorf("on the slot still: used %s, %+v", used, st)
		}
		sh.Release()
		sh.Release()
		time.Sleep(time.Second) // without the slot
		if err := sh.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		sh.Leave()
		sh.Leave()
		if used, st := sh.Used(), s.Stats(); used != 2*time.Second || st != (Stats{Slots: 1, Used: used}) {
			t.Errorf("after it has left: used %s, %+v", used, st)
		}
	})
}

func TestMisuse(t *testing.T) {
	s := New(Config{})
	sh := s.Join(1000)
	panics := func(what string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s did not panic", what)
			}
		}()
		f()
	}
	panics("Yield without a slot", func() { _ = sh.Yield(t.Context()) })
	if err := sh.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	panics("Acquire with a slot", func() { _ = sh.Acquire(t.Context()) })
	sh.Leave()
	panics("Acquire after Leave", func() { _ = sh.Acquire(t.Context()) })
	if st := s.Stats(); st.Holding != 0 {
		t.Errorf("%+v", st) // and the lock is free
	}
}

// TestEndedBefore sees that nothing is taken on behalf of a context
// that has ended.
func TestEndedBefore(t *testing.T) {
	s := New(Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped")
	cancel(cause)
	if err := s.Join(1000).Acquire(ctx); !errors.Is(err, cause) {
		t.Error(err)
	}
	if st := s.Stats(); st.Holding != 0 || st.Used != 0 {
		t.Errorf("%+v", st)
	}
}

func BenchmarkYield(b *testing.B) {
	for _, millis := range []uint32{1000, 999} { // without a quota and with one
		b.Run(fmt.Sprint(millis), func(b *testing.B) {
			s := New(Config{Slots: 1})
			sh := s.Join(millis)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			if err := sh.Acquire(ctx); err != nil {
				b.Fatal(err)
			}
			if millis < core {
				// What is measured is the bookkeeping, not the pause.
				sh.quota.millis, sh.quota.limit = 1e9, 1<<60
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := sh.Yield(ctx); err != nil {
					b.Fatal(err)
				}
			}
			sh.Leave()
		})
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	s := New(Config{Slots: 1})
	sh := s.Join(1000)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := sh.Acquire(ctx); err != nil {
			b.Fatal(err)
		}
		sh.Release()
	}
}

// BenchmarkHandOver is what it costs that the slot goes to another at each safe
// point, with many who want it: a switch between goroutines and the heap.
func BenchmarkHandOver(b *testing.B) {
	for _, n := range []int{2, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := New(Config{Slots: 1})
			var wg sync.WaitGroup
			b.ReportAllocs()
			for range n {
				wg.Go(func() {
					sh := s.Join(1000)
					defer sh.Leave()
					if err := sh.Acquire(b.Context()); err != nil {
						b.Error(err)
						return
					}
					for range b.N / n {
						if err := sh.Yield(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
