package node

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// TestAlwaysFollowsItsSchedule, written out: the delays double up to the longest,
// whether the guest fails or ends, and begin anew after it has run for long enough.
func TestAlwaysFollowsItsSchedule(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		var began []time.Duration
		first := time.Now()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			began = append(began, time.Since(first))
			switch len(began) {
			case 7: // for as long as makes it healthy
				cfg.OnRunning()
				time.Sleep(time.Minute)
				return exitTrap
			case 10:
				return stay(ctx, cfg)
			}
			cfg.OnRunning()
			return []engine.Exit{exitOK, exitTrap}[len(began)%2]
		}}})
		execute(t, n, startOrder("i", 1, spec(restart(wasmatrix.RestartAlways, 0, wasmatrix.Backoff{
			Initial: time.Second, Multiplier: 2, Max: 10 * time.Second, Reset: time.Minute,
		}))))
		time.Sleep(24 * time.Hour)
		var delays []time.Duration
		for i := 1; i < len(began); i++ {
			delays = append(delays, began[i]-began[i-1])
		}
		const s = time.Second
		want := []time.Duration{1 * s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s, 61 * s, 2 * s, 4 * s}
		if !slices.Equal(delays, want) {
			t.Errorf("executions began %v apart, want %v", delays, want)
		}
		if i := c.instance("i"); i.Status != wasmatrix.StatusRunning || i.Restarts != 9 {
			t.Errorf("%s after %d restarts", i.Status, i.Restarts)
		}
	})
}
