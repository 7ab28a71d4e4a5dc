package meter

// emitter writes the metered module.
type emitter struct {
	m         *module
	functions []function
	stack     uint32

	fuel, depth uint32 // globals
	helpers     helpers
	types       map[string]uint32 // added types by their encoding
	out         []byte            // content of the code section
	shifts      []Shift           // where the source has lines
	lines       bool

	flow flow
	in   instruction
}

func newEmitter(m *module, functions []function, stack uint32) *emitter {
	e := &emitter{
		m: m, functions: functions, stack: stack,
		fuel: uint32(m.globals), depth: uint32(m.globals) + 1,
		types: map[string]uint32{},
		lines: m.hasLines(),
	}
	e.helpers.first = uint32(len(m.functions)) + addedImports
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
	imports := m.sections[sectionImport]
	for _, f := range []struct {
		name string
		typ  uint32
	}{{FuncRefill, refill}, {FuncTrap, trap}} {
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
	globals = appendS64(globals, int64(e.stack))
	globals = append(globals, opEnd)

	out := make([]byte, 0, len(code)+len(m.src)/2)
	out = append(out, header...)
	out = appendSection(out, sectionType, appendVector(nil, m.vectors[sectionType], m.sections[sectionType]))
	out = appendSection(out, sectionImport, appendVector(nil, m.vectors[sectionImport]+addedImports, imports))
	out = appendSection(out, sectionFunction, appendVector(nil, bodies, functionTypes))
	for _, id := range []byte{sectionTable, sectionMemory} {
		if m.present[id] {
			out = appendSection(out, id, m.sections[id])
		}
	}
	out = appendSection(out, sectionGlobal, appendVector(nil, m.vectors[sectionGlobal]+2, globals))
	for _, id := range []byte{sectionExport, sectionStart, sectionElement, sectionDataCount} {
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

// function writes the code of one defined function.
func (e *emitter) function(i int) error {
	m, fn, b := e.m, &e.functions[i], e.m.bodies[i]
	t := m.types[m.functions[m.importedFuncs+i]]
	f, in := &e.flow, &e.in
	r := &reader{src: m.src, pos: b.code, end: b.end}

	// The size comes in front of the body and is known behind it.
	start := len(e.out)
	shifted := len(e.shifts)
	e.out = append(e.out, m.src[b.locals:b.code]...)
	e.shift(b.code)

	f.reset(uint64(len(t.results)))
	f.spend(1 + (uint64(len(t.params))+b.localCount)/8)
	entry := -1
	switch {
	case fn.unbounded:
		entry = e.checkBoth(fn.nested)
		e.out = append(e.out, opBlock)
		e.out = e.resultType(e.out, t)
	case !fn.free:
		entry = e.checkFuel()
	}
	e.shift(b.code)

	constant := int64(-1) // the number that the instruction before puts on the stack
	run := b.code         // begin of what is copied as it is
	copyRun := func(end int) {
		e.out = append(e.out, m.src[run:end]...)
	}
	for {
		r.next(in)
		if r.err != nil {
			return r.err
		}
		before := constant
		constant = -1
		depth := len(f.frames) - 1
		var extra uint64
		replaced := true
		replace := func(code ...byte) {
			copyRun(in.at)
			run = in.end
			e.shift(in.at)
			e.out = append(e.out, code...)
		}
		switch in.op {
		case opI32Const:
			constant = int64(in.a)
			replaced = false
		case opCall:
			extra = e.callCost(in.a)
			replace(opCall)
			e.out = appendU32(e.out, m.moved(in.a))
		case opReturnCall:
			extra = e.callCost(in.a)
			replace()
			e.tailCall(fn, depth, m.types[m.functions[in.a]], func() {
				e.out = appendU32(e.out, m.moved(in.a))
			}, opCall, opReturnCall)
		case opReturnCallIndirect:
			replace()
			e.tailCall(fn, depth, m.types[in.a], func() {
				e.out = appendU32(e.out, in.a)
				e.out = appendU32(e.out, in.b)
			}, opCallIndirect, opReturnCallIndirect)
		case opRefFunc:
			replace(opRefFunc)
			e.out = appendU32(e.out, m.moved(in.a))
		case opReturn:
			if replaced = fn.unbounded; replaced {
				replace(opBr)
				e.out = appendU32(e.out, uint32(depth))
			}
		case opMemoryGrow:
			replace(opCall)
			e.out = appendU32(e.out, e.helpers.use(helperMemoryGrow))
		case opMisc:
			extra = e.bulk(in, before, replace)
		default:
			replaced = false
		}
		if replaced && run == in.end {
			e.shift(in.end)
		}
		if in.op == opLoop {
			copyRun(in.end)
			run = in.end
			m.follow(in, f, extra)
			f.frames[len(f.frames)-1].mark = e.checkFuel()
			e.shift(in.end)
			continue
		}
		ended, cost := m.follow(in, f, extra)
		if ended.kind == opLoop {
			putCost(e.out[ended.mark:], max(cost, 1))
		}
		if len(f.frames) == 0 {
			break
		}
	}
	if fn.unbounded {
		copyRun(b.end) // with the end of the block
		e.shift(b.end - 1)
		e.restoreDepth(fn.nested)
		e.out = append(e.out, opEnd)
	} else {
		copyRun(b.end)
	}
	if entry >= 0 {
		putCost(e.out[entry:], f.total())
	}

	// Put the size in front.
	size := appendU32(nil, uint32(len(e.out)-start))
	e.out = append(e.out, size...)
	copy(e.out[start+len(size):], e.out[start:])
	copy(e.out[start:], size)
	for i := range e.shifts[shifted:] {
		e.shifts[shifted+i].New += uint32(len(size))
	}
	return nil
}

// callCost is what a call costs besides the call itself: that of a callee that does not charge for itself.
func (e *emitter) callCost(index uint32) uint64 {
	if i := int64(index) - int64(e.m.importedFuncs); i >= 0 && e.functions[i].free {
		return e.functions[i].tree
	}
	return 0
}

// resultType appends the block type of a function's results.
func (e *emitter) resultType(out []byte, t functionType) []byte {
	switch len(t.results) {
	case 0:
		return append(out, opTailBlock)
	case 1:
		return append(out, t.results[0])
	}
	return appendS64(out, int64(e.typeOf("", string(t.results))))
}

// checkFuel charges a cost that is put in later, and returns its place.
func (e *emitter) checkFuel() int {
	at := e.subtract(e.fuel)
	e.out = append(e.out, opGlobalGet)
	e.out = appendU32(e.out, e.fuel)
	e.out = append(e.out, opI64Const, 0, opI64LtS, opIf, opTailBlock, opCall)
	e.out = appendU32(e.out, e.helpers.use(helperRefuel))
	e.out = append(e.out, opEnd)
	return at
}

// checkBoth charges fuel and depth and branches once: the sign of either is in
// the sign of both combined.
func (e *emitter) checkBoth(stack uint64) int {
	at := e.subtract(e.fuel)
	putCost(e.out[e.subtract(e.depth):], stack)
	e.out = append(e.out, opGlobalGet)
	e.out = appendU32(e.out, e.fuel)
	e.out = append(e.out, opGlobalGet)
	e.out = appendU32(e.out, e.depth)
	e.out = append(e.out, opI64Or, opI64Const, 0, opI64LtS, opIf, opTailBlock, opCall)
	e.out = appendU32(e.out, e.helpers.use(helperRefuelDeep))
	e.out = append(e.out, opEnd)
	return at
}

// subtract takes a number from a global, and returns the place of that number.
func (e *emitter) subtract(global uint32) int {
	e.out = append(e.out, opGlobalGet)
	e.out = appendU32(e.out, global)
	e.out = append(e.out, opI64Const)
	at := len(e.out)
	e.out = append(e.out, make([]byte, costBytes)...)
	e.out = append(e.out, opI64Sub, opGlobalSet)
	e.out = appendU32(e.out, global)
	return at
}

func (e *emitter) restoreDepth(stack uint64) {
	e.out = append(e.out, opGlobalGet)
	e.out = appendU32(e.out, e.depth)
	e.out = append(e.out, opI64Const)
	e.out = appendS64(e.out, int64(min(stack, maxCost)))
	e.out = append(e.out, opI64Add, opGlobalSet)
	e.out = appendU32(e.out, e.depth)
}

// How many values are passed in registers on every platform that the engine
// compiles for, for sure.
const (
	registerIntegers = 6
	registerFloats   = 8
)

func fitRegisters(values []byte) bool {
	integers, floats := 0, 0
	for _, v := range values {
		switch v {
		case typeF32, typeF64, typeV128:
			floats++
		default:
			integers++
		}
	}
	return integers <= registerIntegers && floats <= registerFloats
}

// tailCall writes a tail call. A function that counts its depth gives it back
// before. Where the engine would not make it a jump, because not all fits into
// registers, the frame remains, and so must the count: then it is a call and a return.
func (e *emitter) tailCall(fn *function, depth int, t functionType, operands func(), call, tail byte) {
	switch {
	case !fn.unbounded:
		e.out = append(e.out, tail)
		operands()
	case fitRegisters(t.params) && fitRegisters(t.results):
		e.restoreDepth(fn.nested)
		e.out = append(e.out, tail)
		operands()
	default:
		e.out = append(e.out, call)
		operands()
		e.out = append(e.out, opBr)
		e.out = appendU32(e.out, uint32(depth))
	}
}

// staticBytes is up to which length a bulk operation of constant length is charged with its region.
const staticBytes = 16 << 10

// bulk writes an instruction with the prefix of bulk operations, and returns what it costs more.
func (e *emitter) bulk(in *instruction, constant int64, replace func(...byte)) uint64 {
	small := constant >= 0 && constant <= staticBytes
	charge := func(limit uint64, shift byte) {
		e.out = append(e.out, opI32Const)
		e.out = appendS64(e.out, int64(int32(min(limit, 1<<31-1))))
		e.out = append(e.out, opI32Const, shift, opCall)
		e.out = appendU32(e.out, e.helpers.use(helperCharge))
	}
	replace()
	op := appendU32([]byte{opMisc}, in.sub) // in one byte: the engine reads no more
	switch in.sub {
	case miscMemoryFill, miscMemoryCopy:
		if small {
			e.out = append(e.out, op...)
			e.out = append(e.out, make([]byte, in.sub%2^1+1)...)
			break
		}
		helper := helperMemoryFill
		if in.sub == miscMemoryCopy {
			helper = helperMemoryCopy
		}
		e.out = append(e.out, opCall)
		e.out = appendU32(e.out, e.helpers.use(helper))
		return 0
	case miscMemoryInit:
		if !small {
			charge(uint64(len(e.m.src)), byteShift)
		}
		e.out = append(e.out, op...)
		e.out = appendU32(e.out, in.a)
		e.out = append(e.out, 0)
	case miscTableInit, miscTableCopy:
		charge(e.m.limits.TableElements, 0)
		e.out = append(e.out, op...)
		e.out = appendU32(e.out, in.a)
		e.out = appendU32(e.out, in.b)
		return 0
	case miscTableGrow, miscTableFill:
		charge(e.m.limits.TableElements, 0)
		fallthrough
	case miscTableSize, miscDataDrop, miscElemDrop:
		e.out = append(e.out, op...)
		e.out = appendU32(e.out, in.a)
		return 0
	default:
		e.out = append(e.out, op...)
		return 0
	}
	if small {
		return uint64(constant) >> byteShift
	}
	return 0
}
