package engine

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestAFuelBudgetEndsWorkOfEveryKind. What is used beyond it is no more than what
// lies between two places where fuel is charged: a block of code, or what one bulk
// operation of 64 KiB costs.
func TestAFuelBudgetEndsWorkOfEveryKind(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for function, overrun := range map[string]uint64{"loop": 100, "recurse_again": 100, "fill": 70_000, "copy": 70_000} {
		for _, budget := range []uint64{1, 1000, 250_000, 3_000_000} {
			t.Run(fmt.Sprint(function, " ", budget), func(t *testing.T) {
				t.Parallel()
				r := runReactor(t, e, "fuel", RunConfig{Fuel: budget})
				_, err := r.call(function, "4000000000")
				exit := r.wait()
				if exit.Kind != CPU || exit.Message != "fuel budget used up" || len(exit.Stack) == 0 {
					t.Errorf("exit %+v", exit)
				}
				if exit.Fuel < budget || exit.Fuel > budget+overrun {
					t.Errorf("%d of fuel are used, of %d", exit.Fuel, budget)
				}
				endedUnder(t, err, wasmatrix.CodeCrashDetected, CPU, "fuel budget used up")
			})
		}
	}
}

// TestABudgetIsOfTheRun: all calls together use it up.
func TestABudgetIsOfTheRun(t *testing.T) {
	t.Parallel()
	const budget = 1_000_000
	r := runReactor(t, newEngine(t, Config{}), "fuel", RunConfig{Fuel: budget})
	var used uint64
	for {
		res, err := r.call("loop", "10000")
		if err != nil {
			endedUnder(t, err, wasmatrix.CodeCrashDetected, CPU, "fuel budget used up")
			break
		}
		if used += res.Fuel; used > budget {
			t.Fatalf("calls have used %d", used)
		}
	}
	if exit := r.wait(); exit.Fuel < budget || exit.Fuel > budget+100 || exit.Fuel < used {
		t.Errorf("%d are used of %d, %d of them by calls that returned", exit.Fuel, budget, used)
	}
}

// TestFuelIsTheSameInEveryRun: it depends on what is executed and on nothing else,
// such as the lengths of slices, which follow the clock.
func TestFuelIsTheSameInEveryRun(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	spent := func(function string, n int) uint64 {
		r := runReactor(t, e, "fuel", RunConfig{})
		res, err := r.call(function, strconv.Itoa(n))
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.call(function, strconv.Itoa(n))
		if err != nil || again.Fuel != res.Fuel {
			t.Errorf("%s(%d) used %d, and then %d, %v", function, n, res.Fuel, again.Fuel, err)
		}
		if exit := r.end(errTest); exit.Fuel != 2*res.Fuel {
			t.Errorf("the run used %d, and two calls of %d", exit.Fuel, res.Fuel)
		}
		return res.Fuel
	}
	rapid.Check(t, func(rt *rapid.T) {
		function := rapid.SampledFrom([]string{"loop", "recurse_again", "fill", "copy"}).Draw(rt, "function")
		n := rapid.IntRange(1, map[string]int{"loop": 300_000, "recurse_again": 2_000, "fill": 20, "copy": 20}[function]).Draw(rt, "n")
		first := spent(function, n)
		if second := spent(function, n); second != first {
			rt.Fatalf("%s(%d) used %d, and then %d", function, n, first, second)
		}
		// Each round costs the same: what it does and some for the round itself.
		if one, two := spent(function, 1), spent(function, 2); first != one+uint64(n-1)*(two-one) {
			rt.Fatalf("%s(%d) used %d; one round %d, two %d", function, n, first, one, two)
		}
	})
}

func TestBulkOperationsCostByTheirLength(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "fuel", RunConfig{})
	for _, function := range []string{"fill", "copy"} {
		res, err := r.call(function, "100")
		if err != nil {
			t.Fatal(err)
		}
		if loop, err := r.call("loop", "100"); err != nil || res.Fuel < 20*loop.Fuel {
			t.Errorf("100 times 64 KiB cost %d by %s, and 100 rounds that do nothing cost %d", res.Fuel, function, loop.Fuel)
		}
	}
}

// TestFuelIsCountedHoweverARunEnds, also without a budget.
func TestFuelIsCountedHoweverARunEnds(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for _, tt := range []struct {
		module string
		cfg    RunConfig
	}{
		{"return", RunConfig{}},
		{"trap", RunConfig{}},
		{"exit", RunConfig{Args: []string{"x"}}},
		{"overflow", RunConfig{}},
		{"grow", RunConfig{MemoryLimit: 1 << 20}},
		{"spin", RunConfig{Fuel: 1 << 20}},
	} {
		var used []uint64
		for range 3 {
			used = append(used, load(t, e, nodetest.Module(t, tt.module)).Run(t.Context(), tt.cfg).Fuel)
		}
		if tt.module != "return" && used[0] == 0 || used[1] != used[0] || used[2] != used[0] {
			t.Errorf("%s: %d", tt.module, used)
		}
	}
	exit := load(t, e, nodetest.Module(t, "spin")).Run(t.Context(), RunConfig{Deadline: 50 * time.Millisecond})
	if exit.Kind != Deadline || exit.Fuel < 1_000_000 || exit.CPU <= 0 {
		t.Errorf("spun for 50ms: %+v", exit)
	}
}
