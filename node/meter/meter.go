package meter

import (
	"slices"

	"github.com/wasmatrix/wasmatrix"
)

// Version is that of the output: any change of what [Rewrite] writes for the same
// source raises it, as compiled modules are kept under it.
const Version = 2

// The functions that a rewritten module imports.
const (
	// HostModule is the module of all. A source may not import from it.
	HostModule = "wasmatrix_meter"
	// FuncRefill (left i64) -> i64 is called when the fuel went below 0, with
	// its value, and returns the new amount, at least 0.
	FuncRefill = "refill"
	// FuncTrap (reason i32) ends the guest: it never returns.
	FuncTrap = "trap"
	// FuncGrowTable (n, table, grown i32) -> i32 is called before a table is to
	// grow by n elements. grown is by how many it has already. It returns n, or -1
	// to make that fail.
	FuncGrowTable = "grow_table"
	// ExportFuel is the name under which the output exports its fuel, an i64: what
	// is left of the last amount. A source may not export anything by that name.
	ExportFuel = "wasmatrix_meter.fuel"
	// ExportDepth is the same for what is left of the budget of nested calls, an
	// i64 that begins at [MinStack] and may be raised while nothing of the guest
	// is executing.
	ExportDepth = "wasmatrix_meter.depth"
	// TrapStack is the reason of a guest whose calls are nested too deeply.
	TrapStack int32 = 1
)

// AddedImports is how many functions a rewritten module imports more. They come
// behind those of the source, so that what it defines has higher indices by as many.
const AddedImports = 3

// MinStack is the budget of nested calls that every instance begins with, and
// that its start section has, in bytes of native stack as they are estimated.
const MinStack = 16 << 10

// Options are what a module is checked against and rewritten for.
type Options struct {
	Limits Limits
	// AllowImport tells which functions the source may import. Where it is set,
	// nothing but functions may be imported; all that is refused is listed in
	// one error. Nil allows everything.
	AllowImport func(module, name string) bool
}

// Output is a rewritten module, and what was found out about it.
type Output struct {
	Wasm    []byte
	Kind    wasmatrix.ModuleKind
	Imports []string // functions that the source imports, "module.name", sorted, each once
	Exports []Export // functions that the source exports, in its order
	Tables  uint64   // elements that all tables which the module defines begin with
	Debug   *Debug   // nil where the source has no lines in DWARF
}

// Rewrite checks a module and writes its metered form. The output depends on
// nothing but the arguments. It neither keeps nor changes src.
//
// Its errors are [*wasmatrix.Error]: CodeWasmRuntime where the module is malformed,
// invalid, uses what is not supported ([ErrUnsupported] is then in the chain) or imports
// what is not allowed, and CodeResourceExhausted where it exceeds a limit.
func Rewrite(src []byte, opts Options) (*Output, error) {
	m, err := parse(src, opts.Limits.withDefaults())
	if err != nil {
		return nil, err
	}
	if err := m.checkImports(opts.AllowImport); err != nil {
		return nil, err
	}
	if err := m.encodeTables(); err != nil {
		return nil, err
	}
	functions, err := m.analyse()
	if err != nil {
		return nil, err
	}
	e := newEmitter(m, functions)
	wasm, err := e.module()
	if err != nil {
		return nil, err
	}
	return &Output{
		Wasm: wasm, Kind: m.kind(), Imports: m.importNames(), Exports: m.ownExports(), Tables: m.elements(), Debug: e.debug(),
	}, nil
}

// kind tells a command, which exports a function "_start", from a reactor.
func (m *module) kind() wasmatrix.ModuleKind {
	for _, e := range m.exports {
		if e.Name == "_start" {
			return wasmatrix.ModuleCommand
		}
	}
	return wasmatrix.ModuleReactor
}

// ownExports are copies that do not hold on to the source.
func (m *module) ownExports() []Export {
	exports := slices.Clone(m.exports)
	for i := range exports {
		exports[i].Params = slices.Clone(exports[i].Params)
		exports[i].Results = slices.Clone(exports[i].Results)
	}
	return exports
}
