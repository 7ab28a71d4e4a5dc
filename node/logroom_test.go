package node

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// TestAStreamOfSmallWritesHasTheRate, too: what many short moments give back adds
// up.
func TestAStreamOfSmallWritesHasTheRate(t *testing.T) {
	r := newLogRing(&logLimits{ring: 8 << 20, rate: 1000, total: 1 << 30})
	began := time.Unix(1, 0)
	for i := range 20_000 { // for ten seconds, twice as much as it may
		r.write(LogStdout, []byte("x"), began.Add(time.Duration(i)*500*time.Microsecond))
	}
	kept := 0
	chunks, _, _ := r.read(0, 0)
	for _, c := range chunks {
		kept += len(c.Data)
	}
	if kept < 10_500 || kept > 11_001 {
		t.Errorf("%d bytes are kept of 20,000 in ten seconds, at a rate of 1,000 a second", kept)
	}
}

// TestOutputThatIsForgottenDoesNotCount: once an ended instance's output has gone,
// others may have its room.
func TestOutputThatIsForgottenDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := fakeNode(t, Config{Control: newControl(), LogRing: 64 << 10, LogBytes: 100 << 10, KeepLogs: 1, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			for range 30 {
				fmt.Fprintf(cfg.Stdout, "%01023d\n", 0)
			}
			return exitOK
		}}})
		for i := range 20 {
			id := wasmatrix.InstanceID(fmt.Sprint("i", i))
			execute(t, n, startOrder(id, 1, spec()))
			synctest.Wait()
			if text, _ := logged(t, n, id); len(text) != 30<<10 {
				t.Fatalf("instance %d: %d bytes are kept of 30 KiB, and %d counted in all, of one ended instance", i, len(text), n.logs.used.Load())
			}
		}
	})
}

// TestStderrIsOfTheExecutionThatCrashed: one that could not be started wrote none.
func TestStderrIsOfTheExecutionThatCrashed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken error
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{err: func() error { return broken }, run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			fmt.Fprintln(cfg.Stderr, "of the first epoch")
			return exitTrap
		}}})
		execute(t, n, startOrder("i", 1, spec()))
		synctest.Wait()
		broken = wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "bad")
		c.place("i", 2)
		execute(t, n, startOrder("i", 2, spec()))
		synctest.Wait()
		d := n.CrashDetails("i")
		if len(d) != 2 || string(d[0].Stderr) != "of the first epoch\n" || len(d[1].Stderr) != 0 {
			t.Errorf("details %+v", d)
		}
	})
}
