package e2e

import (
	"path/filepath"
	"testing"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
)

// reactor is a tiny guest that stays.
func reactor(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(harness.Root(tb), "examples", "reactor", "reactor.wasm")
}

// background runs a load until the returned function is called, which waits
// for its last answers and fails the test for starts that were given up.
func background(t *testing.T, load *harness.Load, clients, total int) (finish func()) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		load.Run(t.Context(), stop, clients, total)
	}()
	stopped := false
	return func() {
		t.Helper()
		if total == 0 && !stopped {
			close(stop)
			stopped = true
		}
		<-done
		for _, err := range load.Failures() {
			t.Errorf("given up: %v", err)
		}
	}
}

// TestLeaderKilledUnderStarts kills the leader five times while 200 starts
// stream in: every acknowledged instance is present and runs, none twice (I1,
// I5, I8).
func TestLeaderKilledUnderStarts(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	const starts, kills = 200, 5
	load := harness.NewLoad(cl, digest, "job")
	for round := range kills {
		finish := background(t, load, 4, (round+1)*starts/kills)
		load.AwaitAcked(t, round*starts/kills+10)
		leader := c.Leader()
		leader.Kill()
		finish()
		leader.Start()
		c.WaitReady()
	}
	if got := load.Acked(); got != starts {
		t.Errorf("%d of %d starts acknowledged", got, starts)
	}
	c.AssertRunningOnce(cl, load.IDs())
}

// TestLeaderPaused stops the leader as a machine that hangs does, and lets it
// go on when another leads: it serves no stale read, and no write is lost (I1, I2).
func TestLeaderPaused(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	finish := background(t, load, 2, 0)
	load.AwaitAcked(t, 20)

	old := c.Leader()
	direct := c.Client(old)
	old.Pause()
	load.AwaitAcked(t, load.Acked()+20) // by its successor
	before := load.IDs()
	old.Resume()
	for range 20 {
		// Asked at once and again, the old leader must answer with what its
		// successor acknowledged, or not at all.
		got, err := harness.List(t.Context(), direct)
		if err != nil {
			t.Fatalf("reading at the old leader: %v", err)
		}
		for _, id := range before {
			if got[id] == nil {
				t.Fatalf("stale read at the old leader: %s was acknowledged and is missing", id)
			}
		}
	}
	finish()
	c.AssertRunningOnce(cl, load.IDs())
}
