package fsm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestRing holds the ring and copies of it against slices.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := uint64(rapid.IntRange(0, 2*ringChunk).Draw(t, "first"))
		r := newRing[int](first)
		var model []int
		type view struct {
			r     ring[int]
			model []int
		}
		var views []view
		next := 0
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			n := rapid.IntRange(0, ringChunk+10).Draw(t, "n")
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				for range n {
					r.push(next)
					model = append(model, next)
					next++
				}
			case 1:
				for range min(n, len(model)) {
					r.pop()
					model = model[1:]
					first++
				}
			default:
				views = append(views, view{r, slices.Clone(model)})
			}
			if want := len(model)/ringChunk + 2; len(r.chunks) > want || r.gone > len(r.chunks)+1 {
				t.Fatalf("%d elements take %d chunks, and %d that are gone", len(model), len(r.chunks), r.gone)
			}
		}
		for _, v := range append(views, view{r, model}) {
			var got []int
			at := v.r.first
			for n, e := range v.r.from(0) {
				if n != at {
					t.Fatalf("element %d follows %d", n, at-1)
				}
				at++
				got = append(got, *e)
			}
			if !slices.Equal(got, v.model) || v.r.len() != len(v.model) {
				t.Fatalf("ring has %v, want %v", got, v.model)
			}
		}
		if r.first != first {
			t.Fatalf("begins at %d, want %d", r.first, first)
		}
	})
}
