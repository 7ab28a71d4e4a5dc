package fsm

import (
	"bytes"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

// TestP22_SameLogSameState feeds one random log to peers that live differently:
// one plainly; one that is torn down and restored from a snapshot at random
// cuts; and one that readers fork after every command, at another GOMAXPROCS.
func TestP22_SameLogSameState(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	rapid.Check(t, func(t *rapid.T) {
		var gen commandGen
		plain := newMachine(t, smallOptions)
		gen.warm(plain)
		restored, forked := New(smallOptions), New(smallOptions)
		type held struct {
			s    *State
			hash [32]byte
		}
		var views []held
		steps := rapid.IntRange(1, 120).Draw(t, "steps")
		for n := 0; n < len(plain.log) || len(plain.log) < steps; n++ {
			if n == len(plain.log) {
				plain.do(gen.draw(t, plain.fsm.State()))
			}
			index, cmd := uint64(n+1), plain.log[n]
			restored.Apply(index, cmd)
			forked.Apply(index, cmd)
			s := forked.State()
			if n%7 == 0 {
				views = append(views, held{s, s.Hash()})
				runtime.GOMAXPROCS(1 + n%3)
			}
			checkInvariants(t, s, smallOptions)
			if rapid.IntRange(0, 15).Draw(t, "cut") == 0 {
				restored = throughSnapshot(t, restored.State(), smallOptions)
				if restored.State().Hash() != s.Hash() {
					t.Fatalf("a snapshot changed the state after command %d", index)
				}
			}
		}
		want := plain.fsm.State().Hash()
		if restored.State().Hash() != want || forked.State().Hash() != want {
			t.Fatalf("states differ: %x, restored %x, forked %x", want, restored.State().Hash(), forked.State().Hash())
		}
		if id := plain.fsm.State().Cluster(); restored.State().Cluster() != id || forked.State().Cluster() != id {
			t.Fatalf("cluster IDs differ: %q, restored %q, forked %q", id, restored.State().Cluster(), forked.State().Cluster())
		}
		checkInvariants(t, restored.State(), smallOptions)
		for _, v := range views {
			if v.s.Hash() != v.hash {
				t.Fatalf("the view at index %d was changed by later commands", v.s.Index())
			}
		}
	})
}

// TestP22_SnapshotIsOfTheMoment writes snapshots while commands are applied.
func TestP22_SnapshotIsOfTheMoment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var gen commandGen
		m := newMachine(t, smallOptions)
		gen.warm(m)
		type taken struct {
			hash  [32]byte
			index uint64
			buf   bytes.Buffer
			err   error
		}
		var wg sync.WaitGroup
		var all []*taken
		for range rapid.IntRange(2, 60).Draw(t, "steps") {
			m.do(gen.draw(t, m.fsm.State()))
			if rapid.IntRange(0, 5).Draw(t, "snapshot") == 0 {
				s := m.fsm.State()
				k := &taken{hash: s.Hash(), index: s.Index()}
				all = append(all, k)
				write := m.fsm.Snapshot()
				wg.Go(func() { k.err = write(&k.buf) })
			}
		}
		wg.Wait()
		for _, k := range all {
			if k.err != nil {
				t.Fatalf("write: %v", k.err)
			}
			info, err := InspectSnapshot(&k.buf)
			if err != nil {
				t.Fatalf("inspect: %v", err)
			}
			if info.Hash != k.hash || info.Index != k.index {
				t.Fatalf("the snapshot at %d is of %d, hash %x, want %x", k.index, info.Index, info.Hash, k.hash)
			}
		}
	})
}

// TestConcurrentReaders is for the race detector: readers of views and waiters
// while commands are applied and the state is replaced.
func TestConcurrentReaders(t *testing.T) {
	m := newMachine(t, smallOptions).seed("n1", "n2")
	var buf bytes.Buffer
	if err := m.fsm.Snapshot()(&buf); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				changed := m.fsm.Changed()
				s := m.fsm.State()
				checkInvariants(t, s, smallOptions)
				s.Hash()
				select {
				case <-done:
					return
				case <-changed:
				}
			}
		})
	}
	for n := range 300 {
		id := wasmatrix.InstanceID("i" + string(rune('a'+n%20)))
		node := wasmatrix.NodeID([]string{"n1", "n2"}[n%2])
		m.do(wasmatrix.StartInstances{At: m.now, Items: []wasmatrix.StartItem{{
			Request: wasmatrix.Request{ID: wasmatrix.RequestID(id)}, Spec: testSpec(wasmatrix.RestartAlways), Placements: []wasmatrix.Placement{{Instance: id, Node: node}},
		}}})
		m.report(node, "boot-1", wasmatrix.Report{Instance: id, Epoch: 1, Attempt: uint32(n + 1), Seq: 1, Status: wasmatrix.StatusRunning})
		if n%100 == 99 {
			if err := m.fsm.Restore(bytes.NewReader(buf.Bytes())); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	m.do(wasmatrix.InitCluster{})
	wg.Wait()
}
