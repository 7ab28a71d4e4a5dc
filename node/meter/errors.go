package meter

import (
	"errors"

	"github.com/wasmatrix/wasmatrix"
)

// ErrUnsupported is in the chain of errors about modules that use a feature that
// is not supported here, whether or not the engine could run it.
var ErrUnsupported = errors.New("not supported")

func malformed(at int, format string, args ...any) error {
	e := wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, format, args...)
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "malformed module at offset %#x: %s", at, e.Message)
}

func invalid(format string, args ...any) error {
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "invalid module: "+format, args...)
}

func unsupported(at int, format string, args ...any) error {
	e := wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, format, args...)
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "module at offset %#x: %s is %w", at, e.Message, ErrUnsupported)
}

func exceeded(what string, have, limit uint64) error {
	return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "module has %s: %d, and the limit is %d", what, have, limit)
}
