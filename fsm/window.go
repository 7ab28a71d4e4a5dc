package fsm

import (
	"github.com/tidwall/btree"

	"github.com/wasmatrix/wasmatrix"
)

// window remembers the requests that had their effect, so that a retry has none.
// A request is remembered while it is in the window, even when its time has
// run out and its turn to be evicted has not come.
type window struct {
	byID  *btree.Map[wasmatrix.RequestID, *request]
	byAge ring[*request]
}

// request is immutable.
type request struct {
	id        wasmatrix.RequestID
	body      [16]byte
	at        wasmatrix.Time
	instances []wasmatrix.InstanceID // created or concerned
}

func newWindow() window {
	return window{
		byID:  btree.NewMap[wasmatrix.RequestID, *request](treeDegree),
		byAge: newRing[*request](0),
	}
}

// find returns the remembered request of this ID, or nil. If it asked for
// something else, the error is CONFLICT.
func (w *window) find(r wasmatrix.Request) (*request, *wasmatrix.Error) {
	if r.ID == "" {
		return nil, nil
	}
	e, ok := w.byID.Get(r.ID)
	if !ok {
		return nil, nil
	}
	if e.body != r.Body {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "request ID %q was used for another request", r.ID)
	}
	return e, nil
}

// add remembers a request that find does not find.
func (w *window) add(e *request) {
	w.byID.Set(e.id, e)
	w.byAge.push(e)
}

// evict forgets the oldest requests: all beyond maxLen, and at most limit of
// those from before the given time. The limit spreads the work after an idle
// time over the commands that follow.
func (w *window) evict(before wasmatrix.Time, maxLen, limit int) {
	for w.byAge.len() > 0 {
		oldest := *w.byAge.at(w.byAge.first)
		switch {
		case w.byAge.len() > maxLen:
		case oldest.at < before && limit > 0:
			limit--
		default:
			return
		}
		w.byID.Delete(oldest.id)
		w.byAge.pop()
	}
}
