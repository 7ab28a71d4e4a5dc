package meter

import "slices"

// bodyWriter writes the code of one defined function: what needs no change is
// copied in runs.
type bodyWriter struct {
	*emitter
	fn    *function
	flow  *flow
	run   int    // begin of the source that is not yet copied
	local uint32 // for the fuel within tight loops
}

// copy writes the source up to an offset as it is, and goes on at another.
func (w *bodyWriter) copy(end, next int) {
	w.out = append(w.out, w.m.src[w.run:end]...)
	w.run = next
}

// replace writes the source up to an instruction. What follows stands for that.
func (w *bodyWriter) replace(in *instruction) {
	w.copy(in.at, in.end)
	w.shift(in.at)
}

// function writes one function.
func (e *emitter) function(i int) error {
	m, fn, b := e.m, &e.functions[i], e.m.bodies[i]
	t := m.types[m.functions[m.importedFuncs+i]]
	w := &bodyWriter{emitter: e, fn: fn, flow: &e.flow, run: b.code}
	f, in := w.flow, &e.in

	// The size comes in front of the body and is known behind it.
	start, shifted := len(e.out), len(e.shifts)
	w.locals(b, t)
	f.reset(uint64(len(t.results)))
	f.spend(entryCost(uint64(len(t.params)) + b.localCount))
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

	r := &reader{src: m.src, pos: b.code, end: b.end}
	constant := int64(-1) // the number that the instruction before puts on the stack
	for loop := 0; len(f.frames) > 0; {
		r.next(in)
		if r.err != nil {
			return r.err
		}
		if in.op == opLoop {
			w.loop(in, fn.tight[loop])
			loop++
			constant = -1
			continue
		}
		extra := w.instruction(in, constant)
		constant = -1
		if in.op == opI32Const {
			constant = int64(in.a)
		}
		if w.run == in.end {
			e.shift(in.end)
		}
		ended, cost := m.follow(in, f, extra)
		if ended.kind != opLoop {
			continue
		}
		putCost(e.out[ended.mark:], max(cost, 1))
		if ended.tight {
			w.copy(in.end, in.end)
			e.settle(w.local)
			e.out = append(e.out, opEnd)
			e.shift(in.end)
		}
	}
	w.copy(b.end, b.end)
	if fn.unbounded { // that was the end of the block around
		e.shift(b.end - 1)
		e.restoreDepth(fn.nested)
		e.out = append(e.out, opEnd)
	}
	if entry >= 0 {
		putCost(e.out[entry:], f.total())
	}

	size := appendU32(nil, uint32(len(e.out)-start))
	e.out = slices.Insert(e.out, start, size...)
	for i := range e.shifts[shifted:] {
		e.shifts[shifted+i].New += uint32(len(size))
	}
	return nil
}

// locals writes the declarations of a function's locals, and one more where it is needed.
func (w *bodyWriter) locals(b body, t functionType) {
	if slices.Contains(w.fn.tight, true) {
		r := &reader{src: w.m.src, pos: b.locals, end: b.end}
		groups := r.u32()
		w.out = appendU32(w.out, groups+1)
		w.out = append(w.out, w.m.src[r.pos:b.code]...)
		w.out = append(w.out, 1, typeI64)
		w.local = uint32(len(t.params)) + uint32(b.localCount)
		return
	}
	w.out = append(w.out, w.m.src[b.locals:b.code]...)
}

// loop writes the begin of a loop.
func (w *bodyWriter) loop(in *instruction, tight bool) {
	w.m.follow(in, w.flow, 0)
	f := &w.flow.frames[len(w.flow.frames)-1]
	if tight {
		w.replace(in)
		f.mark = w.tightLoop(w.m.src[in.at:in.end], w.local)
		f.tight = true
		f.added += tightLabels
	} else {
		w.copy(in.end, in.end)
		f.mark = w.checkFuel()
	}
	w.shift(in.end)
}

// instruction writes what stands for one instruction, unless that can be copied,
// and returns what it costs beside what follows from the instruction alone.
// Constant is the number that the one before puts on the stack, or below 0.
func (w *bodyWriter) instruction(in *instruction, constant int64) (extra uint64) {
	e := w.emitter
	switch in.op {
	case opBr, opBrIf, opBrTable:
		w.branch(in)
	case opReturn:
		w.ret(in)
	case opCall:
		extra = e.callCost(in.a)
		w.replace(in)
		e.out = appendU32(append(e.out, opCall), e.m.moved(in.a))
	case opReturnCall:
		extra = e.callCost(in.a)
		w.replace(in)
		w.tailCall(e.m.types[e.m.functions[in.a]], opCall, opReturnCall, appendU32(nil, e.m.moved(in.a)))
	case opReturnCallIndirect:
		w.replace(in)
		w.tailCall(e.m.types[in.a], opCallIndirect, opReturnCallIndirect, appendU32(appendU32(nil, in.a), in.b))
	case opRefFunc:
		w.replace(in)
		e.out = appendU32(append(e.out, opRefFunc), e.m.moved(in.a))
	case opMemoryGrow:
		w.replace(in)
		e.out = appendU32(append(e.out, opCall), e.helpers.use(helperMemoryGrow))
	case opMisc:
		w.replace(in)
		extra = e.bulk(in, constant)
	}
	return extra
}

// branch writes a branch within or out of a tight loop, whose labels have other
// numbers, and which settles the fuel.
func (w *bodyWriter) branch(in *instruction) {
	f, e := w.flow, w.emitter
	if f.added() == 0 {
		return
	}
	w.replace(in)
	switch {
	case in.op == opBrTable:
		if slices.ContainsFunc(in.targets, f.leavesTight) {
			e.settle(w.local)
		}
		e.out = append(e.out, opBrTable)
		e.out = appendU32(e.out, uint32(len(in.targets)-1))
		for _, l := range in.targets {
			e.out = appendU32(e.out, f.label(l))
		}
		return
	case !f.leavesTight(in.a):
	case in.op == opBrIf && f.frame(in.a).arity == 0:
		// Only on the way out, so that the loop itself writes nothing.
		e.out = append(e.out, opIf, opTailBlock)
		e.settle(w.local)
		e.out = appendU32(append(e.out, opBr), f.label(in.a)+1)
		e.out = append(e.out, opEnd)
		return
	default:
		e.settle(w.local)
	}
	e.out = appendU32(append(e.out, in.op), f.label(in.a))
}

// ret writes a return: in functions that count their depth, a branch to the end.
func (w *bodyWriter) ret(in *instruction) {
	f, e := w.flow, w.emitter
	if f.added() == 0 && !w.fn.unbounded {
		return
	}
	w.replace(in)
	if f.added() > 0 {
		e.settle(w.local)
	}
	if w.fn.unbounded {
		e.out = appendU32(append(e.out, opBr), f.label(uint32(len(f.frames)-1)))
	} else {
		e.out = append(e.out, opReturn)
	}
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
func (w *bodyWriter) tailCall(t functionType, call, tail byte, operands []byte) {
	e := w.emitter
	switch {
	case !w.fn.unbounded:
		e.out = append(append(e.out, tail), operands...)
	case fitRegisters(t.params) && fitRegisters(t.results):
		e.restoreDepth(w.fn.nested)
		e.out = append(append(e.out, tail), operands...)
	default:
		e.out = append(append(e.out, call), operands...)
		e.out = appendU32(append(e.out, opBr), w.flow.label(uint32(len(w.flow.frames)-1)))
	}
}
