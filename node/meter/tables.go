package meter

// This file reads tables, bounds them, and writes them.

// table is a table that the module defines.
type table struct {
	prefix   []byte // what stands before its limits
	init     []byte // the expression of its first elements, or nil
	min, max uint32 // elements
	hasMax   bool
}

// limitsOf reads the limits of a table or memory.
func (m *module) limitsOf(r *reader) (lo, hi uint32, hasMax bool) {
	at := r.pos
	switch flag := r.byte(); flag {
	case 0:
		return r.u32(), 0, false
	case 1:
		return r.u32(), r.u32(), true
	case 2, 3:
		r.fail(unsupported(at, "sharing"))
	default:
		r.fail(malformed(at, "limits %#x", flag))
	}
	return 0, 0, false
}

func (m *module) tableType(r *reader, t *table) {
	at := r.pos
	initialised := false
	ref := r.byte()
	if ref == 0x40 {
		initialised = true
		if b := r.byte(); b != 0 {
			r.fail(malformed(at, "table form %#x", b))
		}
		ref = r.byte()
	}
	if ref != typeFuncref && ref != typeExternref {
		r.fail(unsupported(at, "table of type %#x", ref))
	}
	t.prefix = r.src[at:r.pos]
	t.min, t.max, t.hasMax = m.limitsOf(r)
	if t.hasMax && t.max < t.min {
		r.fail(invalid("a table's minimum is above its maximum"))
	}
	if initialised {
		t.init = m.expression(nil, r)
	}
}

func (m *module) tableSection(r *reader) error {
	n, err := m.vector(r, 3, "tables", m.tableCount, m.limits.Tables)
	if err != nil {
		return err
	}
	for range n {
		var t table
		m.tableType(r, &t)
		m.tables = append(m.tables, t)
	}
	m.tableCount += int(n)
	return r.err
}

// elements is how many elements all defined tables begin with.
func (m *module) elements() (n uint64) {
	for _, t := range m.tables {
		n += uint64(t.min)
	}
	return n
}

// initialElements is how many a table begins with; 0 for one that is imported.
func (m *module) initialElements(table uint32) uint32 {
	if i := int64(table) - int64(m.tableCount-len(m.tables)); i >= 0 && i < int64(len(m.tables)) {
		return m.tables[i].min
	}
	return 0
}

// encodeTables writes the table section. What the limit leaves to all tables
// for growing is divided among those that may grow, evenly.
func (m *module) encodeTables() error {
	total := m.elements()
	if total > m.limits.TableElements {
		return exceeded("table elements", total, m.limits.TableElements)
	}
	growing := uint64(0)
	for _, t := range m.tables {
		if !t.hasMax || t.max > t.min {
			growing++
		}
	}
	room := m.limits.TableElements - total
	out := appendU32(nil, uint32(len(m.tables)))
	for _, t := range m.tables {
		most := uint64(t.min) + room/max(growing, 1)
		if t.hasMax {
			most = min(most, uint64(t.max))
		}
		out = append(out, t.prefix...)
		out = append(out, 1)
		out = appendU32(out, t.min)
		out = appendU32(out, uint32(min(most, 1<<32-1)))
		out = append(out, t.init...)
	}
	m.sections[sectionTable] = out
	return nil
}
