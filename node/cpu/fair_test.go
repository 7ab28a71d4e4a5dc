package cpu

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// run lets guests that never block share slots, and returns what each has used.
// lengths are how long each one's slices are, in turn.
func run(t *testing.T, slots int, weights []uint32, lengths [][]time.Duration, d time.Duration) []time.Duration {
	used := make([]time.Duration, len(weights))
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: slots})
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		var wg sync.WaitGroup
		for i, w := range weights {
			wg.Go(func() {
				sh := s.Join(w)
				defer sh.Leave()
				if sh.Acquire(ctx) != nil {
					return
				}
				for n := 0; ; n++ {
					time.Sleep(lengths[i][n%len(lengths[i])])
					if sh.Yield(ctx) != nil {
						used[i] = sh.Used()
						return
					}
				}
			})
		}
		wg.Wait()
		if st := s.Stats(); st.Holding != 0 || st.Waiting != 0 || s.starts != 0 {
			t.Errorf("after all have left: %+v, starts %d", st, s.starts)
		}
	})
	return used
}

// due is the part that each weight is due of so many slots, where nobody can use
// more than one: who is due more gets one, and the others share the rest.
func due(slots int, weights []uint32) []float64 {
	out := make([]float64, len(weights))
	order := make([]int, len(weights))
	rest := 0.0
	for i, w := range weights {
		order[i] = i
		rest += float64(w)
	}
	slices.SortFunc(order, func(a, b int) int { return int(weights[b]) - int(weights[a]) })
	free := float64(slots)
	for _, i := range order {
		w := float64(weights[i])
		out[i] = min(1, free*w/rest)
		free -= out[i]
		rest -= w
	}
	return out
}

// TestSharesByWeight: over a long run, guests that never block get what their
// weights are due.
func TestSharesByWeight(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(1, 4).Draw(rt, "slots")
		weights := rapid.SliceOfN(rapid.Uint32Range(1000, 8000), 1, 12).Draw(rt, "weights")
		longest := time.Duration(0)
		lengths := make([][]time.Duration, len(weights))
		for i := range lengths {
			for _, us := range rapid.SliceOfN(rapid.IntRange(100, 2_000), 1, 5).Draw(rt, "slices") {
				lengths[i] = append(lengths[i], time.Duration(us)*time.Microsecond)
			}
			longest = max(longest, slices.Max(lengths[i]))
		}
		const d = 4 * time.Second
		used := run(t, slots, weights, lengths, d)
		for i, part := range due(slots, weights) {
			want := time.Duration(part * float64(d))
			// A few slices at the ends, and where slots are taken and given in
			// turns one may be a slice behind for good.
			if bound := 8*longest + d/50; used[i] < want-bound || used[i] > want+bound {
				rt.Errorf("weights %v on %d slots: share %d used %s, want %s within %s", weights, slots, i, used[i], want, bound)
			}
		}
	})
}

// TestSmallSharesByWeight: so do shares of less than a core when there are more
// than their quotas could fill.
func TestSmallSharesByWeight(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		weights := rapid.SliceOfN(rapid.Uint32Range(50, 900), 4, 20).Draw(rt, "weights")
		var sum uint32
		for _, w := range weights {
			sum += w
		}
		slots := int(min(sum/1500, 3))
		if slots == 0 {
			rt.Skip("quotas would bind")
		}
		lengths := make([][]time.Duration, len(weights))
		for i := range lengths {
			lengths[i] = []time.Duration{time.Duration(rapid.IntRange(200, 1_000).Draw(rt, "slice")) * time.Microsecond}
		}
		const d = 10 * time.Second
		used := run(t, slots, weights, lengths, d)
		for i, part := range due(slots, weights) {
			want := time.Duration(part * float64(d))
			if bound := 8*time.Millisecond + want/20; used[i] < want-bound || used[i] > want+bound {
				rt.Errorf("weights %v on %d slots: share %d used %s, want %s within %s", weights, slots, i, used[i], want, bound)
			}
		}
	})
}

// TestLeastWaitsOneSlice: as long as nobody comes who is due before it, the
// waiter with the least virtual time waits for one slice of a holder.
func TestLeastWaitsOneSlice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(1, 3).Draw(rt, "slots")
		weights := rapid.SliceOfN(rapid.Uint32Range(1000, 4000), slots, 8).Draw(rt, "weights")
		us := rapid.IntRange(50, 5_000).Draw(rt, "longest slice")
		longest := time.Duration(us) * time.Microsecond
		pause := rapid.SliceOfN(rapid.IntRange(1, 50_000), 1, 20).Draw(rt, "pauses")
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Slots: slots})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for i, w := range weights {
				wg.Go(func() { spin(ctx, s.Join(w), longest/time.Duration(1+i%3)) })
			}
			time.Sleep(longest)
			guest := s.Join(1000)
			time.Sleep(50 * longest)
			for _, us := range pause {
				time.Sleep(time.Duration(us) * time.Microsecond)
				s.mu.Lock()
				// It may have to wait for others while it is ahead of them.
				first := s.waiters.first()
				ahead := guest.virtual-s.fair.clock >= 0 || first != nil && guest.tag()-first.tag() >= 0
				s.mu.Unlock()
				began := time.Now()
				if err := guest.Acquire(ctx); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(began); !ahead && d > longest {
					rt.Errorf("waited %s, and the longest slice is %s", d, longest)
				}
				time.Sleep(longest / 20)
				guest.Release()
			}
			guest.Leave()
			cancel()
			wg.Wait()
		})
	})
}

