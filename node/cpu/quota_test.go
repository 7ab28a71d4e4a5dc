package cpu

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// held is a time on a slot between two safe points.
type held struct{ from, to time.Duration }

// within is how much of the times lies between two moments.
func within(all []held, from, to time.Duration) (sum time.Duration) {
	for _, h := range all {
		sum += max(0, min(h.to, to)-max(h.from, from))
	}
	return sum
}

// TestQuotaOverAnyWindow has guests run, block and come again at random moments,
// beside others that want the slot, and looks at every period of a window.
func TestQuotaOverAnyWindow(t *testing.T) {
	const window = 100 * time.Millisecond
	rapid.Check(t, func(rt *rapid.T) {
		millis := rapid.Uint32Range(1, 999).Draw(rt, "millis")
		neighbours := rapid.IntRange(0, 2).Draw(rt, "neighbours")
		longest := rapid.IntRange(100, 30_000).Draw(rt, "longest slice in µs")
		type step struct{ work, pause time.Duration }
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			s := step{work: time.Duration(rapid.IntRange(1, longest).Draw(rt, "work")) * time.Microsecond}
			if rapid.IntRange(0, 3).Draw(rt, "blocks") == 0 {
				s.pause = time.Duration(rapid.IntRange(0, 150_000).Draw(rt, "pause")) * time.Microsecond
			}
			return s
		}), 1, 60).Draw(rt, "steps")

		var all []held
		var slice time.Duration
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			s := New(Config{Slots: 1, Window: window})
			var wg sync.WaitGroup
			for range neighbours {
				wg.Go(func() { spin(ctx, s.Join(1000), 700*time.Microsecond) })
			}
			sh := s.Join(millis)
			if err := sh.Acquire(ctx); err != nil {
				t.Fatal(err)
			}
			for _, st := range steps {
				from := time.Since(began)
				time.Sleep(st.work)
				all = append(all, held{from, time.Since(began)})
				slice = max(slice, st.work)
				if st.pause == 0 {
					if err := sh.Yield(ctx); err != nil {
						t.Fatal(err)
					}
					continue
				}
				sh.Release()
				time.Sleep(st.pause)
				if err := sh.Acquire(ctx); err != nil {
					t.Fatal(err)
				}
			}
			sh.Leave()
			cancel()
			wg.Wait()
		})
		quota := window * time.Duration(millis) / 1000
		for _, h := range all { // the most is in one that ends with a slice
			if got := within(all, h.to-window, h.to); got > quota+slice {
				rt.Fatalf("%dm used %s in the window that ends at %s, more than %s and a slice of %s", millis, got, h.to, quota, slice)
			}
		}
	})
}

// TestQuotaIsHad sees that a guest alone gets what it may have, and in the long
// run no more, however long its slices are.
func TestQuotaIsHad(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		millis := rapid.Uint32Range(2, 999).Draw(rt, "millis") // 3 ms at 1m are beyond maxDebt
		slice := time.Duration(rapid.IntRange(50, 3_000).Draw(rt, "slice")) * time.Microsecond
		const run = 20 * time.Second
		var used time.Duration
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Slots: 1})
			ctx, cancel := context.WithTimeout(t.Context(), run)
			defer cancel()
			sh := s.Join(millis)
			spin(ctx, sh, slice)
			used = sh.Used()
		})
		due := run * time.Duration(millis) / 1000
		most := due + defaultWindow*time.Duration(millis)/1000 + slice // the burst of the first window
		if used > most {
			rt.Errorf("%dm used %s of %s, more than %s", millis, used, run, most)
		}
		// A bucket is a 32nd of a window, and a slice that began before the
		// quota was used up counts for the following ones.
		if least := due*94/100 - slice; used < least {
			rt.Errorf("%dm alone on its slot used %s of %s, less than %s", millis, used, run, least)
		}
	})
}

// TestLongSliceIsPaidOff has a guest that overruns by far.
func TestLongSliceIsPaidOff(t *testing.T) {
	for _, tt := range []struct {
		millis      uint32
		slice, want time.Duration // how long it has to wait
	}{
		{500, 50 * time.Millisecond, 51 * time.Millisecond},     // its quota: once the first hundredth of the window is free
		{500, 400 * time.Millisecond, 300 * time.Millisecond},   // of 800 ms, 400 are over and one window may be ahead
		{10, 15 * time.Millisecond, 1_385 * time.Millisecond},   // over a period of 1.5 s less one window
		{10, time.Hour, (maxDebt - 1) * defaultWindow},          // no more than that
		{999, 10 * time.Millisecond, 0},                         // within the quota
		{500, 49_900 * time.Microsecond, 0},                     // just within
		{100, 11 * time.Millisecond, 90_312 * time.Microsecond}, // till the window has it but for 10 ms less a 32nd
		{1, 50 * time.Microsecond, 0},                           // half of the quota
		{1, 1 * time.Millisecond, 899_000 * time.Microsecond},   // of 1 s
		{1000, time.Second, 0}, {4000, time.Second, 0},          // no quota
	} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Slots: 1})
			sh := s.Join(tt.millis)
			if err := sh.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(tt.slice)
			began := time.Now()
			if err := sh.Yield(t.Context()); err != nil {
				t.Fatal(err)
			}
			// Up to a bucket more, by which a window is longer where it is counted.
			if d := time.Since(began); d < tt.want || d > tt.want+defaultWindow/parts || tt.want == 0 && d != 0 {
				t.Errorf("%dm after %s waited %s, want %s", tt.millis, tt.slice, d, tt.want)
			}
			sh.Leave()
		})
	}
}

// TestBlockingDoesNotEvadeQuota has a guest that gives its slot back all the time.
func TestBlockingDoesNotEvadeQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		sh := s.Join(200)
		for sh.Acquire(ctx) == nil {
			time.Sleep(100 * time.Microsecond)
			sh.Release()
		}
		if used := sh.Used(); used < 1880*time.Millisecond || used > 2021*time.Millisecond {
			t.Errorf("used %s of 10s, want 2s", used)
		}
	})
}

// TestQuotaGivesTheSlotAway: who sleeps out a quota is in nobody's way.
func TestQuotaGivesTheSlotAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		small, large := s.Join(300), s.Join(1000)
		var wg sync.WaitGroup
		wg.Go(func() { spin(ctx, small, slice) })
		wg.Go(func() { spin(ctx, large, slice) })
		wg.Wait()
		// 300 of 1300 by weight, which is within its quota.
		if used := small.Used(); used < 2200*time.Millisecond || used > 2400*time.Millisecond {
			t.Errorf("the small one used %s, want 2.3s", used)
		}
		if total := small.Used() + large.Used(); total < 9990*time.Millisecond {
			t.Errorf("the slot was used for %s of 10s", total)
		}
	})
}
