package meter

// instruction is one decoded instruction of a function's body.
type instruction struct {
	op      byte
	sub     uint32 // second opcode of a prefixed one
	at, end int    // its bytes, offsets in the module
	a, b    uint32 // indices, or the bits of an i32.const
	block   int64  // block type
	targets []uint32
}

// next reads one instruction. The targets are good until the next call.
func (r *reader) next(in *instruction) {
	in.at = r.pos
	in.op = r.byte()
	switch immediates[in.op] {
	case immNone:
	case immBlock:
		in.block = r.s33()
	case immIndex:
		in.a = r.u32()
	case immIndexes:
		in.a, in.b = r.u32(), r.u32()
	case immTable:
		n := r.count(1)
		in.targets = in.targets[:0]
		for range n {
			in.targets = append(in.targets, r.u32())
		}
		in.targets = append(in.targets, r.u32())
	case immMemory:
		r.u32()
		r.u32()
	case immZero:
		if r.byte() != 0 {
			r.fail(malformed(in.at, "reserved byte is not zero"))
		}
	case immI32:
		in.a = uint32(r.i32())
	case immI64:
		r.signed(10)
	case imm4:
		r.bytes(4)
	case imm8:
		r.bytes(8)
	case immReference:
		if t := r.byte(); t != typeFuncref && t != typeExternref {
			r.fail(unsupported(in.at, "reference type %#x", t))
		}
	case immSelectTypes:
		if n := r.byte(); n != 1 {
			r.fail(malformed(in.at, "select of %d types", n))
		}
		r.valueType()
	case immPrefix:
		if in.op == opMisc {
			r.misc(in)
		} else {
			r.vector(in)
		}
	default:
		r.fail(unsupported(in.at, "opcode %#02x", in.op))
	}
	in.end = r.pos
}

func (r *reader) misc(in *instruction) {
	in.sub = r.u32()
	switch in.sub {
	case 0, 1, 2, 3, 4, 5, 6, 7:
	case miscDataDrop, miscElemDrop, miscTableGrow, miscTableSize, miscTableFill:
		in.a = r.u32()
	case miscMemoryInit:
		in.a = r.u32()
		in.b = uint32(r.byte())
	case miscMemoryCopy:
		in.a, in.b = uint32(r.byte()), uint32(r.byte())
	case miscMemoryFill:
		in.b = uint32(r.byte())
	case miscTableInit, miscTableCopy:
		in.a, in.b = r.u32(), r.u32()
	default:
		r.fail(unsupported(in.at, "opcode %#02x %#x", in.op, in.sub))
	}
	switch in.sub {
	case miscMemoryFill, miscMemoryInit:
		if in.b != 0 {
			r.fail(malformed(in.at, "reserved byte is not zero"))
		}
	case miscMemoryCopy:
		if in.a != 0 || in.b != 0 {
			r.fail(malformed(in.at, "reserved byte is not zero"))
		}
	}
}

// vector reads what follows the prefix of vector instructions. The specification
// has a LEB128 number here. The engine reads one byte; for the numbers from 128,
// whose second byte is 1, it then reads that byte as a nop. Any other
// second byte would be an instruction to the engine and not to the specification.
func (r *reader) vector(in *instruction) {
	op := r.byte()
	in.sub = uint32(op)
	if op >= 0x80 {
		if next := r.byte(); next != 1 {
			r.fail(unsupported(in.at, "opcode %#02x %#02x %#02x", in.op, op, next))
		}
		return
	}
	memory, extra := vectorImmediate(op)
	if memory {
		r.u32()
		r.u32()
	}
	r.bytes(uint64(extra))
}

// valueType reads one type of values.
func (r *reader) valueType() byte {
	at := r.pos
	switch t := r.byte(); t {
	case typeI32, typeI64, typeF32, typeF64, typeV128, typeFuncref, typeExternref:
		return t
	case 0x63, 0x64, 0x69:
		r.fail(unsupported(at, "value type %#x", t))
	default:
		r.fail(malformed(at, "value type %#x", t))
	}
	return typeI32
}
