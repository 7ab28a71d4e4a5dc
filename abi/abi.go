// Package abi names what guests import from the host and the codes they get
// back. It is the contract of docs/abi.md: what is here is never changed, only
// added to.
package abi

// Module is the name under which guests import the functions of this package.
const Module = "wasmatrix"

// Version of the contract. A host of a higher version serves guests of all
// lower ones.
const Version = 1

// Functions of an invocation that takes and gives bytes.
const (
	// InputLen () -> i32 is the length of the input in bytes.
	InputLen = "input_len"
	// InputRead (offset, ptr, len i32) -> i32 copies input to the guest's
	// memory, and returns how many bytes it copied, or a negative [Error].
	InputRead = "input_read"
	// OutputWrite (ptr, len i32) -> i32 appends to the output. It returns 0 or
	// a negative [Error].
	OutputWrite = "output_write"
)

// Error is what a host function returns, negated, in place of a result.
type Error int32

// The errors.
const (
	ErrBounds   Error = 1 // memory beyond the guest's own was named
	ErrTooLarge Error = 2 // more than the host takes
	ErrNoCall   Error = 3 // no invocation that takes bytes is under way
)
