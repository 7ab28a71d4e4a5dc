package engine

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/tetratelabs/wazero"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/cpu"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
)

// Config says how an [Engine] compiles and what it keeps.
type Config struct {
	// Compile says where and how modules are compiled. Its directory and
	// command are required.
	Compile compile.Config
	// IdleModules is how many compiled modules that nothing uses stay in
	// memory; 0 means 64.
	IdleModules int
	// ModuleMemory bounds what compiled modules take, in bytes: those in use and
	// the idle ones, which go first; 0 means 1 GiB.
	ModuleMemory uint64
	// MaxStack bounds what nested calls of a guest may take of the native stack,
	// in bytes as package meter estimates them; 0 means 4 MiB. Below, it is the
	// 32nd part of the guest's memory limit, so that an instance whose functions
	// take 16 times the estimate, on a stack that grows by doubling, keeps the node
	// from no more memory than was set aside for it.
	MaxStack uint64
	// Cores is how many guests run at a time; 0 means [runtime.GOMAXPROCS] at
	// the time of New.
	Cores int
	// MessageTime bounds how long a guest takes for a message that is pushed to
	// it, and how long the message waits for a core; 0 means 30 s. A guest that
	// takes longer is ended.
	MessageTime time.Duration
	Logger      hclog.Logger // nil discards
}

const (
	defaultIdleModules  = 64
	defaultModuleMemory = 1 << 30
	defaultMaxStack     = 4 << 20
	defaultMessageTime  = 30 * time.Second
)

// Engine compiles and runs modules. There is one for a process: wazero 1.12.0
// corrupts code that several runtimes share through one cache (its issue 2511).
// All methods may be called concurrently.
type Engine struct {
	log      hclog.Logger
	compiled *compile.Cache
	cache    wazero.CompilationCache
	runtime  wazero.Runtime
	base     wazero.ModuleConfig
	cores    *cpu.Scheduler
	memory   memoryPool // of the guests

	ctx       context.Context // ends when Close begins
	cancel    context.CancelFunc
	active    sync.WaitGroup // runs and loads
	idleLimit int
	moduleMax int64  // bytes
	maxStack  uint64 // bytes

	messageTime time.Duration

	mu      sync.Mutex
	closed  bool                         // guarded by mu
	modules map[wasmatrix.Digest]*shared // guarded by mu
	idle    *list.List                   // of *shared, most recently used first; guarded by mu
	taken   int64                        // bytes of modules in memory, or about to be; guarded by mu
}

// New makes an engine. An error means that the compilation cache cannot be used.
func New(cfg Config) (*Engine, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.IdleModules <= 0 {
		cfg.IdleModules = defaultIdleModules
	}
	if cfg.ModuleMemory == 0 {
		cfg.ModuleMemory = defaultModuleMemory
	}
	if cfg.MaxStack == 0 {
		cfg.MaxStack = defaultMaxStack
	}
	if cfg.Compile.Logger == nil {
		cfg.Compile.Logger = cfg.Logger
	}
	compiled, err := compile.Open(cfg.Compile)
	if err != nil {
		return nil, err
	}
	cache, err := wazero.NewCompilationCacheWithDir(compiled.Dir())
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Engine{
		log:       cfg.Logger,
		compiled:  compiled,
		cache:     cache,
		base:      baseConfig(),
		cores:     cpu.New(cpu.Config{Slots: cfg.Cores}),
		ctx:       ctx,
		cancel:    cancel,
		idleLimit: cfg.IdleModules,
		moduleMax: int64(min(cfg.ModuleMemory, math.MaxInt64)),
		maxStack:  cfg.MaxStack,

		messageTime: cmp.Or(cfg.MessageTime, defaultMessageTime),

		modules: make(map[wasmatrix.Digest]*shared),
		idle:    list.New(),
	}
	e.runtime = wazero.NewRuntimeWithConfig(ctx, compile.RuntimeConfig().WithCompilationCache(cache))
	if err := e.provideHost(ctx); err != nil {
		return nil, fmt.Errorf("host functions: %w", err)
	}
	return e, nil
}

// Usage is what an engine takes of the machine.
type Usage struct {
	Compiling   int           // modules being compiled, or waiting for it
	Runnable    int           // guests on a core, or waiting for one
	Cores       int           // that guests may use at a time
	GuestMemory uint64        // bytes of all linear memories
	CPU         time.Duration // that guests have spent on cores
}

// Usage tells what the engine takes at the moment.
func (e *Engine) Usage() Usage {
	st := e.cores.Stats()
	return Usage{
		Compiling: e.compiled.Active(), Runnable: st.Holding + st.Waiting, Cores: st.Slots,
		GuestMemory: uint64(max(0, e.memory.present.Load())), CPU: st.Used,
	}
}

// Prepare has a module compiled to disk in the background. It reports whether it
// is there or will be; it declines while there is much to compile.
func (e *Engine) Prepare(digest wasmatrix.Digest, fetch Fetch) bool {
	return e.compiled.Prepare(digest, fetch)
}

// Close interrupts every run, waits for runs and loads to end, and frees what
// was compiled. It may be called more than once.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	err := e.compiled.Close()
	e.active.Wait()

	ctx := context.Background()
	for _, c := range []interface{ Close(context.Context) error }{e.runtime, e.cache} {
		if cerr := c.Close(ctx); err == nil {
			err = cerr
		}
	}
	e.memory.close()
	return err
}

// enter counts a run or load in, so that Close waits for it; it reports false
// once the engine is closed. The caller calls e.active.Done.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.active.Add(1)
	return true
}

func errClosed() error { return wasmatrix.Errorf(wasmatrix.CodeInternal, "the engine is closed") }
