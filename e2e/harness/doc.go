// Package harness runs real wasmatrix processes on loopback for end-to-end
// tests, the demo and the benchmarks: it writes their configuration, starts,
// kills, pauses and resumes them by process ID, and waits for conditions.
//
// Everything it starts is ended by the cleanup of the [TB] it was given.
package harness

import (
	"context"
	"time"
)

// TB is the part of testing.TB that the harness needs; the demo and the
// benchmarks bring their own.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
	Context() context.Context
	Failed() bool
}

// Patience bounds every wait for a condition. It is generous because machines
// that run tests are shared: nothing is measured by it.
const Patience = 60 * time.Second

// Eventually calls check until it returns nil, and fails the test with its last
// error when patience has run out.
func Eventually(tb TB, what string, check func(ctx context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), Patience)
	defer cancel()
	if err := Until(ctx, check); err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

// Until calls check until it returns nil or ctx ends, and returns its last error.
func Until(ctx context.Context, check func(ctx context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		// What the end of ctx itself cut short says nothing.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}
