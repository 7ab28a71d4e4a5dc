package meter

// Limits bound what a module may hold. They protect the compiler, whose time and
// memory grow faster than the module, and what instances cost beyond their linear memory.
// A zero field means that of [DefaultLimits].
type Limits struct {
	Bytes         uint64 // the whole module
	Types         uint64 // function types
	TypeValues    uint64 // parameters of one type, and results of one type
	Imports       uint64 // of all kinds
	Functions     uint64 // imported and defined
	Locals        uint64 // of one function, without its parameters
	BodyBytes     uint64 // code of one function
	Blocks        uint64 // of one function: blocks and ifs, and loops, which count as eight
	LocalJoins    uint64 // of one function: locals, parameters included, times places where paths join
	Nesting       uint64 // blocks, loops and ifs within one another
	LoopNesting   uint64 // loops within one another
	BranchValues  uint64 // of one function: values that its branches carry, each target of a br_table counted, with the target itself
	Tables        uint64 // imported and defined
	TableElements uint64 // what all tables of a module may hold together, now and after they grew
	Memories      uint64
	Globals       uint64 // imported and defined
	Exports       uint64
	Elements      uint64 // element segments
	ElementItems  uint64 // items of all element segments together
	DataSegments  uint64
	NameBytes     uint64 // one name of an import or export
	CustomBytes   uint64 // all custom sections together, debug information included
}

// DefaultLimits are wide enough for the output of the Go toolchain and for large
// programs of LLVM, and narrow enough that the compiler ends within seconds for any one function. ADR 8 has the figures.
var DefaultLimits = Limits{
	Bytes:         64 << 20,
	Types:         20_000,
	TypeValues:    1_000,
	Imports:       1_000,
	Functions:     200_000,
	Locals:        20_000,
	BodyBytes:     4 << 20,
	Blocks:        16_384,
	LocalJoins:    2_000_000,
	Nesting:       16_384,
	LoopNesting:   64,
	BranchValues:  100_000,
	Tables:        64,
	TableElements: 1 << 20,
	Memories:      1,
	Globals:       2_000,
	Exports:       10_000,
	Elements:      100_000,
	ElementItems:  4 << 20,
	DataSegments:  100_000,
	NameBytes:     10_000,
	CustomBytes:   48 << 20,
}

// withDefaults fills zero fields.
func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	for _, f := range []struct{ have, want *uint64 }{
		{&l.Bytes, &d.Bytes},
		{&l.Types, &d.Types},
		{&l.TypeValues, &d.TypeValues},
		{&l.Imports, &d.Imports},
		{&l.Functions, &d.Functions},
		{&l.Locals, &d.Locals},
		{&l.BodyBytes, &d.BodyBytes},
		{&l.Blocks, &d.Blocks},
		{&l.LocalJoins, &d.LocalJoins},
		{&l.Nesting, &d.Nesting},
		{&l.LoopNesting, &d.LoopNesting},
		{&l.BranchValues, &d.BranchValues},
		{&l.Tables, &d.Tables},
		{&l.TableElements, &d.TableElements},
		{&l.Memories, &d.Memories},
		{&l.Globals, &d.Globals},
		{&l.Exports, &d.Exports},
		{&l.Elements, &d.Elements},
		{&l.ElementItems, &d.ElementItems},
		{&l.DataSegments, &d.DataSegments},
		{&l.NameBytes, &d.NameBytes},
		{&l.CustomBytes, &d.CustomBytes},
	} {
		if *f.have == 0 {
			*f.have = *f.want
		}
	}
	return l
}
