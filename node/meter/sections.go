package meter

import "slices"

// This file reads the sections of a module, but for tables and names.

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
