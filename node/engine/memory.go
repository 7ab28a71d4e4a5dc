package engine

import (
	"fmt"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasmatrix/wasmatrix"
)

// memory gives one run its linear memories within a limit. wazero's own limit
// is the same for all instances of a runtime. It is used by the goroutine of
// the run only.
type memory struct {
	limit uint64
	peak  uint64
	// refused is the size that the limit last refused, unless a growth
	// succeeded afterwards: a guest that goes on after a refusal has coped.
	refused uint64
	linear  []*linear
}

func newMemory(limit uint64) *memory {
	if limit == 0 {
		limit = wasmatrix.DefaultLimits.Memory
	}
	return &memory{limit: limit}
}

// initialMemoryError is the panic of a module that wants more at once than the limit
// allows: an allocator has no other way to refuse that.
type initialMemoryError struct{ want, limit uint64 }

func (m initialMemoryError) Error() string {
	return fmt.Sprintf("the module begins with %s of memory, over its limit of %s",
		wasmatrix.FormatBytes(m.want), wasmatrix.FormatBytes(m.limit))
}

// Allocate implements experimental.MemoryAllocator. initial is what the module
// begins with, in bytes.
func (m *memory) Allocate(initial, maximum uint64) experimental.LinearMemory {
	if initial > m.limit {
		panic(initialMemoryError{initial, m.limit})
	}
	l := &linear{owner: m, reserved: reserve(min(maximum, m.limit))}
	m.linear = append(m.linear, l)
	return l
}

// release gives the memories back. Nothing may touch them afterwards.
func (m *memory) release() {
	for _, l := range m.linear {
		if l.reserved != nil {
			unreserve(l.reserved)
		}
		l.reserved, l.heap = nil, nil
	}
}

// blame makes exit one of memory if a refusal is the likely cause of it.
func (m *memory) blame(exit *Exit) {
	if m.refused == 0 {
		return
	}
	exit.Kind = Memory
	exit.Message = bounded(fmt.Sprintf("memory limit of %s: refused to grow to %s; then %s",
		wasmatrix.FormatBytes(m.limit), wasmatrix.FormatBytes(m.refused), exit.Message), wasmatrix.MaxCrashMessage)
}

// linear is one linear memory. Where the system reserves address space it grows
// in place, costs what the guest has touched, and goes back at once, none of
// which the heap of Go would do: a gigabyte of guests there lets the collector
// wait for another gigabyte.
type linear struct {
	owner    *memory
	reserved []byte // address space of the largest size; nil where heap serves
	heap     []byte
}

// Reallocate implements experimental.LinearMemory.
func (l *linear) Reallocate(size uint64) []byte {
	m := l.owner
	if size > m.limit {
		m.refused = size
		return nil
	}
	m.refused = 0
	m.peak = max(m.peak, size)
	if l.reserved != nil || size == 0 {
		return l.reserved[:size:size]
	}
	if size > uint64(cap(l.heap)) {
		grown := make([]byte, size, min(m.limit, max(size, 2*uint64(cap(l.heap)))))
		copy(grown, l.heap)
		l.heap = grown
	}
	l.heap = l.heap[:size]
	return l.heap
}

// Free implements experimental.LinearMemory. wazero calls it from within
// proc_exit, while frames of the guest are still on its stack, so that the
// memory goes back at the end of the run instead.
func (l *linear) Free() {}
