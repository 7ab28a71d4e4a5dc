package compile

import (
	"context"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Fetch returns the bytes of a module. They are not changed afterwards.
type Fetch = func(context.Context) ([]byte, error)

// Artifact is a compiled module. Its native code lies where a runtime whose
// cache is [Cache.Dir] finds it, while the artifact is in use.
type Artifact struct {
	Wasm    []byte // metered
	Kind    wasmatrix.ModuleKind
	Imports []string // functions that the source imports, "module.name", sorted
	Tables  uint64   // elements that its tables begin with together
	// Debug reads what source lines are found by; nil where the source has none.
	// It may be called later, and fails if the entry is gone by then.
	Debug func() (*meter.Debug, error)
}

// manifest describes an entry of the cache. The child writes it.
type manifest struct {
	Kind    wasmatrix.ModuleKind
	Imports []string
	Tables  uint64
	Module  file // metered
	Debug   file // zero where there is none
	Code    file // wazero's own, in its directory
}

// file is the name, without a directory, and content of a file.
type file struct {
	Name   string
	Bytes  int64
	SHA256 [32]byte
}

func (m *manifest) bytes() int64 { return m.Module.Bytes + m.Debug.Bytes + m.Code.Bytes }

// request is what a child is asked for.
type request struct {
	Source string // path of the module
	Dir    string // where to leave the results; nothing else is in it
	Limits meter.Limits
	Stack  uint32
	Memory uint64 // bytes of address space
	Load   int64  // nanoseconds that loading the result may take
}

// answer is what a child says at its end.
type answer struct {
	Manifest manifest
	Code     wasmatrix.Code // of the failure; "" for none
	Message  string
}
