package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// TestTheNewestCrashesAreKept, each with its own stderr, and with a longer stack
// than the replicated record has.
func TestTheNewestCrashesAreKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stack := make([]string, wasmatrix.MaxDetailFrames)
		for i := range stack {
			stack[i] = fmt.Sprintf("f%d()", i)
		}
		c := newControl()
		runs := 0
		n := fakeNode(t, Config{Control: c, KeepLogs: 1, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			runs++
			cfg.OnRunning()
			if runs%2 == 0 { // of every other, all that it wrote
				_, _ = fmt.Fprintf(cfg.Stderr, "%s\n", strings.Repeat("x", 2*wasmatrix.MaxDetailStderr))
			}
			_, _ = fmt.Fprintln(cfg.Stdout, "not this")
			_, _ = fmt.Fprintf(cfg.Stderr, "end of %d\n", runs)
			return engine.Exit{Kind: engine.Trap, Message: "unreachable", Stack: stack, Fuel: 5, MemoryPeak: 6}
		}}})
		const retries = wasmatrix.MaxCrashes + 3
		execute(t, n, startOrder("i", 1, spec(restart(wasmatrix.RestartOnFailure, retries, wasmatrix.Backoff{Initial: time.Second, Multiplier: 1, Max: time.Second}))))
		time.Sleep(5500 * time.Millisecond) // in the backoff after the sixth
		check := func(first, last int) {
			t.Helper()
			details := n.CrashDetails("i")
			if len(details) != last-first+1 {
				t.Fatalf("%d crashes are kept, want %d to %d", len(details), first, last)
			}
			for i, d := range details {
				attempt := first + i
				if d.Epoch != 1 || d.Attempt != uint32(attempt) || !slices.Equal(d.Stack, stack) {
					t.Errorf("crash %d: epoch %d, attempt %d, %d frames", i, d.Epoch, d.Attempt, len(d.Stack))
				}
				end := fmt.Sprintf("end of %d\n", attempt)
				want := end
				if attempt%2 == 0 {
					want = strings.Repeat("x", wasmatrix.MaxDetailStderr-len(end)-1) + "\n" + end
				}
				if string(d.Stderr) != want {
					t.Errorf("crash %d: %d bytes of stderr: %.40q", attempt, len(d.Stderr), d.Stderr)
				}
			}
		}
		check(1, 6)
		time.Sleep(time.Hour)
		check(retries+1-wasmatrix.MaxCrashes+1, retries+1) // it has ended
		if len(held(n)) != 0 {
			t.Error("it is still held")
		}
		for _, r := range c.reports("i") {
			if r.Crash != nil && (len(r.Crash.Stack) != wasmatrix.MaxCrashFrames || r.Crash.Stack[0] != "f0()" || r.Crash.Fuel != 5 || r.Crash.MemoryPeak != 6) {
				t.Errorf("the record has %+v", r.Crash)
			}
		}
		if d := n.CrashDetails("never"); d != nil {
			t.Errorf("of nobody: %v", d)
		}
		// What is returned is the caller's.
		n.CrashDetails("i")[0].Attempt = 0
		check(retries+1-wasmatrix.MaxCrashes+1, retries+1)
		// It goes with the output, when others have ended.
		execute(t, n, startOrder("j", 1, spec()))
		time.Sleep(time.Hour)
		if d := n.CrashDetails("i"); d != nil {
			t.Errorf("%d crashes are kept of what is forgotten", len(d))
		}
		if d := n.CrashDetails("j"); len(d) != 1 {
			t.Errorf("%d crashes of the other", len(d))
		}
	})
}

// TestCrashesOfAnEarlierEpochAreKept where the next is on the same node.
func TestCrashesOfAnEarlierEpochAreKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			return exitTrap
		}}})
		for epoch := range uint64(3) {
			c.place("i", epoch+1)
			execute(t, n, startOrder("i", epoch+1, spec()))
			synctest.Wait()
		}
		var epochs []uint64
		for _, d := range n.CrashDetails("i") {
			epochs = append(epochs, d.Epoch)
		}
		if !slices.Equal(epochs, []uint64{1, 2, 3}) {
			t.Errorf("crashes of the epochs %v", epochs)
		}
	})
}

// TestCrashesOfAllInstancesAreBounded: the oldest of all go first, whosever they
// are, and those beyond what one instance may have.
func TestCrashesOfAllInstancesAreBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := &Node{instances: make(map[wasmatrix.InstanceID]*instance)}
		type crash struct {
			id      wasmatrix.InstanceID
			attempt uint32
		}
		var all []crash // as they should be kept, oldest first
		instances := rapid.IntRange(1, 600).Draw(t, "instances")
		step := rapid.IntRange(1, 50).Draw(t, "step")
		for i := range 6000 {
			id := wasmatrix.InstanceID(fmt.Sprint("i", i*step%instances))
			in := n.instances[id]
			if in == nil {
				in = &instance{id: id, epoch: 1}
				n.instances[id] = in
			}
			in.attempt++
			n.keepCrash(in, wasmatrix.CrashDetail{})
			all = append(all, crash{id, in.attempt})
			if old := (crash{id, in.attempt - wasmatrix.MaxCrashes}); in.attempt > wasmatrix.MaxCrashes {
				if at := slices.Index(all, old); at >= 0 {
					all = slices.Delete(all, at, at+1)
				}
			}
			if len(all) > maxCrashDetails {
				all = all[1:]
			}
		}
		want := make(map[wasmatrix.InstanceID][]uint32)
		for _, c := range all {
			want[c.id] = append(want[c.id], c.attempt)
		}
		total := 0
		for id := range n.instances {
			var got []uint32
			for _, d := range n.CrashDetails(id) {
				got = append(got, d.Attempt)
			}
			if total += len(got); !slices.Equal(got, want[id]) {
				t.Fatalf("%s: attempts %v, want %v", id, got, want[id])
			}
		}
		if total > maxCrashDetails || total != len(n.crashes.owners) {
			t.Fatalf("%d are kept, and %d counted", total, len(n.crashes.owners))
		}
	})
}
