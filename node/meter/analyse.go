package meter

// function is what the analysis finds out about a defined function.
type function struct {
	calls    []uint32 // functions that it calls by name, defined ones only, with repetitions; indices among the defined
	indirect bool     // calls through tables
	loops    int
	tight    []bool // for each loop, whether it is a tight one
	charges  bool   // charges fuel by what it works on: bulk operations
	path     uint64
	frame    uint64 // estimated native stack, bytes

	// Found out by looking at all functions:
	free      bool   // charged by its callers
	tree      uint64 // what a call costs in fuel, if free
	unbounded bool   // counts its depth
	nested    uint64 // native stack of the function and of what it calls that does not count its depth
}

const (
	// freeCost bounds what functions may cost that are charged by their callers.
	freeCost = 64
	// freeReferencedCost is the same for functions that may be called through
	// tables: each such call pays it.
	freeReferencedCost = 16
	// freeStack bounds the stack of functions, with all that they call, that do not count their depth.
	freeStack = 16 << 10
	// freeReferencedStack is the same for functions that may be called through tables.
	freeReferencedStack = 1 << 10
)

// frameBase is the return address, saved registers and what the engine adds.
const frameBase = 128

// entryCost is the fuel of a function's frame, with its locals set to zero.
func entryCost(locals uint64) uint64 { return 1 + locals/8 }

// analyse reads the code of all functions.
func (m *module) analyse() ([]function, error) {
	functions := make([]function, len(m.bodies))
	var f flow
	var in instruction
	for i := range m.bodies {
		if err := m.analyseBody(i, &functions[i], &f, &in); err != nil {
			return nil, err
		}
	}
	m.findFree(functions)
	m.findUnbounded(functions)
	return functions, nil
}

// sizes are what the limits on one function bound.
type sizes struct{ blocks, joins, nesting, loopNesting, branchValues uint64 }

func (m *module) analyseBody(i int, fn *function, f *flow, in *instruction) error {
	b := m.bodies[i]
	t := m.types[m.functions[m.importedFuncs+i]]
	locals := uint64(len(t.params)) + b.localCount
	r := &reader{src: m.src, pos: b.code, end: b.end}
	f.reset(uint64(len(t.results)))
	f.spend(entryCost(locals))
	var s sizes
	tight := tightLoops{fn: fn, open: -1}
	for len(f.frames) > 0 {
		r.next(in)
		if r.err != nil {
			return r.err
		}
		if err := m.check(in, f); err != nil {
			return err
		}
		switch in.op {
		case opBlock, opIf:
			s.blocks++
		case opLoop:
			s.blocks += 8
			fn.loops++
		case opBr, opBrIf:
			s.branchValues += 1 + f.frame(in.a).arity
		case opBrTable:
			for _, l := range in.targets {
				s.branchValues += 1 + f.frame(l).arity
			}
		case opCall, opReturnCall:
			if int64(in.a) >= int64(m.importedFuncs) {
				fn.calls = append(fn.calls, in.a-uint32(m.importedFuncs))
			}
		case opCallIndirect, opReturnCallIndirect:
			fn.indirect = true
		case opMemoryGrow:
			fn.charges = true
		case opMisc:
			fn.charges = fn.charges || in.sub >= miscMemoryInit && in.sub != miscTableSize
		}
		tight.follow(m, in, len(f.frames))
		if ended, _ := m.follow(in, f, 0); ended.targeted || ended.kind == opLoop || ended.kind == opIf || ended.kind == opElse {
			s.joins++
		}
		s.nesting = max(s.nesting, uint64(len(f.frames)))
		s.loopNesting = max(s.loopNesting, uint64(f.loops()))
		if err := m.limits.checkFunction(s, locals); err != nil {
			return err
		}
	}
	if r.left() > 0 {
		return malformed(r.pos, "code after the end of a function")
	}
	fn.path = f.total()
	fn.frame = estimateFrame(locals, uint64(b.end-b.code), s.joins)
	return nil
}

func (l *Limits) checkFunction(s sizes, locals uint64) error {
	switch {
	case s.nesting > l.Nesting:
		return exceeded("nested blocks in a function", s.nesting, l.Nesting)
	case s.loopNesting > l.LoopNesting:
		return exceeded("nested loops in a function", s.loopNesting, l.LoopNesting)
	case s.blocks > l.Blocks:
		return exceeded("blocks in a function, where a loop counts as eight", s.blocks, l.Blocks)
	case s.branchValues > l.BranchValues:
		return exceeded("values of branches in a function", s.branchValues, l.BranchValues)
	case s.joins*locals > l.LocalJoins:
		return exceeded("locals of a function times joins of its paths", s.joins*locals, l.LocalJoins)
	}
	return nil
}

