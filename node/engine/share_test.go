package engine

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestAQuarterOfACore: a guest of 250m that always wants a core has one for a
// quarter of the time, and never for more. On a machine that is busy it may be
// less.
func TestAQuarterOfACore(t *testing.T) {
	e := newEngine(t, Config{Cores: 2})
	m := load(t, e, nodetest.Module(t, "spin"))
	const d = time.Second
	began := time.Now()
	exit := m.Run(t.Context(), RunConfig{CPU: 250, Deadline: d})
	wall := time.Since(began)
	if exit.Kind != Deadline {
		t.Fatalf("exit %+v", exit)
	}
	part := exit.CPU.Seconds() / wall.Seconds()
	t.Logf("%s of %s: %.1f%%", exit.CPU, wall, 100*part)
	if part > 0.28 {
		t.Errorf("it had a core for %s of %s, more than a quarter", exit.CPU, wall)
	}
	if part < 0.02 {
		t.Errorf("it had a core for %s of %s, much less than a quarter", exit.CPU, wall)
	}

	// With a whole one it has all that there is.
	began = time.Now()
	exit = m.Run(t.Context(), RunConfig{CPU: 1000, Deadline: d / 4})
	if part := exit.CPU.Seconds() / time.Since(began).Seconds(); part < 0.28 {
		t.Errorf("alone with two cores, a guest of one had it for %.0f%% of the time", 100*part)
	}
}

// TestACoreIsDividedByShares between two guests that always want it.
func TestACoreIsDividedByShares(t *testing.T) {
	e := newEngine(t, Config{Cores: 1})
	m := load(t, e, nodetest.Module(t, "spin"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	shares := []uint32{1000, 250}
	used := make([]time.Duration, len(shares))
	began := time.Now()
	var wg sync.WaitGroup
	for i, cpu := range shares {
		wg.Go(func() { used[i] = m.Run(ctx, RunConfig{CPU: cpu}).CPU })
	}
	wg.Wait()
	wall := time.Since(began)
	ratio := used[0].Seconds() / used[1].Seconds()
	t.Logf("%s and %s of %s: %.2f to 1", used[0], used[1], wall, ratio)
	if ratio < 2.5 || ratio > 6.5 {
		t.Errorf("shares of 4 to 1 had %s and %s: %.2f to 1", used[0], used[1], ratio)
	}
	if sum := used[0] + used[1]; sum > wall+wall/50 {
		t.Errorf("together they had %s of one core in %s", sum, wall)
	}
	if total := e.Usage().CPU; total < used[0]+used[1] {
		t.Errorf("the engine says that guests have used %s, and they have used %s", total, used[0]+used[1])
	}
}

// TestWhoSleepsUsesNoCore, and neither does a reactor that waits for calls.
func TestWhoSleepsUsesNoCore(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{Cores: 1})
	reactor := runReactor(t, e, "callee", RunConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var asleep Exit
	running := make(chan struct{})
	sleeper := load(t, e, nodetest.Module(t, "sleep"))
	wg.Go(func() { asleep = sleeper.Run(ctx, RunConfig{OnRunning: func() { close(running) }}) })
	<-running
	began := time.Now()
	res, err := reactor.call("work", "20000000")
	took := time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	if res.CPU <= 0 || res.CPU > took {
		t.Errorf("a call of %s had the core for %s", took, res.CPU)
	}
	cancel()
	wg.Wait()
	if exit := reactor.end(errTest); exit.CPU < res.CPU {
		t.Errorf("the run had the core for %s, and one of its calls for %s", exit.CPU, res.CPU)
	}
	if asleep.CPU > took/2 {
		t.Errorf("a guest that sleeps had the core for %s of %s", asleep.CPU, took)
	}
}

// TestCrashingDoesNotEvadeTheQuota: what one run has used the next one has not.
func TestCrashingDoesNotEvadeTheQuota(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{Cores: 2})
	m := load(t, e, nodetest.Module(t, "spin"))
	share := e.Share(100)
	defer share.Leave()
	runs := 0
	began := time.Now()
	for time.Since(began) < time.Second {
		// Each takes a millisecond or so, a tenth of what it may have of a window.
		if exit := m.Run(t.Context(), RunConfig{Share: share, Fuel: 1_000_000}); exit.Kind != CPU || exit.CPU <= 0 || exit.CPU > share.Used() {
			t.Fatalf("exit %+v, %s used in all", exit, share.Used())
		}
		runs++
	}
	wall := time.Since(began)
	t.Logf("%d runs had %s of %s", runs, share.Used(), wall)
	if part := share.Used().Seconds() / wall.Seconds(); part > 0.13 {
		t.Errorf("a tenth of a core was %.0f%%", 100*part)
	}
}
