package meter

// Opcodes that are treated by name; all others are in the ranges of [immediates].
const (
	opUnreachable        = 0x00
	opNop                = 0x01
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opElse               = 0x05
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrIf               = 0x0d
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opDrop               = 0x1a
	opSelect             = 0x1b
	opSelectTyped        = 0x1c
	opLocalGet           = 0x20
	opLocalSet           = 0x21
	opLocalTee           = 0x22
	opGlobalGet          = 0x23
	opGlobalSet          = 0x24
	opTableGet           = 0x25
	opTableSet           = 0x26
	opMemorySize         = 0x3f
	opMemoryGrow         = 0x40
	opI32Const           = 0x41
	opI64Const           = 0x42
	opF32Const           = 0x43
	opF64Const           = 0x44
	opI32LtU             = 0x49
	opI32GtU             = 0x4b
	opI32LeU             = 0x4d
	opI64LtS             = 0x53
	opI64GtU             = 0x56
	opI32Add             = 0x6a
	opI32Sub             = 0x6b
	opI32Mul             = 0x6c
	opI32DivS            = 0x6d
	opI32RemU            = 0x70
	opI32ShrU            = 0x76
	opI64Add             = 0x7c
	opI64Sub             = 0x7d
	opI64Mul             = 0x7e
	opI64DivS            = 0x7f
	opI64RemU            = 0x82
	opI64And             = 0x83
	opI64Or              = 0x84
	opI64Shl             = 0x86
	opI64ShrU            = 0x88
	opF32Sqrt            = 0x91
	opF32Div             = 0x95
	opF64Sqrt            = 0x9f
	opF64Div             = 0xa3
	opI64ExtendI32U      = 0xad
	opRefNull            = 0xd0
	opRefIsNull          = 0xd1
	opRefFunc            = 0xd2
	opMisc               = 0xfc
	opVector             = 0xfd
	opTailBlock          = 0x40 // block type of no values

	miscMemoryInit = 8
	miscDataDrop   = 9
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscElemDrop   = 13
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableSize  = 16
	miscTableFill  = 17
)

const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeF32       = 0x7d
	typeF64       = 0x7c
	typeV128      = 0x7b
	typeFuncref   = 0x70
	typeExternref = 0x6f
)

// immediate is what follows an opcode.
type immediate uint8

const (
	immUnsupported immediate = iota
	immNone
	immBlock       // a block type
	immIndex       // one index
	immIndexes     // two indices
	immTable       // the targets of br_table
	immMemory      // alignment and offset
	immZero        // the reserved byte of memory.size and memory.grow
	immI32         // signed numbers
	immI64         //
	imm4           // bytes
	imm8           //
	immReference   // a reference type
	immSelectTypes // one value type, in a vector
	immPrefix      // a second opcode
)

// immediates says for each opcode what follows it.
var immediates = func() (t [256]immediate) {
	fill := func(from, to int, imm immediate) {
		for op := from; op <= to; op++ {
			t[op] = imm
		}
	}
	fill(opUnreachable, opNop, immNone)
	fill(opBlock, opIf, immBlock)
	fill(opElse, opElse, immNone)
	fill(opEnd, opEnd, immNone)
	fill(opBr, opBrIf, immIndex)
	t[opBrTable] = immTable
	t[opReturn] = immNone
	t[opCall], t[opReturnCall] = immIndex, immIndex
	t[opCallIndirect], t[opReturnCallIndirect] = immIndexes, immIndexes
	fill(opDrop, opSelect, immNone)
	t[opSelectTyped] = immSelectTypes
	fill(opLocalGet, opTableSet, immIndex)
	fill(0x28, 0x3e, immMemory)
	fill(opMemorySize, opMemoryGrow, immZero)
	t[opI32Const], t[opI64Const], t[opF32Const], t[opF64Const] = immI32, immI64, imm4, imm8
	fill(0x45, 0xc4, immNone)
	t[opRefNull], t[opRefIsNull], t[opRefFunc] = immReference, immNone, immIndex
	t[opMisc], t[opVector] = immPrefix, immPrefix
	return t
}()

// Costs in fuel. One is about what a core does in a third of a nanosecond to a nanosecond.
const (
	costDivide   = 8                      // divisions, remainders and square roots
	costCall     = 4                      // beside what the callee charges
	costIndirect = 8 + freeReferencedCost // with the checks of index and type
	costImport   = 512                    // the way to the host and back, and something of what it does there
	costVector   = 2
	costDrop     = 16 // drops of segments
	costGrow     = 512
	byteShift    = 3  // bulk operations: one for each eight bytes
	pageShift    = 12 // growing memory: 4096 for each page, which the system must clear and map
)

// costs is the fuel of each opcode, without what depends on its operands.
// What generates no code is free: a loop pays for its branch, at least.
var costs = func() (t [256]uint8) {
	for op := range t {
		t[op] = 1
	}
	for _, op := range []int{opNop, opBlock, opLoop, opElse, opEnd, opDrop, opLocalGet, opI32Const, opI64Const, opF32Const, opF64Const} {
		t[op] = 0
	}
	for op := opI32DivS; op <= opI32RemU; op++ {
		t[op] = costDivide
	}
	for op := opI64DivS; op <= opI64RemU; op++ {
		t[op] = costDivide
	}
	for _, op := range []int{opF32Sqrt, opF64Sqrt, opF32Div, opF64Div} {
		t[op] = costDivide
	}
	t[opCall], t[opReturnCall] = costCall, costCall
	t[opCallIndirect], t[opReturnCallIndirect] = costIndirect, costIndirect
	t[opMemoryGrow] = 16
	t[opVector] = costVector
	return t
}()

// What follows a vector instruction.
func vectorImmediate(op byte) (memory bool, extra int) {
	switch {
	case op <= 0x0b, op == 0x5c, op == 0x5d:
		return true, 0
	case op == 0x0c, op == 0x0d:
		return false, 16
	case op >= 0x15 && op <= 0x22:
		return false, 1
	case op >= 0x54 && op <= 0x5b:
		return true, 1
	}
	return false, 0
}