// TestNothingIsSavedWithoutContention: while there is a slot for each,
// shares of very different weights run beside one another for long; then others
// come. None of the first has saved up anything, and none has to wait it out.
func TestNothingIsSavedWithoutContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: 2})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		heavy, light := s.Join(1_000_000), s.Join(1000)
		for _, sh := range []*Share{heavy, light} {
			wg.Go(func() { spin(ctx, sh, slice) })
		}
		time.Sleep(time.Minute)
		late := []*Share{s.Join(1000), s.Join(1000)}
		for _, sh := range late {
			wg.Go(func() { spin(ctx, sh, slice) })
		}
		before := light.Used()
		const d = 3 * time.Second
		time.Sleep(d)
		for i, got := range []time.Duration{light.Used() - before, late[0].Used(), late[1].Used()} {
			if got < d/3-20*time.Millisecond || got > d/3+20*time.Millisecond {
				t.Errorf("share %d of three that share a slot got %s of %s", i, got, d)
			}
		}
		cancel()
		wg.Wait()
	})
}

// TestOverdueWeightSavesNothing: a weight that is due more than the one slot it
// can use has no claim on more when others come, though there was no slot free.
func TestOverdueWeightSavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: 2})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		heavy := s.Join(4000)
		wg.Go(func() { spin(ctx, heavy, slice) })
		for range 2 {
			wg.Go(func() { spin(ctx, s.Join(1000), slice) })
		}
		time.Sleep(time.Minute)
		before := heavy.Used()
		for range 10 {
			wg.Go(func() { spin(ctx, s.Join(4000), slice) })
		}
		const d = 4 * time.Second
		time.Sleep(d)
		// 11 of weight 4000 and 2 of 1000 share 2 slots.
		want := 2 * d * 4 / 46
		if got := heavy.Used() - before; got < want-20*time.Millisecond || got > want+20*time.Millisecond {
			t.Errorf("the first one got %s of %s, want %s", got, d, want)
		}
		cancel()
		wg.Wait()
	})
}

// TestSleepersStarveNobody: more guests than there is time for wake up again and
// again, each behind its part and so before who never sleeps.
func TestSleepersStarveNobody(t *testing.T) {
	for _, weight := range []uint32{100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Slots: 1})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			spinner := s.Join(weight)
			wg.Go(func() { spin(ctx, spinner, slice) })
			for range 200 {
				wg.Go(func() {
					sh := s.Join(1000)
					for sh.Acquire(ctx) == nil {
						time.Sleep(slice)
						sh.Release()
						time.Sleep(90 * time.Millisecond) // 200 of them take 100 ms
					}
				})
			}
			wg.Wait()
			// The least that it is due is when all of them want the slot.
			if used := spinner.Used(); used < 40*time.Millisecond*time.Duration(weight)/1000 {
				t.Errorf("a spinner of %dm got %s of 10s", weight, used)
			}
		})
	}
}

// TestWakersDoNotOvertakeOneAnother: when many wake up at once, each comes
// before who never slept, but by no more than if it were the only one.
func TestWakersDoNotOvertakeOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wakers = 100
		s := New(Config{Slots: 1})
		ctx, cancel := context.WithCancel(t.Context())
		var shares []*Share
		for range wakers {
			shares = append(shares, s.Join(1000))
		}
		var wg sync.WaitGroup
		spinners := []*Share{s.Join(1000), s.Join(1000)}
		for _, sh := range spinners {
			wg.Go(func() { spin(ctx, sh, slice) })
		}
		time.Sleep(time.Second)
		for _, sh := range shares {
			wg.Go(func() { spin(ctx, sh, slice) })
			synctest.Wait()
		}
		before := spinners[0].Used() + spinners[1].Used()
		// Each is ahead by a bonus and what the first waiter may lag.
		time.Sleep(wakers*(2*bonus+slice) + 10*time.Millisecond)
		if spinners[0].Used()+spinners[1].Used()-before < 2*slice {
			t.Error("the spinners had no turn yet")
		}
		cancel()
		wg.Wait()
	})
}

// TestSleepSavesNothing: who has slept gets its part from then on, not more.
func TestSleepSavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: 1})
		ctx, cancel := context.WithCancel(t.Context())
		sleeper := s.Join(1000)
		var wg sync.WaitGroup
		for range 2 { // so that virtual time goes on
			wg.Go(func() { spin(ctx, s.Join(1000), slice) })
		}
		time.Sleep(10 * time.Second)
		wg.Go(func() { spin(ctx, sleeper, slice) })
		const d = 30 * time.Millisecond
		time.Sleep(d)
		if used := sleeper.Used(); used > d/3+bonus+2*slice {
			t.Errorf("used %s of %s beside two others", used, d)
		}
		cancel()
		wg.Wait()
	})
}

// TestVirtualTimeWraps: the order holds where virtual time overflows.
func TestVirtualTimeWraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Slots: 1})
		s.fair.clock = 1<<63 - 1 - int64(10*time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		shares := []*Share{s.Join(1000), s.Join(1000), s.Join(2000)}
		var wg sync.WaitGroup
		for _, sh := range shares {
			wg.Go(func() { spin(ctx, sh, slice) })
		}
		wg.Wait()
		if s.fair.clock > 0 {
			t.Errorf("the clock is %d and has not wrapped", s.fair.clock)
		}
		for i, want := range []time.Duration{250 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond} {
			if d := shares[i].Used() - want; d < -5*time.Millisecond || d > 5*time.Millisecond {
				t.Errorf("share %d used %s, want %s", i, shares[i].Used(), want)
			}
		}
	})
}
