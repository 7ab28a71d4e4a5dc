package meter

// emitter writes the metered module.
type emitter struct {
	m         *module
	functions []function

	fuel, depth uint32 // globals
	helpers     helpers
	types       map[string]uint32 // added types by their encoding
	out         []byte            // content of the code section
	shifts      []Shift           // where the source has lines
	lines       bool

	flow flow
	in   instruction
}

func newEmitter(m *module, functions []function) *emitter {
	e := &emitter{
		m: m, functions: functions,
		fuel: uint32(m.globals), depth: uint32(m.globals) + 1,
		types: map[string]uint32{},
		lines: m.hasLines(),
	}
	e.helpers.first = uint32(len(m.functions)) + AddedImports
	return e
}

// typeOf returns the index of a function type that it adds if need be.
func (e *emitter) typeOf(params, results string) uint32 {
	b := []byte{0x60}
	b = appendName(b, params)
	b = appendName(b, results)
	i, ok := e.types[string(b)]
	if !ok {
		i = uint32(len(e.m.types) + len(e.types))
		e.types[string(b)] = i
		e.m.sections[sectionType] = append(e.m.sections[sectionType], b...)
		e.m.vectors[sectionType]++
	}
	return i
}

// module writes everything.
func (e *emitter) module() ([]byte, error) {
	m := e.m
	// The code, which says what else is needed.
	e.out = make([]byte, 0, len(m.src)+len(m.src)/4)
	for i := range m.bodies {
		if err := e.function(i); err != nil {
			return nil, err
		}
	}
	e.helpers.use(helperRefuel)
	added := e.helpers.write(e)
	bodies := len(m.bodies) + len(added)
	code := appendU32(nil, uint32(bodies))
	prefix := len(code)
	for i := range e.shifts {
		e.shifts[i].New += uint32(prefix)
	}
	code = append(code, e.out...)

	refill := e.typeOf("\x7e", "\x7e")
	trap := e.typeOf("\x7f", "")
	growTable := e.typeOf("\x7f\x7f\x7f", "\x7f")
	imports := m.sections[sectionImport]
	for _, f := range []struct {
		name string
		typ  uint32
	}{{FuncRefill, refill}, {FuncTrap, trap}, {FuncGrowTable, growTable}} {
		imports = appendName(imports, HostModule)
		imports = appendName(imports, f.name)
		imports = append(imports, kindFunction)
		imports = appendU32(imports, f.typ)
	}
	functionTypes := m.sections[sectionFunction]
	for _, t := range e.helpers.types {
		functionTypes = appendU32(functionTypes, t)
	}
	globals := m.sections[sectionGlobal]
	globals = append(globals, typeI64, 1, opI64Const, 0, opEnd)
	globals = append(globals, typeI64, 1, opI64Const)
	globals = appendS64(globals, MinStack)
	globals = append(globals, opEnd)

	out := make([]byte, 0, len(code)+len(m.src)/2)
	out = append(out, header...)
	out = appendSection(out, sectionType, vector(m.vectors[sectionType], m.sections[sectionType]))
	out = appendSection(out, sectionImport, vector(m.vectors[sectionImport]+AddedImports, imports))
	out = appendSection(out, sectionFunction, vector(bodies, functionTypes))
	for _, id := range []byte{sectionTable, sectionMemory} {
		if m.present[id] {
			out = appendSection(out, id, m.sections[id])
		}
	}
	out = appendSection(out, sectionGlobal, vector(m.vectors[sectionGlobal]+2, globals))
	exports := m.sections[sectionExport]
	for _, g := range []struct {
		name  string
		index uint32
	}{{ExportFuel, e.fuel}, {ExportDepth, e.depth}} {
		exports = appendName(exports, g.name)
		exports = append(exports, kindGlobal)
		exports = appendU32(exports, g.index)
	}
	out = appendSection(out, sectionExport, vector(m.vectors[sectionExport]+2, exports))
	for _, id := range []byte{sectionStart, sectionElement, sectionDataCount} {
		if m.present[id] {
			out = appendSection(out, id, m.sections[id])
		}
	}
	out = appendSection(out, sectionCode, code)
	if m.present[sectionData] {
		out = appendSection(out, sectionData, m.sections[sectionData])
	}
	names := encodeNames(m.names, m, added)
	out = appendSection(out, sectionCustom, names)
	if e.lines {
		out = appendLines(out, uint32(len(code)))
	}
	return out, nil
}

// shift notes that what follows in the output comes from a place of the source.
func (e *emitter) shift(source int) {
	if e.lines {
		e.shifts = append(e.shifts, Shift{New: uint32(len(e.out)), Old: uint32(source - e.m.codeAt)})
	}
}
