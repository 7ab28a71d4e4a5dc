package fsm

import (
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// Two IDs of one hash are as rare as it gets; they must be two requests all the
// same, also for readers of an earlier state.
func TestRequestsOfOneHashAreKeptApart(t *testing.T) {
	const a, b, c = wasmatrix.RequestID("a"), wasmatrix.RequestID("b"), wasmatrix.RequestID("c")
	w := newWindow()
	key := w.key(b)
	for _, id := range []wasmatrix.RequestID{a, b, c} {
		w.put(key, &request{id: id, body: [16]byte{id[0]}})
	}
	view := w
	view.byID = w.byID.Copy()
	has := func(w *window, id wasmatrix.RequestID) bool {
		e, _ := w.byID.Get(key)
		for e != nil && e.id != id {
			e = e.next
		}
		return e != nil && e.body == [16]byte{id[0]}
	}
	if e := w.get(b); e == nil || e.id != b {
		t.Fatalf("looked for b, found %v", e)
	}
	for n, id := range []wasmatrix.RequestID{b, a, c} {
		if !has(&w, id) {
			t.Fatalf("%s is gone", id)
		}
		w.remove(key, id)
		if has(&w, id) {
			t.Fatalf("%s is still there", id)
		}
		for _, left := range []wasmatrix.RequestID{b, a, c}[n+1:] {
			if !has(&w, left) {
				t.Fatalf("removing %s took %s along", id, left)
			}
		}
	}
	if w.byID.Len() != 0 {
		t.Fatalf("%d left", w.byID.Len())
	}
	for _, id := range []wasmatrix.RequestID{a, b, c} {
		if !has(&view, id) {
			t.Fatalf("a view of before lost %s", id)
		}
	}
}
