package meter

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
