package engine

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	minSlot  = 64 << 10 // a page of WebAssembly
	maxSlot  = 2 << 20  // a page of the machine's page tables: beyond, nothing is saved by lying close
	slabSize = 64 << 20 // address space
	classes  = 6        // of sizes: powers of two from minSlot to maxSlot
)

// memoryPool has places for small linear memories. Mapping each of them would
// take a system call, a page of page tables and perhaps one of the 65,530
// mappings that Linux allows a process; here many share one mapping, and those
// that are idle cost the pages that they have touched. The zero value works
// and may be used concurrently.
type memoryPool struct {
	present atomic.Int64 // bytes of all linear memories, in slots or not

	mu    sync.Mutex
	slabs [classes]slabs // guarded by mu
}

// slabs are those of one size of slots.
type slabs struct {
	open  []*slab // with a free slot; what is used stays together at the end
	spare *slab   // one of them that is wholly free, so that not each start maps one
}

// slab is a mapping that is divided into slots.
type slab struct {
	mem   []byte
	class int
	free  []uint16 // slots; all of their bytes are zero
	place int      // in open, while free is not empty
}

// slot is a place for one memory; its slab is nil if it is none.
type slot struct {
	slab *slab
	n    uint16
}

func (s *slab) slotSize() int { return minSlot << s.class }

func (s *slab) slots() int { return len(s.mem) / s.slotSize() }

// bytes is the whole of the slot.
func (s slot) bytes() []byte {
	size := s.slab.slotSize()
	from := int(s.n) * size
	return s.slab.mem[from : from+size : from+size]
}

// take returns a slot of at least size bytes, which are zero. It is none where
// size is 0 or too large, or the system gives no memory of that kind.
func (p *memoryPool) take(size uint64) slot {
	if size == 0 || size > maxSlot {
		return slot{}
	}
	class := bits.Len64((size - 1) / minSlot)
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.slabs[class]
	if len(c.open) == 0 && !c.add(class) {
		return slot{}
	}
	s := c.open[len(c.open)-1]
	if s == c.spare {
		if len(c.open) > 1 {
			s = c.open[len(c.open)-2]
		} else {
			c.spare = nil
		}
	}
	last := len(s.free) - 1
	n := s.free[last]
	s.free = s.free[:last]
	if last == 0 {
		c.remove(s)
	}
	return slot{s, n}
}

// give takes a slot back. Of its bytes, those up to touched may not be zero.
func (p *memoryPool) give(sl slot, touched uint64) {
	if touched > 0 {
		discard(sl.bytes()[:touched])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := sl.slab
	c := &p.slabs[s.class]
	s.free = append(s.free, sl.n)
	if len(s.free) == 1 {
		c.insert(s)
	}
	if len(s.free) < s.slots() {
		return
	}
	if c.spare == nil {
		c.spare = s
		return
	}
	c.remove(s)
	unreserve(s.mem)
}

// close unmaps what there is. All slots have been given back.
func (p *memoryPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.slabs {
		for _, s := range p.slabs[i].open {
			unreserve(s.mem)
		}
		p.slabs[i] = slabs{}
	}
}

// add maps a slab, and reports whether it could.
func (c *slabs) add(class int) bool {
	mem := reserve(slabSize)
	if mem == nil {
		return false
	}
	s := &slab{mem: mem, class: class}
	s.free = make([]uint16, 0, s.slots())
	for n := s.slots() - 1; n >= 0; n-- {
		s.free = append(s.free, uint16(n))
	}
	c.insert(s)
	return true
}

func (c *slabs) insert(s *slab) {
	s.place = len(c.open)
	c.open = append(c.open, s)
}

func (c *slabs) remove(s *slab) {
	last := len(c.open) - 1
	c.open[s.place] = c.open[last]
	c.open[s.place].place = s.place
	c.open[last] = nil
	c.open = c.open[:last]
}
