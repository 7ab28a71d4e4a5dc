package cpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

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

func TestSharesByWeight(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(1, 3).Draw(rt, "slots")
		weights := rapid.SliceOfN(rapid.Uint32Range(1000, 4000), slots+1, 12).Draw(rt, "weights")
		total := uint32(0)
		for _, w := range weights {
			total += w
		}
		for i, w := range weights {
			if uint32(slots)*w > total {
				weights[i] = total / uint32(slots) / 2 // nobody is due more than one slot
			}
		}
		total = 0
		for i := range weights {
			weights[i] = max(weights[i], 1000)
			total += weights[i]
		}
		for _, w := range weights {
			if uint32(slots)*w > total {
				rt.Skip("one is due more than a slot")
			}
		}
		const run = 4 * time.Second
		used := make([]time.Duration, len(weights))
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Slots: slots})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for i, w := range weights {
				wg.Go(func() {
					sh := s.Join(w)
					spin(ctx, sh, slice)
					used[i] = sh.Used()
				})
			}
			time.Sleep(run)
			cancel()
			wg.Wait()
			if st := s.Stats(); st.Holding != 0 || st.Waiting != 0 {
				rt.Errorf("after all have left: %+v", st)
			}
		})
		for i, w := range weights {
			want := run * time.Duration(slots) * time.Duration(w) / time.Duration(total)
			if d := used[i] - want; d < -20*time.Millisecond || d > 20*time.Millisecond {
				rt.Errorf("weights %v on %d slots: share %d used %s, want %s", weights, slots, i, used[i], want)
			}
		}
	})
}

func TestQuotaIsKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		millis := rapid.Uint32Range(1, 999).Draw(rt, "millis")
		step := time.Duration(rapid.IntRange(100, 2_000).Draw(rt, "slice")) * time.Microsecond
		const run = 10 * time.Second
		var used time.Duration
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Slots: 1})
			sh := s.Join(millis)
			ctx, cancel := context.WithTimeout(t.Context(), run)
			defer cancel()
			spin(ctx, sh, step)
			used = sh.Used()
		})
		quota := run * time.Duration(millis) / 1000
		// What is over in one window is owed to the next ones; each run begins
		// with a window that is whole.
		if used > quota+2*step+100*time.Millisecond*time.Duration(millis)/1000 {
			rt.Errorf("%dm used %s of %s", millis, used, run)
		}
		// What a slice takes beyond the end of a window counts for the next.
		if least := quota - run/100*step/time.Millisecond - 100*time.Millisecond; used < least {
			rt.Errorf("%dm got %s of %s alone on its slot, not %s", millis, used, run, least)
		}
	})
}

// TestIdleShareIsServedNext shows that who has slept, and wants half of its fair
// part, gets a slot at the next safe point, however many spin.
func TestIdleShareIsServedNext(t *testing.T) {
	for _, spinners := range []int{1, 2, 100, 1000} {
		t.Run(fmt.Sprint(spinners), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{Slots: 2})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range spinners {
					wg.Go(func() { spin(ctx, s.Join(1000), slice) })
				}
				guest := s.Join(1000)
				time.Sleep(time.Duration(spinners) * slice) // all have had a turn
				const pause = 20 * time.Millisecond
				work := min(pause/20, pause*2/time.Duration(spinners+1)/2)
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

func BenchmarkYield(b *testing.B) {
	s := New(Config{Slots: 1})
	sh := s.Join(1000)
	if err := sh.Acquire(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := sh.Yield(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	sh.Release()
}

func BenchmarkAcquireRelease(b *testing.B) {
	s := New(Config{Slots: 1})
	sh := s.Join(1000)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := sh.Acquire(ctx); err != nil {
			b.Fatal(err)
		}
		sh.Release()
	}
}
