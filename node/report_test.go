package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// life is what a guest of TestP9 does: run for these times, failing or not, and
// then stay, unless it is stopped before.
type life struct {
	Runs   []time.Duration
	Fails  []bool
	Mode   wasmatrix.RestartMode
	Stop   time.Duration // when it is stopped; 0 is never
	Repeat bool          // orders are sent again now and then
}

// TestP9_ReportsConverge runs instances under a control plane that loses
// requests and answers, repeats requests, and delivers them late and out of
// order. Once it works again it knows of every instance what the instance did.
func TestP9_ReportsConverge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		lives := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) life {
			n := rapid.IntRange(0, 12).Draw(rt, "n")
			short := rapid.Map(rapid.IntRange(0, 2000), func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond })
			return life{
				Runs:  rapid.SliceOfN(short, n, n).Draw(rt, "runs"),
				Fails: rapid.SliceOfN(rapid.Bool(), n, n).Draw(rt, "fails"),
				Mode:  rapid.SampledFrom([]wasmatrix.RestartMode{wasmatrix.RestartNever, wasmatrix.RestartOnFailure, wasmatrix.RestartAlways}).Draw(rt, "mode"),
				Stop:  rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 1500 * time.Millisecond}).Draw(rt, "stop"), Repeat: rapid.Bool().Draw(rt, "repeat"),
			}
		}), 1, 6).Draw(rt, "lives")
		seed := rapid.Uint64().Draw(rt, "seed")
		within(t, rt, func(t *testing.T) error { return converge(t, lives, seed) })
	})
}

func converge(t *testing.T, lives []life, seed uint64) error {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	chance := func(p float64) bool {
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64() < p
	}
	draw := func(most time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rng.Int64N(int64(most)))
	}
	c := newControl()
	healthy := time.Now().Add(10 * time.Second)
	var late sync.WaitGroup
	deliver := func(reports []wasmatrix.Report) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, r := range reports {
			c.apply(r)
		}
	}
	c.onCall = func(verb string, reports []wasmatrix.Report) error {
		if !time.Now().Before(healthy) {
			return nil
		}
		if chance(0.3) {
			return errBroken // lost on the way there
		}
		if verb != "report" {
			return nil
		}
		if chance(0.3) { // a copy strays, and arrives long after
			copied := slices.Clone(reports)
			rest := draw(8 * time.Second)
			late.Go(func() {
				time.Sleep(rest)
				deliver(copied)
			})
		}
		time.Sleep(draw(100 * time.Millisecond))
		if chance(0.3) {
			deliver(reports)
			return errBroken // lost on the way back
		}
		return nil
	}

	runs := make([]int, len(lives))
	active := make([]bool, len(lives))
	n := fakeNode(t, Config{Control: c, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
		var i int
		if _, err := fmt.Sscan(cfg.Args[1], &i); err != nil {
			return engine.Exit{Kind: engine.Host}
		}
		run := runs[i]
		runs[i]++
		active[i] = true
		defer func() { active[i] = false }()
		cfg.OnRunning()
		if run >= len(lives[i].Runs) {
			<-ctx.Done()
			return engine.Exit{Kind: engine.Cancelled}
		}
		if !pause(ctx, lives[i].Runs[run]) {
			return engine.Exit{Kind: engine.Cancelled}
		}
		if lives[i].Fails[run] {
			return exitTrap
		}
		return exitOK
	}}})
	id := func(i int) wasmatrix.InstanceID { return wasmatrix.InstanceID(fmt.Sprint("i", i)) }
	start := func(i int) wasmatrix.Order {
		return startOrder(id(i), 1, spec(restart(lives[i].Mode, 0, wasmatrix.Backoff{Initial: 10 * time.Millisecond, Multiplier: 1, Max: time.Second}),
			func(s *wasmatrix.Spec) { s.Args = []string{fmt.Sprint(i)} }))
	}
	var orders sync.WaitGroup
	for i, l := range lives {
		c.place(id(i), 1)
		execute(t, n, start(i))
		orders.Go(func() {
			if l.Repeat {
				time.Sleep(700 * time.Millisecond)
				execute(t, n, start(i))
			}
			if l.Stop > 0 {
				time.Sleep(l.Stop)
				execute(t, n, stopOrder(id(i), 1))
			}
			if l.Repeat {
				time.Sleep(5 * time.Second)
				execute(t, n, start(i))
			}
		})
	}
	orders.Wait()
	time.Sleep(time.Minute)
	late.Wait()
	synctest.Wait()

	for i, l := range lives {
		got := c.instance(id(i))
		status := wasmatrix.StatusRunning
		if !active[i] {
			status = wasmatrix.StatusStopped
			last := runs[i] - 1
			if l.Mode == wasmatrix.RestartNever && last >= 0 && last < len(l.Fails) && l.Fails[last] && got.Status != wasmatrix.StatusStopped {
				status = wasmatrix.StatusCrashed // unless the stop came first
			}
		}
		if got.Status != status || int(got.Attempt) != max(1, runs[i]) || int(got.Restarts) != max(1, runs[i])-1 {
			return fmt.Errorf("%s: the control plane believes %s, attempt %d, %d restarts; it is %s after %d runs",
				id(i), got.Status, got.Attempt, got.Restarts, status, runs[i])
		}
		if _, ok := held(n)[id(i)]; ok != active[i] {
			return fmt.Errorf("%s: held is %v, active %v", id(i), ok, active[i])
		}
	}
	return nil
}

func TestUnacknowledgedReportsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			time.Sleep(time.Millisecond)
			return exitTrap
		}}})
		synctest.Wait()
		c.set(func() { c.away = true })
		execute(t, n, startOrder("i", 1, spec(restart(wasmatrix.RestartOnFailure, 1000, wasmatrix.Backoff{Multiplier: 1}))))
		time.Sleep(time.Minute)
		n.mu.Lock()
		pending := len(n.instances["i"].pending)
		n.mu.Unlock()
		if pending > maxPending {
			t.Errorf("%d reports are kept", pending)
		}
		c.set(func() { c.away = false })
		time.Sleep(time.Minute)
		i := c.instance("i")
		if i.Status != wasmatrix.StatusCrashed || i.Restarts != 1000 || i.Attempt != 1001 || i.Seq != 2*1001 {
			t.Errorf("the control plane believes %+v", i)
		}
		got := c.reports("i")
		if len(got) != maxPending || got[0].Status != wasmatrix.StatusRunning || got[0].Seq != i.Seq-maxPending+1 {
			t.Errorf("not the newest %d reports arrived, but %d: %s", maxPending, len(got), summary(got))
		}
		if len(held(n)) != 0 {
			t.Error("still held")
		}
	})
}

func TestReportsWaitForNobodyAndTravelTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		c.onCall = func(verb string, _ []wasmatrix.Report) error {
			if verb == "report" {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		}
		n := fakeNode(t, Config{Control: c, guests: &guests{run: stay}})
		synctest.Wait()
		began := time.Now()
		execute(t, n, startOrder("first", 1, spec()))
		synctest.Wait()
		var orders []wasmatrix.Order
		for i := range 2500 {
			orders = append(orders, startOrder(wasmatrix.InstanceID(fmt.Sprint("i", i)), 1, spec()))
		}
		execute(t, n, orders...)
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if i := c.instance("first"); i.Status != wasmatrix.StatusRunning || time.Since(began) != 10*time.Millisecond {
			t.Errorf("first is %s after %s", i.Status, time.Since(began))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []int{1, 1000, 1000, 500}; !slices.Equal(c.batches, want) {
			t.Errorf("batches of %v, want %v", c.batches, want)
		}
	})
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		long := engine.Exit{Kind: engine.Trap, Message: strings.Repeat("m", wasmatrix.MaxCrashMessage)}
		for range wasmatrix.MaxCrashFrames {
			long.Stack = append(long.Stack, strings.Repeat("f", wasmatrix.MaxCrashFrame))
		}
		c.onCall = func(_ string, reports []wasmatrix.Report) error {
			size := 0
			for i := range reports {
				size += reportSize(&reports[i])
			}
			if size > maxBatchBytes {
				t.Errorf("a batch of %d bytes", size)
			}
			return nil
		}
		c.away = true
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(context.Context, engine.RunConfig) engine.Exit { return long }}})
		var orders []wasmatrix.Order
		for i := range 900 {
			orders = append(orders, startOrder(wasmatrix.InstanceID(fmt.Sprint("i", i)), 1, spec()))
		}
		execute(t, n, orders...)
		synctest.Wait()
		c.set(func() { c.away = false })
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(c.arrived()) != 900 || len(c.batches) < 3 {
			t.Errorf("%d reports in batches of %v", len(c.arrived()), c.batches)
		}
	})
}
