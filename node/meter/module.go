package meter

import (
	"slices"
)

// Numbers of sections.
const (
	sectionCustom    = 0
	sectionType      = 1
	sectionImport    = 2
	sectionFunction  = 3
	sectionTable     = 4
	sectionMemory    = 5
	sectionGlobal    = 6
	sectionExport    = 7
	sectionStart     = 8
	sectionElement   = 9
	sectionCode      = 10
	sectionData      = 11
	sectionDataCount = 12
)

// Kinds of imports and exports.
const (
	kindFunction = 0
	kindTable    = 1
	kindMemory   = 2
	kindGlobal   = 3
)

// header is the magic number and the version.
const header = "\x00asm\x01\x00\x00\x00"

// functionType is a type; its parts are bytes of the module.
type functionType struct{ params, results []byte }

// imported is one import.
type imported struct {
	module, name string
	kind         byte
}

// table is a table that the module defines.
type table struct {
	prefix   []byte // what stands before its limits
	init     []byte // the expression of its first elements, or nil
	min, max uint32 // elements
	hasMax   bool
}

// body is the code of a function that the module defines.
type body struct {
	at, locals, code, end int // offsets: of its size, its locals, its code, its end
	localCount            uint64
}

// module is a decoded module. Sections that need nothing of what comes later are
// encoded for the output as they are read.
type module struct {
	src    []byte
	limits Limits

	types         []functionType
	functions     []uint32 // types of all functions, the imported first
	importedFuncs int
	imports       []imported
	tables        []table // defined
	tableCount    int     // imported and defined
	memories      int
	globals       int
	exports       []Export
	referenced    []bool // functions that references may exist of, nil: none
	bodies        []body
	codeAt        int // offset of the code section's content
	names         *names
	custom        map[string][]byte // .debug_ sections

	sections [sectionDataCount + 1][]byte // contents for the output
	present  [sectionDataCount + 1]bool
	vectors  [sectionDataCount + 1]int // counts of those to which items are appended: content has items only
}

// parse decodes and checks everything but the code of functions.
func parse(src []byte, limits Limits) (*module, error) {
	if uint64(len(src)) > limits.Bytes {
		return nil, exceeded("bytes", uint64(len(src)), limits.Bytes)
	}
	if len(src) < len(header) || string(src[:len(header)]) != header {
		return nil, malformed(0, "not a WebAssembly module of version 1")
	}
	m := &module{src: src, limits: limits, custom: map[string][]byte{}}
	r := &reader{src: src, pos: len(header), end: len(src)}
	last := byte(0)
	var custom uint64
	for r.left() > 0 {
		at := r.pos
		id := r.byte()
		size := r.u32()
		if r.err != nil {
			return nil, r.err
		}
		if uint64(size) > uint64(r.left()) {
			return nil, malformed(at, "section %d is longer than the module", id)
		}
		s := &reader{src: src, pos: r.pos, end: r.pos + int(size)}
		r.pos += int(size)
		if id == sectionCustom {
			if custom += uint64(size); custom > limits.CustomBytes {
				return nil, exceeded("bytes of custom sections", custom, limits.CustomBytes)
			}
		} else {
			if id > sectionDataCount {
				return nil, unsupported(at, "section %d", id)
			}
			if !follows(id, last) {
				return nil, malformed(at, "section %d after section %d", id, last)
			}
			last = id
			m.present[id] = true
		}
		if err := m.section(id, s); err != nil {
			return nil, err
		}
		if s.err != nil {
			return nil, s.err
		}
		if s.left() != 0 {
			return nil, malformed(s.pos, "section %d is longer than its content", id)
		}
	}
	if len(m.bodies) != len(m.functions)-m.importedFuncs {
		return nil, malformed(len(src), "%d functions have %d bodies", len(m.functions)-m.importedFuncs, len(m.bodies))
	}
	return m, nil
}

// follows tells whether a section may come after the last one: in order of their
// numbers, but the count of data segments comes before the code.
func follows(id, last byte) bool {
	order := func(id byte) int {
		if id == sectionDataCount {
			return 2*sectionElement + 1
		}
		return 2 * int(id)
	}
	return order(id) > order(last)
}

