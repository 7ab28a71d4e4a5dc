package fsm

import (
	"hash/maphash"

	"github.com/tidwall/btree"

	"github.com/wasmatrix/wasmatrix"
)

// window remembers the requests that had their effect, so that a retry has none.
// A request is remembered while it is in the window, even when its time has
// run out and its turn to be evicted has not come.
//
// It is looked up several times for every write, and the IDs are long and
// random: by their hashes that takes a third of the time. The seed is this
// process's own, so nobody can choose IDs that share one; what is observable
// does not depend on it.
type window struct {
	byID  *btree.Map[uint64, *request]
	seed  maphash.Seed
	byAge ring[*request]
}

// request is immutable once it is in the window.
type request struct {
	id        wasmatrix.RequestID
	body      [16]byte
	at        wasmatrix.Time
	instances []wasmatrix.InstanceID // created or concerned
	next      *request               // has the same hash, nearly always nil
}

func newWindow() window {
	return window{
		byID:  btree.NewMap[uint64, *request](treeDegree),
		seed:  maphash.MakeSeed(),
		byAge: newRing[*request](0),
	}
}

func (w *window) key(id wasmatrix.RequestID) uint64 { return maphash.String(w.seed, string(id)) }

// find returns the remembered request of this ID, or nil. If it asked for
// something else, the error is CONFLICT.
func (w *window) find(r wasmatrix.Request) (*request, *wasmatrix.Error) {
	if r.ID == "" {
		return nil, nil
	}
	e := w.get(r.ID)
	if e == nil {
		return nil, nil
	}
	if e.body != r.Body {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "request ID %q was used for another request", r.ID)
	}
	return e, nil
}

// get returns the remembered request of this ID, or nil.
func (w *window) get(id wasmatrix.RequestID) *request {
	e, _ := w.byID.Get(w.key(id))
	for e != nil && e.id != id {
		e = e.next
	}
	return e
}

// add remembers a request that find does not find.
func (w *window) add(e *request) {
	w.put(w.key(e.id), e)
	w.byAge.push(e)
}

func (w *window) put(key uint64, e *request) { e.next, _ = w.byID.Set(key, e) }

// remove forgets the request of an ID under its key.
func (w *window) remove(key uint64, id wasmatrix.RequestID) {
	e, _ := w.byID.Delete(key)
	for ; e != nil; e = e.next {
		if e.id != id { // copied, since views read the old chain
			c := *e
			w.put(key, &c)
		}
	}
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
		w.remove(w.key(oldest.id), oldest.id)
		w.byAge.pop()
	}
}
