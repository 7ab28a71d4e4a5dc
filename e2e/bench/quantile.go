package main

import (
	"fmt"
	"slices"
	"time"
)

// quantile returns the nearest-rank q-quantile of d, 0 <= q <= 1.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func spread(d []time.Duration) string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s (n=%d)", short(quantile(d, 0.5)), short(quantile(d, 0.99)), short(quantile(d, 1)), len(d))
}

// short rounds to three significant digits or so.
func short(d time.Duration) time.Duration {
	switch {
	case d > 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d > 100*time.Millisecond:
		return d.Round(time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	default:
		return d.Round(100 * time.Nanosecond)
	}
}
