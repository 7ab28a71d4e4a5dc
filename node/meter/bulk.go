package meter

// staticBytes is up to which length a bulk operation of constant length is charged with its region.
const staticBytes = 16 << 10

// bulk writes an instruction with the prefix of bulk operations, and returns what it costs more.
func (e *emitter) bulk(in *instruction, constant int64) uint64 {
	small := constant >= 0 && constant <= staticBytes
	charge := func(limit uint64, shift byte) {
		e.out = append(e.out, opI32Const)
		e.out = appendS64(e.out, int64(int32(min(limit, 1<<31-1))))
		e.out = append(e.out, opI32Const, shift, opCall)
		e.out = appendU32(e.out, e.helpers.use(helperCharge))
	}
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
		if in.sub == miscTableGrow {
			e.askToGrow(in.a)
		}
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

// askToGrow lets the host see, and change, by how many elements a table is to grow.
func (e *emitter) askToGrow(table uint32) {
	e.out = appendS64(append(e.out, opI32Const), int64(int32(table)))
	e.out = appendU32(append(e.out, opMisc, miscTableSize), table)
	e.out = appendS64(append(e.out, opI32Const), int64(int32(e.m.initialElements(table))))
	e.out = append(e.out, opI32Sub, opCall)
	e.out = appendU32(e.out, uint32(e.m.importedFuncs)+2)
}
