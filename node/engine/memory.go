package engine

import (
	"fmt"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasmatrix/wasmatrix"
)

// tableElement is what an element of a table takes, in bytes.
const tableElement = 8

// memory gives one run its linear memories within a limit. wazero's own limit
// is the same for all instances of a runtime. It is used by the goroutine of
// the run only.
type memory struct {
	pool   *memoryPool
	limit  uint64
	tables uint64            // bytes of the limit that tables take
	grown  map[uint32]uint64 // by how many elements tables have grown, at least; nil before the first
	size   uint64            // of all linear memories together
	peak   uint64            // of size
	// refused is the size that the limit last refused, unless a growth
	// succeeded afterwards: a guest that goes on after a refusal has coped.
	refused uint64
	linear  []*linear
}

// newMemory makes the memory of a run whose module begins with so many table
// elements, which count for the limit. A limit of 0 means that of
// [wasmatrix.DefaultLimits], in bytes.
func newMemory(pool *memoryPool, limit, elements uint64) *memory {
	if limit == 0 {
		limit = wasmatrix.DefaultLimits.Memory
	}
	return &memory{pool: pool, limit: limit, tables: elements * tableElement}
}

// initialMemoryError is the error of a module that wants more at once than the
// limit allows.
type initialMemoryError struct{ linear, tables, limit uint64 }

func (m initialMemoryError) Error() string {
	what := wasmatrix.FormatBytes(m.linear) + " of memory"
	switch {
	case m.linear == 0:
		what = wasmatrix.FormatBytes(m.tables) + " of tables"
	case m.tables > 0:
		what += " and " + wasmatrix.FormatBytes(m.tables) + " of tables"
	}
	return fmt.Sprintf("the module begins with %s, over its limit of %s", what, wasmatrix.FormatBytes(m.limit))
}

// admit tells whether the tables alone are within the limit. It is asked before
// the module is instantiated, which makes them.
func (m *memory) admit() error {
	if m.tables > m.limit {
		return initialMemoryError{tables: m.tables, limit: m.limit}
	}
	return nil
}

// Allocate implements experimental.MemoryAllocator. initial is what the module
// begins with, in bytes. It panics with an initialMemoryError where that is over
// the limit, since an allocator has no other way to refuse it.
func (m *memory) Allocate(initial, maximum uint64) experimental.LinearMemory {
	if m.size+m.tables+initial > m.limit {
		panic(initialMemoryError{m.size + initial, m.tables, m.limit})
	}
	l := &linear{owner: m, maximum: min(maximum, m.limit-m.tables)}
	m.linear = append(m.linear, l)
	return l
}

// release gives the memories back. Nothing may touch them afterwards.
func (m *memory) release() {
	for _, l := range m.linear {
		l.release()
	}
	m.pool.present.Add(-int64(m.size))
	m.size, m.linear = 0, nil
}

// growTable accounts for a table that is to grow by n elements and has grown by
// so many. It reports whether the limit allows it. That it then may not grow for
// another reason is seen, and made good, the next time.
func (m *memory) growTable(table uint32, n, grown uint64) bool {
	before := m.grown[table]
	tables := m.tables - before*tableElement + (grown+n)*tableElement
	if m.size+tables > m.limit {
		m.refused = m.size + tables
		return false
	}
	if m.grown == nil {
		m.grown = make(map[uint32]uint64)
	}
	m.grown[table] = grown + n
	m.tables = tables
	return true
}

// resize accounts for a linear memory that goes from one size to another. It
// reports whether the limit allows it.
func (m *memory) resize(from, to uint64) bool {
	total := m.size - from + to
	if m.tables+total > m.limit {
		m.refused = m.tables + total
		return false
	}
	m.refused = 0
	m.pool.present.Add(int64(to) - int64(from))
	m.size = total
	m.peak = max(m.peak, total)
	return true
}

// blame makes exit one of memory if a refusal is the likely cause of it.
func (m *memory) blame(exit *Exit) {
	if m.refused == 0 {
		return
	}
	exit.Kind = Memory
	exit.Message = wasmatrix.BoundText(fmt.Sprintf("memory limit of %s: refused to grow to %s; then %s",
		wasmatrix.FormatBytes(m.limit), wasmatrix.FormatBytes(m.refused), exit.Message), wasmatrix.MaxCrashMessage)
}