func (m *module) section(id byte, r *reader) error {
	switch id {
	case sectionCustom:
		return m.customSection(r)
	case sectionType:
		return m.typeSection(r)
	case sectionImport:
		return m.importSection(r)
	case sectionFunction:
		return m.functionSection(r)
	case sectionTable:
		return m.tableSection(r)
	case sectionMemory:
		return m.memorySection(r)
	case sectionGlobal:
		return m.globalSection(r)
	case sectionExport:
		return m.exportSection(r)
	case sectionStart:
		m.sections[id] = appendU32(nil, m.function(r, r.u32()))
	case sectionElement:
		return m.elementSection(r)
	case sectionCode:
		return m.codeSection(r)
	case sectionData:
		return m.dataSection(r)
	case sectionDataCount:
		count := uint32(0)
		if r.left() > 0 || r.end < len(r.src) { // the engine takes an empty one for zero, at the end of the module
			count = r.u32()
		}
		m.sections[id] = appendU32(nil, count)
	}
	return nil
}

// vector reads the count of a section's items and checks it against a limit.
func (m *module) vector(r *reader, size int, what string, have int, limit uint64) (uint32, error) {
	n := r.count(size)
	if have := uint64(have) + uint64(n); have > limit {
		return 0, exceeded(what, have, limit)
	}
	return n, r.err
}

// function returns the index that a function of the source has in the output.
func (m *module) function(r *reader, index uint32) uint32 {
	if int64(index) >= int64(len(m.functions)) {
		r.fail(invalid("function %d does not exist", index))
	}
	return m.moved(index)
}

// moved is where a function is in the output: behind the functions that this
// package imports, unless it is imported itself.
func (m *module) moved(index uint32) uint32 {
	if int64(index) >= int64(m.importedFuncs) {
		return index + AddedImports
	}
	return index
}

func (m *module) typeSection(r *reader) error {
	n, err := m.vector(r, 3, "types", 0, m.limits.Types)
	if err != nil {
		return err
	}
	m.types = make([]functionType, 0, n)
	for range n {
		at := r.pos
		switch form := r.byte(); form {
		case 0x60:
		case 0x4e, 0x4f, 0x50, 0x5e, 0x5f:
			r.fail(unsupported(at, "type form %#x", form))
		default:
			r.fail(malformed(at, "type form %#x", form))
		}
		var t functionType
		if t.params, err = m.valueTypes(r, "parameters of a function"); err != nil {
			return err
		}
		if t.results, err = m.valueTypes(r, "results of a function"); err != nil {
			return err
		}
		m.types = append(m.types, t)
		m.sections[sectionType] = append(m.sections[sectionType], r.src[at:r.pos]...)
	}
	m.vectors[sectionType] = len(m.types)
	return nil
}

func (m *module) valueTypes(r *reader, what string) ([]byte, error) {
	n := r.count(1)
	if uint64(n) > m.limits.TypeValues {
		return nil, exceeded(what, uint64(n), m.limits.TypeValues)
	}
	from := r.pos
	for range n {
		r.valueType()
	}
	return r.src[from:r.pos], r.err
}

func (m *module) typeIndex(r *reader) uint32 {
	i := r.u32()
	if int64(i) >= int64(len(m.types)) {
		r.fail(invalid("type %d does not exist", i))
	}
	return i
}

func (m *module) importSection(r *reader) error {
	n, err := m.vector(r, 4, "imports", 0, m.limits.Imports)
	if err != nil {
		return err
	}
	from := r.pos
	for range n {
		at := r.pos
		mod, name := r.name(), r.name()
		if l := uint64(max(len(mod), len(name))); l > m.limits.NameBytes {
			return exceeded("bytes in a name", l, m.limits.NameBytes)
		}
		kind := r.byte()
		switch kind {
		case kindFunction:
			m.functions = append(m.functions, m.typeIndex(r))
		case kindTable:
			m.tableCount++
			var t table
			m.tableType(r, &t)
		case kindMemory:
			m.memories++
			m.limitsOf(r)
		case kindGlobal:
			m.globals++
			r.valueType()
			if mutable := r.byte(); mutable > 1 {
				r.fail(malformed(r.pos, "mutability %d", mutable))
			}
		default:
			return unsupported(at, "import of kind %d", kind)
		}
		if r.err != nil {
			return r.err
		}
		m.imports = append(m.imports, imported{mod, name, kind})
	}
	m.importedFuncs = len(m.functions)
	m.vectors[sectionImport] = int(n)
	m.sections[sectionImport] = r.src[from:r.pos:r.pos]
	return nil
}

