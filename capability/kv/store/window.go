package store

import "github.com/wasmatrix/wasmatrix"

// window remembers writes, so that one that comes again gets the answer of the
// first. A write is remembered while it is in the window, even when its time has
// run out and its turn to be forgotten has not come.
type window struct {
	// byAge is only appended to, and cut at its beginning: a copy of the header is
	// a view of that moment.
	byAge []write
	first uint64              // number of byAge[0]
	index map[[16]byte]uint64 // to the number, never iterated; nil in a fork
	peak  int                 // of the index since it was made
}

// result is how a write was answered. Its values are those of the schema.
type result uint8

const (
	resultSet result = iota + 1
	resultConflict
	resultKeysExhausted
	resultBytesExhausted
	resultDeleted
	resultAbsent
	resultStoreExhausted
	results
)

// write is one that was answered.
type write struct {
	id       [16]byte
	at       wasmatrix.Time
	revision uint64 // given, or found by a conflict
	bound    uint64 // the quota that was reached
	body     uint32 // CRC-32C of what was asked
	result   result
}

func newWindow() window { return window{index: make(map[[16]byte]uint64)} }

func (w *window) find(id [16]byte) (write, bool) {
	n, ok := w.index[id]
	if !ok {
		return write{}, false
	}
	return w.byAge[n-w.first], true
}

// add remembers a write that find does not find.
func (w *window) add(e write) {
	w.index[e.id] = w.first + uint64(len(w.byAge))
	w.byAge = append(w.byAge, e)
	w.peak = max(w.peak, len(w.index))
}

// evict forgets the oldest writes: all beyond maxLen, and at most limit of those
// from before the given time, so that the work after an idle time is spread over
// the commands that follow.
func (w *window) evict(before wasmatrix.Time, maxLen, limit int) {
	for len(w.byAge) > 0 {
		switch {
		case len(w.byAge) > maxLen:
		case w.byAge[0].at < before && limit > 0:
			limit--
		default:
			return
		}
		delete(w.index, w.byAge[0].id)
		w.byAge = w.byAge[1:]
		w.first++
		w.shrink()
	}
}

// shrink gives back what the index took in a burst: a map never does by itself.
func (w *window) shrink() {
	const large = 1 << 14
	if w.peak < large || len(w.index) > w.peak/8 {
		return
	}
	w.index = make(map[[16]byte]uint64, len(w.byAge))
	for i := range w.byAge {
		w.index[w.byAge[i].id] = w.first + uint64(i)
	}
	w.peak = len(w.index)
}
