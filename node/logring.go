package node

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxPiece   = 4 << 10 // bytes of one piece, so that few are lost at a time
	pieceGrain = 64      // pieces are allocated in multiples of this
	pieceCost  = 64      // what a piece costs beside its bytes, about
	// joinWithin is how old a piece may be to which more is appended: what a
	// program writes byte by byte should not cost a piece each.
	joinWithin = 100 * time.Millisecond
)

// logRing keeps the newest output of one instance, of both streams in the order
// in which they were written. Writers never wait for readers. An instance that
// writes nothing costs nothing but the struct.
type logRing struct {
	limits *logLimits

	mu      sync.Mutex // guards all below
	pieces  []piece    // oldest first
	size    int
	next    uint64        // offset behind the last byte; offsets count the bytes of both streams
	users   int           // instances that may still write
	gone    bool          // discarded
	changed chan struct{} // not nil while a reader waits; closed by the next change
	// spare is how many bytes may be written now; it grows with time, from when
	// it was last told.
	spare  int
	spared time.Time
}

// logLimits are common to the rings of a node.
type logLimits struct {
	ring  int   // bytes of a ring, with all costs
	rate  int   // bytes that a ring takes a second; as many at once
	total int64 // bytes of all rings, beyond which each keeps leastRing

	used atomic.Int64
}

// leastRing is what a ring may keep however much the others do.
const leastRing = 4 << 10

// now is what a ring may keep.
func (l *logLimits) now() int {
	if l.used.Load() > l.total {
		return min(l.ring, leastRing)
	}
	return l.ring
}

// piece is bytes of one stream that were written at about one time. The bytes
// up to len(data) never change, so that readers may keep them.
type piece struct {
	stream LogStream
	at     time.Time
	offset uint64
	data   []byte
}

func newLogRing(limits *logLimits) *logRing { return &logRing{limits: limits} }

// open counts a writer in, release out: readers who follow wait as long as
// there is one.
func (r *logRing) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users++
}

func (r *logRing) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users--
	r.announce()
}

// announce wakes the readers. The caller holds mu.
func (r *logRing) announce() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// writer writes to a ring as one stream.
type writer struct {
	ring   *logRing
	stream LogStream
}

func (r *logRing) writer(s LogStream) writer { return writer{r, s} }

// Write copies p. It neither fails nor blocks.
func (w writer) Write(p []byte) (int, error) {
	w.ring.write(w.stream, p, time.Now())
	return len(p), nil
}

func (r *logRing) write(stream LogStream, p []byte, at time.Time) {
	if len(p) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	if over := len(p) - r.allow(len(p), at); over > 0 {
		r.next += uint64(over)
		p = p[over:]
	}
	limit := r.limits.now()
	if over := len(p) - limit; over > 0 {
		r.next += uint64(over)
		p = p[over:]
	}
	before := r.size
	for len(p) > 0 {
		p = p[r.append(stream, p, at):]
	}
	for r.size > limit && len(r.pieces) > 1 {
		r.size -= cap(r.pieces[0].data) + pieceCost
		r.pieces[0] = piece{}
		r.pieces = r.pieces[1:]
	}
	r.limits.used.Add(int64(r.size - before))
	r.announce()
}

// discard forgets what the ring has, so that others may have its room. Nothing is
// kept of what is written later.
func (r *logRing) discard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits.used.Add(-int64(r.size))
	r.gone, r.size, r.pieces = true, 0, nil
	r.announce()
}

// allow takes up to n bytes from what may be written at a time. The caller holds mu.
func (r *logRing) allow(n int, at time.Time) int {
	rate := r.limits.rate
	switch passed := at.Sub(r.spared); {
	case r.spared.IsZero() || passed >= time.Second:
		r.spare, r.spared = rate, at
	case passed > 0:
		// Only the time of whole bytes is over: the rest adds up.
		gain := int64(rate) * int64(passed) / int64(time.Second)
		r.spare = min(rate, r.spare+int(gain))
		r.spared = r.spared.Add(time.Duration(gain * int64(time.Second) / int64(rate)))
	}
	n = min(n, r.spare)
	r.spare -= n
	return n
}

// offset is where the next byte will be.
func (r *logRing) offset() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// last returns a copy of the newest bytes of a stream from an offset on, at most n.
func (r *logRing) last(stream LogStream, from uint64, n int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []byte
	for i := len(r.pieces) - 1; i >= 0 && len(out) < n; i-- {
		p := &r.pieces[i]
		if p.offset+uint64(len(p.data)) <= from {
			break
		}
		if p.stream != stream {
			continue
		}
		data := p.data
		if p.offset < from {
			data = data[from-p.offset:]
		}
		data = data[max(0, len(data)-(n-len(out))):]
		out = append(slices.Clone(data), out...)
	}
	return out
}

// append takes some of p and returns how much. The caller holds mu.
func (r *logRing) append(stream LogStream, p []byte, at time.Time) int {
	if n := len(r.pieces); n > 0 {
		last := &r.pieces[n-1]
		fits := min(len(p), cap(last.data)-len(last.data))
		if fits > 0 && last.stream == stream && last.offset+uint64(len(last.data)) == r.next && at.Sub(last.at) < joinWithin {
			last.data = append(last.data, p[:fits]...)
			r.next += uint64(fits)
			return fits
		}
	}
	n := min(len(p), maxPiece)
	data := make([]byte, n, (n+pieceGrain-1)/pieceGrain*pieceGrain)
	copy(data, p)
	r.pieces = append(r.pieces, piece{stream, at, r.next, data})
	r.size += cap(data) + pieceCost
	r.next += uint64(n)
	return n
}

// read returns what the ring has of a stream from an offset on, and the offset
// to go on from. While more may come, changed is closed when it has; it is nil
// once nothing more will. Bytes are shared, and do not change.
func (r *logRing) read(from uint64, stream LogStream) (chunks []LogChunk, next uint64, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dropped := uint64(0)
	for _, p := range r.pieces {
		end := p.offset + uint64(len(p.data))
		if end <= from {
			continue
		}
		if p.offset > from {
			dropped += p.offset - from
			from = p.offset
		}
		data := p.data[from-p.offset : len(p.data) : len(p.data)]
		from = end
		if stream != 0 && p.stream != stream {
			continue
		}
		chunks = append(chunks, LogChunk{Stream: p.stream, Data: data, Time: p.at, Dropped: dropped})
		dropped = 0
	}
	if r.users > 0 {
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed = r.changed
	}
	return chunks, r.next, changed
}

// tail returns the offset at which the last lines of a stream begin. A line
// that has not ended counts.
func (r *logRing) tail(stream LogStream, lines int) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := true
	for i := len(r.pieces) - 1; i >= 0; i-- {
		p := &r.pieces[i]
		if stream != 0 && p.stream != stream {
			continue
		}
		data := p.data
		if first && data[len(data)-1] == '\n' {
			data = data[:len(data)-1]
		}
		first = false
		for end := bytes.LastIndexByte(data, '\n'); end >= 0; end = bytes.LastIndexByte(data[:end], '\n') {
			if lines--; lines == 0 {
				return p.offset + uint64(end) + 1
			}
		}
	}
	if len(r.pieces) > 0 {
		return r.pieces[0].offset
	}
	return r.next
}
