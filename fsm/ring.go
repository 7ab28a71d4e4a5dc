package fsm

import (
	"iter"
	"slices"
)

const ringChunk = 256

// ring is a queue whose elements are numbered without gaps. A copy of the
// struct is a view of that moment: it may be read on any goroutine while the
// original goes on, since elements that a copy can see are never written again.
// Only one of the copies may be changed, and of those that were made before
// none.
type ring[T any] struct {
	chunks []*[ringChunk]T // chunks[0] holds number first
	first  uint64          // number of the oldest element
	next   uint64          // number of the one to come
	gone   int             // chunks before chunks[0] that its array still holds
}

func newRing[T any](first uint64) ring[T] { return ring[T]{first: first, next: first} }

func (r *ring[T]) len() int { return int(r.next - r.first) }

func (r *ring[T]) chunkOf(n uint64) int { return int(n/ringChunk - r.first/ringChunk) }

func (r *ring[T]) push(v T) {
	c := r.chunkOf(r.next)
	if c == len(r.chunks) {
		r.chunks = append(r.chunks, new([ringChunk]T))
	}
	r.chunks[c][r.next%ringChunk] = v
	r.next++
}

// at returns element n, which must be in [first, next).
func (r *ring[T]) at(n uint64) *T { return &r.chunks[r.chunkOf(n)][n%ringChunk] }

// pop drops the oldest element; the ring must not be empty.
func (r *ring[T]) pop() {
	r.first++
	if r.first%ringChunk != 0 {
		return
	}
	r.chunks = r.chunks[1:]
	// Copies may see the array, so it is not cleared but left behind, often
	// enough that it does not keep more chunks than are in use.
	if r.gone++; r.gone > len(r.chunks) {
		r.chunks = slices.Clone(r.chunks)
		r.gone = 0
	}
}

// from yields the elements from number n on. Those that were dropped are left out.
func (r ring[T]) from(n uint64) iter.Seq2[uint64, *T] {
	return func(yield func(uint64, *T) bool) {
		for n := max(n, r.first); n < r.next; n++ {
			if !yield(n, r.at(n)) {
				return
			}
		}
	}
}
