package engine

import "bytes"

// linear is one linear memory. It begins in a slot of the pool, close to others
// of its size, and moves to a reservation of its largest size when it outgrows
// that; from then on it grows in place. Either costs what the guest has touched
// and goes back to the system at once, neither of which the heap of Go would do:
// a gigabyte of guests there lets the collector wait for another gigabyte. The
// heap serves where the system has no such thing, or refuses.
//
// wazero checks each access against the memory's length in code, so that there
// are no guard pages: slots and reservations lie side by side.
type linear struct {
	owner   *memory
	maximum uint64 // that the module and the limit allow, in bytes
	size    uint64
	base    []byte // all that there is room for in where it lives
	// touched is how much of the slot may not be zero. It is 0 once the memory
	// has moved away; the slot is kept even so until the end of the run, so that
	// an address from before could meet zeros, and never another guest.
	slot     slot
	touched  uint64
	reserved []byte
}

// Reallocate implements experimental.LinearMemory. What it returns has the
// length and the capacity of size, so that nothing in Go reads beyond it either.
// The contents stay and the address may change: compiled code loads it anew after
// each call and growth.
func (l *linear) Reallocate(size uint64) []byte {
	if !l.owner.resize(l.size, size) {
		return nil
	}
	if size > uint64(len(l.base)) {
		l.move(size)
	}
	l.size = size
	if l.slot.slab != nil && l.reserved == nil {
		l.touched = max(l.touched, size)
	}
	return l.base[:size:size]
}

// move goes to where there is room for size.
func (l *linear) move(size uint64) {
	old := l.base[:l.size]
	if l.base == nil {
		if l.slot = l.owner.pool.take(size); l.slot.slab != nil {
			l.base = l.slot.bytes()
			return
		}
	}
	if l.base = reserve(l.maximum); l.base != nil {
		l.reserved = l.base
	} else {
		l.base = make([]byte, min(l.maximum, max(size, 2*l.size)))
	}
	copyTouched(l.base, old)
	if l.touched > 0 {
		discard(l.slot.bytes()[:l.touched])
		l.touched = 0
	}
}

// release gives back what the memory lived in.
func (l *linear) release() {
	if l.slot.slab != nil {
		l.owner.pool.give(l.slot, l.touched)
	}
	if l.reserved != nil {
		unreserve(l.reserved)
	}
	*l = linear{owner: l.owner}
}

// Free implements experimental.LinearMemory. wazero calls it from within
// proc_exit, while frames of the guest are still on its stack, so that the
// memory goes back at the end of the run instead.
func (l *linear) Free() {}

// copyTouched copies src to dst, which is zero, without touching what would stay
// zero: pages of dst that nothing was written to cost nothing.
func copyTouched(dst, src []byte) {
	const page = 4096
	var zero [page]byte
	for len(src) > 0 {
		n := min(page, len(src))
		if !bytes.Equal(src[:n], zero[:n]) {
			copy(dst, src[:n])
		}
		dst, src = dst[n:], src[n:]
	}
}
