package store

import (
	"bytes"
	"io"
	"testing"

	"pgregory.net/rapid"
)

// P22: the same log gives the same state, and a snapshot and restore at any cut
// changes nothing.
func TestP22_KVSameLogSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &drawer{}
		straight, other, restored := New(small), New(small), New(small)
		type taken struct {
			write func(io.Writer) error
			hash  [32]byte
		}
		var views []taken
		cut := rapid.IntRange(0, 59).Draw(t, "cut")
		for n := range rapid.IntRange(1, 60).Draw(t, "commands") {
			b := must(d.draw(t))
			index := uint64(n/4 + 1)
			a := answerText(t, straight.Apply(index, b))
			if w, ok := a.(Written); ok {
				d.last = w.Revision
			}
			for _, s := range []*Store{other, restored} {
				if got := answerText(t, s.Apply(index, bytes.Clone(b))); !sameAnswer(a, got) {
					t.Fatalf("command %d answers %#v here and %#v there", n, a, got)
				}
			}
			if n == cut || n%17 == 16 {
				var buf bytes.Buffer
				if err := restored.Snapshot()(&buf); err != nil {
					t.Fatal(err)
				}
				if err := Verify(bytes.NewReader(buf.Bytes())); err != nil {
					t.Fatal(err)
				}
				restored = New(small)
				if err := restored.Restore(&buf); err != nil {
					t.Fatal(err)
				}
			}
			if n%7 == 0 {
				views = append(views, taken{straight.Snapshot(), straight.Hash()})
			}
		}
		want := straight.Hash()
		if other.Hash() != want || restored.Hash() != want {
			t.Fatal("the same log gave another state")
		}
		var first, second bytes.Buffer
		if straight.Snapshot()(&first) != nil || restored.Snapshot()(&second) != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatal("the same state gave another snapshot")
		}
		// What was taken earlier is as it was, whatever has been applied since.
		for _, v := range views {
			var buf bytes.Buffer
			if err := v.write(&buf); err != nil {
				t.Fatal(err)
			}
			info, err := Inspect(&buf)
			if err != nil || info.Hash != v.hash {
				t.Fatalf("a snapshot of earlier has changed (%v)", err)
			}
		}
	})
}

func sameAnswer(a, b any) bool {
	x, ok := a.([]Fence)
	if !ok {
		return a == b
	}
	y, ok := b.([]Fence)
	if !ok || len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			return false
		}
	}
	return true
}