// tightLoops finds the loops of a function that [emitter.tightLoop] is for:
// without loops and calls inside, and without values that they take.
type tightLoops struct {
	fn    *function
	open  int // the loop that this place is in, if nothing has spoilt it, or -1
	depth int // frames around it
}

// follow looks at an instruction, with as many frames around it.
func (t *tightLoops) follow(m *module, in *instruction, frames int) {
	switch {
	case in.op == opLoop:
		t.fn.tight = append(t.fn.tight, false)
		t.open = -1
		if in.block < 0 || len(m.types[in.block].params) == 0 {
			t.open, t.depth = len(t.fn.tight)-1, frames
		}
	case t.open < 0:
	case calls(in):
		t.open = -1
	case in.op == opEnd && frames == t.depth+1:
		t.fn.tight[t.open] = true
		t.open = -1
	}
}

// calls tells whether an instruction calls something, or is replaced by what does.
func calls(in *instruction) bool {
	switch in.op {
	case opCall, opCallIndirect, opReturnCall, opReturnCallIndirect, opMemoryGrow:
		return true
	case opMisc:
		return in.sub >= miscMemoryInit
	}
	return false
}

// estimateFrame is how many bytes of native stack a function is taken to use. The
// engine gives a place of eight bytes to every value that does not stay in a
// register, and never uses a place twice: values are what instructions compute, and what
// locals are where paths join. In real programs most stay in registers: for the functions
// of Go programs the estimate is mostly above the truth, and at least half of it. The truth can be
// sixteen times the estimate, for functions that are made for it.
func estimateFrame(locals, codeBytes, joins uint64) uint64 {
	return frameBase + 8*locals + codeBytes/3 + locals*joins/2
}

// check refuses indices that do not exist.
func (m *module) check(in *instruction, f *flow) error {
	depth := int64(len(f.frames))
	switch in.op {
	case opBlock, opLoop, opIf:
		switch in.block {
		case -64, -1, -2, -3, -4, -5, -16, -17: // no value, or one
		default:
			if in.block < 0 {
				return unsupported(in.at, "block type %d", in.block)
			}
			if in.block >= int64(len(m.types)) {
				return invalid("type %d does not exist", in.block)
			}
		}
	case opElse:
		if f.frames[depth-1].kind != opIf {
			return malformed(in.at, "else without if")
		}
	case opBr, opBrIf:
		if int64(in.a) >= depth {
			return invalid("label %d does not exist", in.a)
		}
	case opBrTable:
		for _, l := range in.targets {
			if int64(l) >= depth {
				return invalid("label %d does not exist", l)
			}
		}
	case opCall, opReturnCall, opRefFunc:
		if int64(in.a) >= int64(len(m.functions)) {
			return invalid("function %d does not exist", in.a)
		}
	case opCallIndirect, opReturnCallIndirect:
		if int64(in.a) >= int64(len(m.types)) {
			return invalid("type %d does not exist", in.a)
		}
	case opGlobalGet, opGlobalSet:
		if int64(in.a) >= int64(m.globals) {
			return invalid("global %d does not exist", in.a)
		}
	}
	return nil
}

// arity is how many values a branch to the label of a block carries.
func (m *module) arity(in *instruction) uint64 {
	switch {
	case in.block >= 0:
		t := m.types[in.block]
		if in.op == opLoop {
			return uint64(len(t.params))
		}
		return uint64(len(t.results))
	case in.block == -64 || in.op == opLoop:
		return 0
	}
	return 1
}

