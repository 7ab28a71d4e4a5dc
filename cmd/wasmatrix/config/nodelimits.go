package config

import (
	"reflect"
	"runtime"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Compile bounds the processes that compile modules, each of them one, and what
// they leave.
type Compile struct {
	Cache    uint64 `hcl:"cache,size"` // on disk, of compiled modules
	Parallel int    `hcl:"parallel"`   // processes at a time
	Memory   uint64 `hcl:"memory,size"`
	// Timeout is of CPU time, in whole seconds; a part of one counts as one.
	Timeout time.Duration `hcl:"timeout"`
	// The node loads what was compiled in its own process, where nothing can end
	// it. So it refuses what took longer (CPU time) or allocated more when the
	// compiling process tried.
	LoadTimeout time.Duration `hcl:"load_timeout"`
	LoadMemory  uint64        `hcl:"load_memory,size"`
}

// ModuleLimits bound what a module may hold. They have the fields of
// [meter.Limits], which says what each of them counts, in the same order: the
// compiler refuses to convert one into the other where they differ.
type ModuleLimits struct {
	Bytes         uint64 `hcl:"bytes,size"`
	Types         uint64 `hcl:"types"`
	TypeValues    uint64 `hcl:"type_values"`
	Imports       uint64 `hcl:"imports"`
	Functions     uint64 `hcl:"functions"`
	Locals        uint64 `hcl:"locals"`
	BodyBytes     uint64 `hcl:"body_bytes,size"`
	Blocks        uint64 `hcl:"blocks"`
	LocalJoins    uint64 `hcl:"local_joins"`
	Nesting       uint64 `hcl:"nesting"`
	LoopNesting   uint64 `hcl:"loop_nesting"`
	BranchValues  uint64 `hcl:"branch_values"`
	Tables        uint64 `hcl:"tables"`
	TableElements uint64 `hcl:"table_elements"`
	Memories      uint64 `hcl:"memories"`
	Globals       uint64 `hcl:"globals"`
	Exports       uint64 `hcl:"exports"`
	Elements      uint64 `hcl:"elements"`
	ElementItems  uint64 `hcl:"element_items"`
	DataSegments  uint64 `hcl:"data_segments"`
	NameBytes     uint64 `hcl:"name_bytes,size"`
	CustomBytes   uint64 `hcl:"custom_bytes,size"`
}

func defaultCompile() Compile {
	return Compile{
		Cache: 2 << 30, Parallel: max(1, runtime.GOMAXPROCS(0)-1), Memory: 4 << 30, Timeout: time.Minute,
		LoadTimeout: 2 * time.Second, LoadMemory: 1 << 30,
	}
}

func defaultModuleLimits() ModuleLimits { return ModuleLimits(meter.DefaultLimits) }

func (k *checker) capabilities() {
	c := k.c.Node.Capabilities
	k.count("node.capabilities.calls", c.Calls, 1, 10_000_000)
	k.count("node.capabilities.concurrent", c.Concurrent, 1, 100_000)
	// The least is the largest value and the largest message.
	k.size("node.capabilities.bytes", c.Bytes, 2<<20, 1<<40)
	k.duration("node.capabilities.deadline", c.Deadline, 10*time.Millisecond, time.Hour)
}

func (k *checker) compile() {
	c := k.c.Node.Compile
	k.size("node.compile.cache", c.Cache, 1<<20, 1<<50)
	k.count("node.compile.parallel", c.Parallel, 1, 1000)
	// The least suffices for a small program in Go.
	k.size("node.compile.memory", c.Memory, 256<<20, 1<<40)
	k.duration("node.compile.timeout", c.Timeout, time.Second, time.Hour)
	k.duration("node.compile.load_timeout", c.LoadTimeout, 10*time.Millisecond, time.Minute)
	k.size("node.compile.load_memory", c.LoadMemory, 16<<20, 1<<40)
}

// mostOfModule is up to where each limit of modules may be raised, by the name of
// its key. It is far above what compilers write, and keeps typing errors out; a
// node whose limits are that high is protected by those on compilation alone.
var mostOfModule = map[string]uint64{
	"bytes":          maxModule,
	"types":          manyItems,
	"type_values":    1_000_000,
	"imports":        manyItems,
	"functions":      manyItems,
	"locals":         1_000_000,
	"body_bytes":     maxModule,
	"blocks":         manyItems,
	"local_joins":    1 << 40,
	"nesting":        manyItems,
	"loop_nesting":   100_000,
	"branch_values":  1 << 40,
	"tables":         100_000,
	"table_elements": 1 << 27, // of one table, in wazero 1.12.0
	"memories":       1,       // as above
	"globals":        manyItems,
	"exports":        manyItems,
	"elements":       manyItems,
	"element_items":  1 << 27,
	"data_segments":  manyItems,
	"name_bytes":     1 << 20,
	"custom_bytes":   maxModule,
}

const (
	maxModule = 1 << 30 // bytes of a module
	manyItems = 10_000_000
)

// moduleLimits refuses 0 everywhere: [meter.Limits] has the default for it.
func (k *checker) moduleLimits() {
	for f := range children("node.module_limits", reflect.ValueOf(k.c.Node.ModuleLimits)) {
		n := f.value.Uint()
		switch {
		case f.size:
			k.size(f.key, n, 1, mostOfModule[f.name])
		case mostOfModule[f.name] == 1:
			k.require(n == 1, f.key, "must be 1, not %d: the engine supports no other number", n)
		default:
			k.require(1 <= n && n <= mostOfModule[f.name], f.key, "%d is not between 1 and %d", n, mostOfModule[f.name])
		}
	}
}

// moduleSizes checks that the node of an agent runs what its server accepts. The
// problem is that of the key which somebody has set.
func (k *checker) moduleSizes() {
	const accepts, runs = "server.max_module", "node.module_limits.bytes"
	pushed, run := k.c.Server.MaxModule, k.c.Node.ModuleLimits.Bytes
	if pushed <= run {
		return
	}
	const refused = "the node would refuse modules that its server accepts"
	if _, set := k.c.sources[accepts]; set {
		k.fail(accepts, "%s is above %s, %s: %s", wasmatrix.FormatBytes(pushed), runs, wasmatrix.FormatBytes(run), refused)
		return
	}
	k.fail(runs, "%s is below %s, %s: %s", wasmatrix.FormatBytes(run), accepts, wasmatrix.FormatBytes(pushed), refused)
}
