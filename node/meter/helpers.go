package meter

// helper is a function that is added to a module that needs it.
type helper int

const (
	helperRefuel     helper = iota // () -> (): asks for fuel
	helperRefuelDeep               // () -> (): ends the guest if its calls are nested too deeply, or asks for fuel if it is out of it
	helperCharge                   // (n, limit, shift i32) -> i32: charges min(n, limit) >> shift, and returns n
	helperMemoryGrow               // (pages i32) -> i32
	helperMemoryFill               // (to, value, n i32) -> ()
	helperMemoryCopy               // (to, from, n i32) -> ()
	helperCount
)

var helperKinds = [helperCount]struct {
	name            string
	params, results string
	code            func(e *emitter, c *assembler)
}{
	helperRefuel:     {"refuel", "", "", codeRefuel},
	helperRefuelDeep: {"refuel and check depth", "", "", codeRefuelDeep},
	helperCharge:     {"charge", "\x7f\x7f\x7f", "\x7f", codeCharge},
	helperMemoryGrow: {"memory.grow (metered)", "\x7f", "\x7f", codeMemoryGrow},
	helperMemoryFill: {"memory.fill (metered)", "\x7f\x7f\x7f", "", codeMemoryFill},
	helperMemoryCopy: {"memory.copy (metered)", "\x7f\x7f\x7f", "", codeMemoryCopy},
}

// helpers are those that a module needs, in the order of their first use. They
// come behind the functions of the source.
type helpers struct {
	first uint32 // index of the first
	order []helper
	index [helperCount]uint32
	types []uint32
}

// use returns the index of a helper, which it adds if need be.
func (h *helpers) use(k helper) uint32 {
	if h.index[k] == 0 {
		h.index[k] = h.first + uint32(len(h.order))
		h.order = append(h.order, k)
	}
	return h.index[k]
}

// write appends their code, and returns their names.
func (h *helpers) write(e *emitter) []functionName {
	var names []functionName
	for _, k := range h.order {
		kind := helperKinds[k]
		h.types = append(h.types, e.typeOf(kind.params, kind.results))
		names = append(names, functionName{h.index[k], kind.name})
		c := &assembler{params: uint32(len(kind.params))}
		kind.code(e, c)
		c.op(opEnd)
		body := appendU32(nil, uint32(len(c.groups)/2))
		body = append(body, c.groups...)
		body = append(body, c.out...)
		e.out = appendU32(e.out, uint32(len(body)))
		e.out = append(e.out, body...)
	}
	return names
}

// assembler writes the code of one function.
type assembler struct {
	params uint32
	groups []byte // locals, one by one
	out    []byte
}

func (c *assembler) local(t byte) uint32 {
	c.groups = append(c.groups, 1, t)
	return c.params + uint32(len(c.groups)/2) - 1
}

func (c *assembler) op(ops ...byte) { c.out = append(c.out, ops...) }

func (c *assembler) index(op byte, i uint32) {
	c.out = appendU32(append(c.out, op), i)
}

func (c *assembler) get(i uint32)  { c.index(opLocalGet, i) }
func (c *assembler) set(i uint32)  { c.index(opLocalSet, i) }
func (c *assembler) i32(v int64)   { c.out = appendS64(append(c.out, opI32Const), v) }
func (c *assembler) i64(v int64)   { c.out = appendS64(append(c.out, opI64Const), v) }
func (c *assembler) begin(op byte) { c.op(op, opTailBlock) }

// refuel asks for fuel if there is none left.
func (c *assembler) refuel(e *emitter) {
	c.index(opGlobalGet, e.fuel)
	c.i64(0)
	c.op(opI64LtS)
	c.begin(opIf)
	c.index(opCall, e.helpers.use(helperRefuel))
	c.op(opEnd)
}

// charge takes from the fuel what cost puts on the stack, and asks for more if need be.
func (c *assembler) charge(e *emitter, cost func()) {
	c.index(opGlobalGet, e.fuel)
	cost()
	c.op(opI64Sub)
	c.index(opGlobalSet, e.fuel)
	c.refuel(e)
}

func codeRefuel(e *emitter, c *assembler) {
	c.index(opGlobalGet, e.fuel)
	c.index(opCall, uint32(e.m.importedFuncs))
	c.index(opGlobalSet, e.fuel)
}

func codeRefuelDeep(e *emitter, c *assembler) {
	c.index(opGlobalGet, e.depth)
	c.i64(0)
	c.op(opI64LtS)
	c.begin(opIf)
	c.i32(int64(TrapStack))
	c.index(opCall, uint32(e.m.importedFuncs)+1)
	c.op(opUnreachable, opEnd)
	c.refuel(e)
}

