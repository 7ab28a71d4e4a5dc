package dispatch_test

import (
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// The first ping may fail over a connection that broke with the process. It
// must cost no more than the second, which finds nobody listening.
func TestBrokenConnectionDoesNotDelayTheLossOfANode(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{100, 100}, func(t *testing.T, w *world, nodes []*process) {
		ids := w.mustStart(item("a", 40, w.spec()))
		w.await("all run", w.running(ids...))
		w.set(func() { w.resets = 1 })
		killed := time.Now()
		nodes[0].kill()
		w.await("all run elsewhere", w.running(ids...))
		if took := time.Since(killed); took > 100*time.Millisecond { // of the test's clock
			t.Errorf("it took %s", took)
		}
	})
}

// A node that lives survives pings that fail at once.
func TestPingsThatFailAtOnceCondemnNobodyWhoAnswers(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{100}, func(t *testing.T, w *world, _ []*process) {
		ids := w.mustStart(item("a", 4, w.spec()))
		w.await("all run", w.running(ids...))
		w.set(func() { w.resets = 2 })
		w.d().Suspect("n0", "a test says so")
		w.await("the pings have failed", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.resets == 0
		})
		time.Sleep(2 * time.Second) // of the test's clock: long enough for the third ping
		for _, id := range ids {
			if i, _ := w.state().Instance(id); i.Epoch != 1 {
				t.Errorf("%s is in epoch %d", id, i.Epoch)
			}
		}
	})
}
