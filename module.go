package wasmatrix

// ModuleKind tells how a module runs.
type ModuleKind uint8

// The kinds of module.
const (
	ModuleUnknown ModuleKind = iota
	ModuleCommand            // exports _start: runs to its end
	ModuleReactor            // _initialize or nothing: stays for invocations
)

// String returns the lower-case name.
func (k ModuleKind) String() string {
	switch k {
	case ModuleCommand:
		return "command"
	case ModuleReactor:
		return "reactor"
	default:
		return "unknown"
	}
}

// Module is the replicated record of a module whose bytes the servers keep. It
// is immutable.
type Module struct {
	Digest      Digest
	Size        int64 // bytes
	Kind        ModuleKind
	Imports     []string // "module.name", sorted; at most MaxModuleImports
	Exports     []string // functions, sorted; at most MaxModuleExports
	CreatedAt   Time
	UsedAt      Time // when an instance of it was last started, or it was last pushed
	CreateIndex uint64
}

// Bounds of a module record and of a module.
const (
	MaxModuleImports = 256
	MaxModuleExports = 256
	// DefaultMaxModule bounds a module's size in bytes unless configured.
	DefaultMaxModule = 64 << 20
)
