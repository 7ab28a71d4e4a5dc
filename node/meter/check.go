package meter

// This file writes the checks: what charges fuel and counts depth.

// checkFuel charges a cost that is put in later, and returns its place.
func (e *emitter) checkFuel() int {
	at := e.subtract(e.fuel)
	e.out = append(e.out, opGlobalGet)
	e.out = appendU32(e.out, e.fuel)
	e.refuel()
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

// tightLoop begins a loop that has neither loops nor calls inside, with two loops
// for one. The inner one keeps the fuel in a local, charges it there, and only looks at what it
// charged the last time; when that is below zero it goes around the
// outer one, which asks for more. So there is no call within the inner loop,
// around which the engine's compiler would move everything out of registers.
// Whoever leaves the loop writes the local back with [emitter.settle].
// The cost is put in later; its place is returned.
func (e *emitter) tightLoop(head []byte, local uint32) int {
	e.out = append(e.out, head...)
	e.out = appendU32(append(e.out, opGlobalGet), e.fuel)
	e.refuel()
	e.out = appendU32(append(e.out, opGlobalGet), e.fuel)
	e.out = appendU32(append(e.out, opLocalSet), local)
	e.out = append(e.out, head...)
	e.out = appendU32(append(e.out, opLocalGet), local)
	e.out = append(e.out, opI64Const, 0, opI64LtS, opIf, opTailBlock)
	e.settle(local)
	e.out = append(e.out, opBr, 2, opEnd)
	e.out = appendU32(append(e.out, opLocalGet), local)
	e.out = append(e.out, opI64Const)
	at := len(e.out)
	e.out = append(e.out, make([]byte, costBytes)...)
	e.out = append(e.out, opI64Sub)
	e.out = appendU32(append(e.out, opLocalSet), local)
	return at
}

// tightLabels is how many labels a tight loop has more than the loop that it replaces.
const tightLabels = 1

// settle writes the fuel that a tight loop keeps in a local to the global.
func (e *emitter) settle(local uint32) {
	e.out = appendU32(append(e.out, opLocalGet), local)
	e.out = appendU32(append(e.out, opGlobalSet), e.fuel)
}

// refuel asks for fuel if the number on the stack is below zero.
func (e *emitter) refuel() {
	e.out = append(e.out, opI64Const, 0, opI64LtS, opIf, opTailBlock, opCall)
	e.out = appendU32(e.out, e.helpers.use(helperRefuel))
	e.out = append(e.out, opEnd)
}