func (m *module) functionSection(r *reader) error {
	n, err := m.vector(r, 1, "functions", len(m.functions), m.limits.Functions)
	if err != nil {
		return err
	}
	m.functions = slices.Grow(m.functions, int(n))
	from := r.pos
	for range n {
		m.functions = append(m.functions, m.typeIndex(r))
	}
	m.vectors[sectionFunction] = int(n)
	m.sections[sectionFunction] = r.src[from:r.pos:r.pos]
	return r.err
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

func (m *module) memorySection(r *reader) error {
	from := r.pos
	n, err := m.vector(r, 2, "memories", m.memories, m.limits.Memories)
	if err != nil {
		return err
	}
	for range n {
		m.limitsOf(r)
	}
	m.memories += int(n)
	m.sections[sectionMemory] = r.src[from:r.pos]
	return r.err
}

func (m *module) globalSection(r *reader) error {
	n, err := m.vector(r, 3, "globals", m.globals, m.limits.Globals)
	if err != nil {
		return err
	}
	total := m.globals + int(n)
	var out []byte
	for range n {
		out = append(out, r.valueType())
		mutable := r.byte()
		if mutable > 1 {
			r.fail(malformed(r.pos, "mutability %d", mutable))
		}
		out = append(out, mutable)
		out = m.expression(out, r)
		if r.err != nil {
			return r.err
		}
		m.globals++
	}
	m.globals = total
	m.vectors[sectionGlobal] = int(n)
	m.sections[sectionGlobal] = out
	return nil
}

// expression appends a constant expression, with the indices of functions moved.
func (m *module) expression(out []byte, r *reader) []byte {
	var in instruction
	for r.err == nil {
		r.next(&in)
		switch in.op {
		case opI32Const, opI64Const, opF32Const, opF64Const, opRefNull:
		case opI32Add, opI32Sub, opI32Mul, opI64Add, opI64Sub, opI64Mul: // extended constants
		case opVector:
			if in.sub != 0x0c {
				r.fail(malformed(in.at, "instruction in a constant expression"))
			}
		case opGlobalGet:
			if int64(in.a) >= int64(m.globals) {
				r.fail(invalid("global %d does not exist", in.a))
			}
		case opRefFunc:
			out = append(out, opRefFunc)
			out = appendU32(out, m.function(r, in.a))
			m.refer(in.a)
			continue
		case opEnd:
			return append(out, opEnd)
		default:
			r.fail(malformed(in.at, "instruction in a constant expression"))
		}
		out = append(out, r.src[in.at:in.end]...)
	}
	return out
}

// refer notes that a reference to a function may exist: it can be called through tables.
func (m *module) refer(index uint32) {
	if m.referenced == nil {
		m.referenced = make([]bool, len(m.functions))
	}
	if int64(index) < int64(len(m.referenced)) {
		m.referenced[index] = true
	}
}

func (m *module) isReferenced(index uint32) bool {
	return m.referenced != nil && m.referenced[index]
}

// Export is an exported function.
type Export struct {
	Name            string
	Params, Results []byte // value types as the binary format has them, such as 0x7f for i32
}

func (m *module) exportSection(r *reader) error {
	n, err := m.vector(r, 3, "exports", 0, m.limits.Exports)
	if err != nil {
		return err
	}
	var out []byte
	for range n {
		at := r.pos
		name := r.name()
		if l := uint64(len(name)); l > m.limits.NameBytes {
			return exceeded("bytes in a name", l, m.limits.NameBytes)
		}
		if name == ExportFuel || name == ExportDepth {
			return invalid("the export %q is reserved", name)
		}
		kind := r.byte()
		index := r.u32()
		out = appendName(out, name)
		out = append(out, kind)
		switch kind {
		case kindFunction:
			moved := m.function(r, index)
			if r.err != nil {
				return r.err
			}
			t := m.types[m.functions[index]]
			m.exports = append(m.exports, Export{Name: name, Params: t.params, Results: t.results})
			m.refer(index)
			index = moved
		case kindGlobal:
			if int64(index) >= int64(m.globals) {
				return invalid("global %d does not exist", index)
			}
		case kindTable, kindMemory:
		default:
			return unsupported(at, "export of kind %d", kind)
		}
		out = appendU32(out, index)
	}
	m.sections[sectionExport], m.vectors[sectionExport] = out, int(n)
	return r.err
}

func (m *module) elementSection(r *reader) error {
	n, err := m.vector(r, 2, "element segments", 0, m.limits.Elements)
	if err != nil {
		return err
	}
	out := appendU32(nil, n)
	var items uint64
	for range n {
		at := r.pos
		form := r.u32()
		if form > 7 {
			return malformed(at, "element segment %#x", form)
		}
		out = appendU32(out, form)
		passive, explicit, expressions := form&1 != 0, form&2 != 0, form&4 != 0
		if !passive {
			if explicit {
				out = appendU32(out, r.u32()) // the table
			}
			out = m.expression(out, r)
		}
		if passive || explicit { // the kind or the type of the items
			kind := r.byte()
			switch {
			case expressions && kind != typeFuncref && kind != typeExternref:
				r.fail(unsupported(at, "element type %#x", kind))
			case !expressions && kind != 0:
				r.fail(malformed(at, "element kind %#x", kind))
			}
			out = append(out, kind)
		}
		count := r.count(1)
		if items += uint64(count); items > m.limits.ElementItems {
			return exceeded("element items", items, m.limits.ElementItems)
		}
		out = appendU32(out, count)
		for range count {
			if expressions {
				out = m.expression(out, r)
			} else {
				index := r.u32()
				out = appendU32(out, m.function(r, index))
				m.refer(index)
			}
			if r.err != nil {
				return r.err
			}
		}
		if r.err != nil {
			return r.err
		}
	}
	m.sections[sectionElement] = out
	return nil
}

func (m *module) codeSection(r *reader) error {
	m.codeAt = r.pos
	n := r.count(2)
	m.bodies = make([]body, 0, n)
	for range n {
		b := body{at: r.pos}
		size := r.u32()
		if uint64(size) > uint64(r.left()) {
			r.fail(malformed(r.pos, "body of a function is longer than its section"))
		}
		if r.err != nil {
			return r.err
		}
		if uint64(size) > m.limits.BodyBytes {
			return exceeded("bytes of code in a function", uint64(size), m.limits.BodyBytes)
		}
		b.locals, b.end = r.pos, r.pos+int(size)
		l := &reader{src: r.src, pos: r.pos, end: b.end}
		for range l.count(2) {
			b.localCount += uint64(l.u32())
			l.valueType()
		}
		if l.err != nil {
			return l.err
		}
		if b.localCount > m.limits.Locals {
			return exceeded("locals in a function", b.localCount, m.limits.Locals)
		}
		b.code = l.pos
		m.bodies = append(m.bodies, b)
		r.pos = b.end
	}
	return r.err
}

func (m *module) dataSection(r *reader) error {
	from := r.pos
	n, err := m.vector(r, 2, "data segments", 0, m.limits.DataSegments)
	if err != nil {
		return err
	}
	var e []byte
	for range n {
		at := r.pos
		switch form := r.u32(); form {
		case 0:
			e = m.expression(e[:0], r)
		case 1:
		case 2:
			if memory := r.u32(); memory != 0 {
				r.fail(malformed(at, "memory %d", memory))
			}
			e = m.expression(e[:0], r)
		default:
			r.fail(malformed(at, "data segment %#x", form))
		}
		r.bytes(uint64(r.u32()))
		if r.err != nil {
			return r.err
		}
	}
	m.sections[sectionData] = r.src[from:r.pos]
	return r.err
}