// follow moves f over one instruction, which was checked. Extra is what
// it costs beside what is known from the instruction alone.
func (m *module) follow(in *instruction, f *flow, extra uint64) (frame, uint64) {
	cost := uint64(costs[in.op]) + extra
	switch in.op {
	case opBr, opBrIf:
		cost += f.frame(in.a).arity
	case opBrTable:
		cost += 2 + f.frame(in.targets[len(in.targets)-1]).arity
	case opReturn:
		cost += f.frames[0].arity
	case opCall, opReturnCall:
		t := m.types[m.functions[in.a]]
		cost += uint64(len(t.params) + len(t.results))
		if int64(in.a) < int64(m.importedFuncs) {
			cost += costImport
		}
	case opCallIndirect, opReturnCallIndirect:
		t := m.types[in.a]
		cost += uint64(len(t.params) + len(t.results))
	case opMisc:
		switch {
		case in.sub == miscDataDrop || in.sub == miscElemDrop:
			cost += costDrop
		case in.sub >= miscMemoryInit && in.sub != miscTableSize:
			cost += costCall
		}
	}
	f.spend(cost)
	switch in.op {
	case opBlock, opLoop, opIf:
		f.begin(in.op, m.arity(in))
	case opElse:
		f.otherwise()
	case opEnd:
		return f.end()
	case opBr:
		f.branch(in.a)
		f.stop()
	case opBrIf:
		f.branch(in.a)
	case opBrTable:
		for _, l := range in.targets {
			f.branch(l)
		}
		f.stop()
	case opReturn, opUnreachable, opReturnCall, opReturnCallIndirect:
		f.stop()
	}
	return frame{}, 0
}

// findFree finds the functions that are charged by their callers: without loops
// and bulk operations, and cheap with all that they call. What is exported and
// called by the host is bounded by how often it calls.
func (m *module) findFree(functions []function) {
	order, cyclic := callees(functions)
	for _, i := range order {
		fn := &functions[i]
		if fn.loops > 0 || fn.charges || fn.indirect || cyclic[i] {
			continue
		}
		most := uint64(freeCost)
		if m.isReferenced(uint32(m.importedFuncs) + i) {
			most = freeReferencedCost
		}
		tree := fn.path
		free := true
		for _, c := range fn.calls {
			if !functions[c].free {
				free = false
				break
			}
			tree += functions[c].tree
		}
		if free && tree <= most {
			fn.free, fn.tree = true, tree
		}
	}
}

// findUnbounded finds the functions that must count their depth, so that no
// chain of calls uses native stack without being counted.
func (m *module) findUnbounded(functions []function) {
	order, cyclic := callees(functions)
	for _, i := range order {
		fn := &functions[i]
		var below uint64
		for _, c := range fn.calls {
			if !functions[c].unbounded { // of a cycle: comes later, but is unbounded, as this one is
				below = max(below, functions[c].nested)
			}
		}
		if fn.indirect {
			below = max(below, freeReferencedStack)
		}
		bound := uint64(freeStack)
		if m.isReferenced(uint32(m.importedFuncs) + i) {
			bound = freeReferencedStack
		}
		fn.nested = fn.frame + below
		fn.unbounded = cyclic[i] || fn.indirect || fn.nested > bound
	}
}

// callees orders functions so that each comes after those that it calls, as far as there are no
// cycles, and tells which are in one. This is Tarjan's algorithm for strongly
// connected components, with a stack of its own: a chain of calls may be as long as the module.
func callees(functions []function) (order []uint32, cyclic []bool) {
	n := len(functions)
	order = make([]uint32, 0, n)
	cyclic = make([]bool, n)
	index := make([]uint32, n) // 0: not visited
	low := make([]uint32, n)
	onStack := make([]bool, n)
	var stack []uint32
	type visit struct {
		fn   uint32
		next int
	}
	var visits []visit
	counter := uint32(0)
	enter := func(i uint32) {
		counter++
		index[i], low[i] = counter, counter
		onStack[i] = true
		stack = append(stack, i)
		visits = append(visits, visit{fn: i})
	}
	for root := range uint32(n) {
		if index[root] != 0 {
			continue
		}
		enter(root)
		for len(visits) > 0 {
			v := &visits[len(visits)-1]
			fn := v.fn
			if calls := functions[fn].calls; v.next < len(calls) {
				c := calls[v.next]
				v.next++
				switch {
				case c == fn:
					cyclic[fn] = true
				case index[c] == 0:
					enter(c)
				case onStack[c]:
					low[fn] = min(low[fn], index[c])
				}
				continue
			}
			visits = visits[:len(visits)-1]
			if len(visits) > 0 {
				caller := visits[len(visits)-1].fn
				low[caller] = min(low[caller], low[fn])
			}
			if low[fn] != index[fn] {
				continue
			}
			at := len(stack) - 1
			for stack[at] != fn {
				at--
			}
			component := stack[at:]
			for _, c := range component {
				onStack[c] = false
				cyclic[c] = cyclic[c] || len(component) > 1
			}
			order = append(order, component...)
			stack = stack[:at]
		}
	}
	return order, cyclic
}
