package engine

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// TestABudgetIsUsedUpAtOnePlace, whatever slices it is given in: at the first
// place where more than the budget has been used.
func TestABudgetIsUsedUpAtOnePlace(t *testing.T) {
	e := newEngine(t, Config{})
	rapid.Check(t, func(t *rapid.T) {
		budget := rapid.Uint64Range(1, 60).Draw(t, "budget")
		costs := rapid.SliceOfN(rapid.Int64Range(1, 9), 1, 5).Draw(t, "costs") // of the guest's blocks, in turn
		slices := rapid.SliceOfN(rapid.Uint64Range(1, 40), 1, 5).Draw(t, "slices")
		var want uint64
		for i := 0; want <= budget; i++ {
			want += uint64(costs[i%len(costs)])
		}
		x := &execution{Context: t.Context(), s: &shared{e: e}, share: e.cores.Join(1000), budget: budget}
		defer x.share.Leave()
		if err := x.enter(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			x.leave()
			if err, _ := recover().(error); !errors.Is(err, errFuel) || x.spent != want {
				t.Fatalf("ended with %v after %d, want %d", err, x.spent, want)
			}
		}()
		left := int64(0) // as the meter counts
		for i := 0; ; i++ {
			if left -= costs[i%len(costs)]; left < 0 {
				x.slice = slices[i%len(slices)]
				left = int64(x.refill(left))
			}
		}
	})
}
