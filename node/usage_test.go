package node

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

func TestUsageCountsWhatHoldsAPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := fakeNode(t, Config{Control: newControl(), guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			return stay(ctx, cfg)
		}}})
		memory := func(s *wasmatrix.Spec) { s.Limits.Memory = 3 << 20 }
		execute(t, n, startOrder("a", 1, spec(memory)), startOrder("b", 1, spec(memory)))
		synctest.Wait()
		if u := n.Usage(true); u.Instances != 2 || u.Reserved != 6<<20 || u.Cores != 2 || u.Heap == 0 || u.Goroutines < 3 {
			t.Errorf("two instances: %+v", u)
		}
		execute(t, n, stopOrder("a", 1))
		synctest.Wait()
		if u := n.Usage(false); u.Instances != 1 || u.Reserved != 3<<20 {
			t.Errorf("one instance: %+v", u)
		}
	})
}

// TestPrepare passes on what the engine says, and declines once the node is
// closing.
func TestPrepare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := &guests{run: stay, prepare: true}
		n := fakeNode(t, Config{Control: newControl(), guests: g})
		if !n.Prepare(wasmatrix.DigestOf([]byte("m"))) {
			t.Error("declined, and the engine would have done it")
		}
		if err := n.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.Prepare(wasmatrix.DigestOf([]byte("m"))) {
			t.Error("prepared while it is closing")
		}
	})
}
