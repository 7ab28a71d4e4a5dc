// Package meter checks and rewrites a WebAssembly module before it is compiled,
// so that a guest cannot hold a core, exhaust the native stack, or make the
// compiler run away.
//
// [Rewrite] is a pure function of its arguments. It
//
//   - refuses what is malformed, what uses features that are not supported, what
//     imports other functions than allowed, and what exceeds a limit;
//   - charges fuel at function entry and at loop heads, and for bulk operations by
//     their length, in a global that the guest cannot name. When it falls below
//     zero the module calls [FuncRefill], whose host decides what happens;
//   - counts the estimated native stack of nested calls, and calls [FuncTrap] when
//     the budget is used up;
//   - bounds what tables may grow to.
//
// It does not check types: that is the compiler's, and what it would have
// refused before it refuses after. What it checks itself are all indices into
// spaces to which it appends (types, functions, globals), so that an index that was
// one too high does not become valid.
//
// The decoder reads code exactly as wazero does, also where wazero is more
// lenient than the specification: a byte that one of both took for an
// instruction and the other for an operand would be a hole.
package meter