func codeCharge(e *emitter, c *assembler) {
	const n, limit, shift = 0, 1, 2
	c.charge(e, func() {
		c.get(n)
		c.get(limit)
		c.get(n)
		c.get(limit)
		c.op(opI32LtU, opSelect)
		c.get(shift)
		c.op(opI32ShrU, opI64ExtendI32U)
	})
	c.get(n)
}

// codeMemoryGrow charges for the pages that were got, after the fact: how much that can be the
// memory limit bounds.
func codeMemoryGrow(e *emitter, c *assembler) {
	const pages = 0
	before := c.local(typeI32)
	c.get(pages)
	c.op(opMemoryGrow, 0)
	c.index(opLocalTee, before)
	c.i32(-1)
	c.op(0x47) // i32.ne
	c.begin(opIf)
	c.charge(e, func() {
		c.get(pages)
		c.op(opI64ExtendI32U)
		c.i64(pageShift)
		c.op(opI64Shl)
	})
	c.op(opEnd)
	c.charge(e, func() { c.i64(costGrow) })
	c.get(before)
}

// piece is how many bytes bulk operations work on between two checks: some
// microseconds.
const piece = 64 << 10

// outside is followed by code that is executed if n bytes at the address in a
// local are not all within the memory.
func (c *assembler) outside(address, n uint32) {
	c.get(address)
	c.op(opI64ExtendI32U)
	c.get(n)
	c.op(opI64ExtendI32U, opI64Add, opMemorySize, 0, opI64ExtendI32U)
	c.i64(16)
	c.op(opI64Shl, opI64GtU)
	c.begin(opIf)
}

// add changes a local by a constant.
func (c *assembler) add(local uint32, v int64) {
	c.get(local)
	c.i32(v)
	c.op(opI32Add)
	c.set(local)
}

// chargeBytes charges for the bytes that a local says.
func (c *assembler) chargeBytes(e *emitter, n uint32) {
	c.charge(e, func() {
		c.get(n)
		c.i32(byteShift)
		c.op(opI32ShrU, opI64ExtendI32U)
	})
}

// pieces repeats what step writes while the local n is above a piece.
func (c *assembler) pieces(e *emitter, n uint32, step func()) {
	c.begin(opLoop)
	c.charge(e, func() { c.i64(piece >> byteShift) })
	step()
	c.get(n)
	c.i32(piece)
	c.op(opI32GtU, opBrIf, 0, opEnd)
}

// codeMemoryFill fills in pieces. A range that is not within the memory is
// handed to the instruction as it is, which traps and writes nothing.
func codeMemoryFill(e *emitter, c *assembler) {
	const to, value, n = 0, 1, 2
	fill := func() { c.op(opMisc, miscMemoryFill, 0) }
	all := func() {
		c.get(to)
		c.get(value)
		c.get(n)
		fill()
	}
	c.get(n)
	c.i32(piece)
	c.op(opI32GtU)
	c.begin(opIf)
	c.outside(to, n)
	all()
	c.op(opEnd)
	c.pieces(e, n, func() {
		c.get(to)
		c.get(value)
		c.i32(piece)
		fill()
		c.add(to, piece)
		c.add(n, -piece)
	})
	c.op(opEnd)
	c.chargeBytes(e, n)
	all()
}

// codeMemoryCopy copies in pieces, from the end that does not overwrite what is
// still to be copied.
func codeMemoryCopy(e *emitter, c *assembler) {
	const to, from, n = 0, 1, 2
	move := func() { c.op(opMisc, miscMemoryCopy, 0, 0) }
	all := func() {
		c.get(to)
		c.get(from)
		c.get(n)
		move()
	}
	c.get(n)
	c.i32(piece)
	c.op(opI32GtU)
	c.begin(opIf)
	for _, address := range []uint32{to, from} {
		c.outside(address, n)
		all()
		c.op(opEnd)
	}
	c.get(to)
	c.get(from)
	c.op(opI32LeU)
	c.begin(opIf)
	c.pieces(e, n, func() {
		c.get(to)
		c.get(from)
		c.i32(piece)
		move()
		c.add(to, piece)
		c.add(from, piece)
		c.add(n, -piece)
	})
	c.op(opElse)
	c.pieces(e, n, func() {
		c.add(n, -piece)
		c.get(to)
		c.get(n)
		c.op(opI32Add)
		c.get(from)
		c.get(n)
		c.op(opI32Add)
		c.i32(piece)
		move()
	})
	c.op(opEnd, opEnd)
	c.chargeBytes(e, n)
	all()
}
