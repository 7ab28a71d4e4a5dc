package engine

import (
	"container/list"
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wasmatrix/wasmatrix"
)

// Config says how an [Engine] compiles and what it keeps. The zero value works.
type Config struct {
	// CacheDir keeps compiled code across restarts of the process; "" keeps it
	// in memory only. Nothing else may write there: what it holds is run as
	// native code.
	CacheDir string
	// CacheBytes bounds CacheDir when the engine is made, oldest files first;
	// 0 means 4 GiB.
	CacheBytes int64
	// IdleModules is how many compiled modules that nothing uses stay in
	// memory; 0 means 64.
	IdleModules int
	// Compilers is how many modules are compiled at a time; 0 means all cores
	// but one.
	Compilers int
	Logger    hclog.Logger // nil discards
}

const (
	defaultCacheBytes  = 4 << 30
	defaultIdleModules = 64
)

// Engine compiles and runs modules. There is one for a process: wazero 1.12.0
// corrupts code that several runtimes share through one cache (its issue 2511).
// All methods may be called concurrently.
type Engine struct {
	log     hclog.Logger
	cache   wazero.CompilationCache
	runtime wazero.Runtime
	base    wazero.ModuleConfig
	known   map[string]map[string]bool // functions that guests may import

	ctx       context.Context // ends when Close begins
	cancel    context.CancelFunc
	active    sync.WaitGroup // runs and loads
	compiling chan struct{}  // one element for each compilation under way
	idleLimit int

	mu      sync.Mutex
	closed  bool                         // guarded by mu
	modules map[wasmatrix.Digest]*shared // guarded by mu
	idle    *list.List                   // of *shared, most recently used first; guarded by mu
}

// New makes an engine. An error means that CacheDir cannot be used.
func New(cfg Config) (*Engine, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.CacheBytes <= 0 {
		cfg.CacheBytes = defaultCacheBytes
	}
	if cfg.IdleModules <= 0 {
		cfg.IdleModules = defaultIdleModules
	}
	if cfg.Compilers <= 0 {
		cfg.Compilers = max(1, runtime.GOMAXPROCS(0)-1)
	}
	cache := wazero.NewCompilationCache()
	if cfg.CacheDir != "" {
		if err := pruneCache(cfg.CacheDir, cfg.CacheBytes); err != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
		}
		var err error
		if cache, err = wazero.NewCompilationCacheWithDir(cfg.CacheDir); err != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Engine{
		log:       cfg.Logger,
		cache:     cache,
		base:      baseConfig(),
		ctx:       ctx,
		cancel:    cancel,
		compiling: make(chan struct{}, cfg.Compilers),
		idleLimit: cfg.IdleModules,
		modules:   make(map[wasmatrix.Digest]*shared),
		idle:      list.New(),
	}
	e.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCompilationCache(cache).
		WithCloseOnContextDone(true))
	if err := e.provideWASI(ctx); err != nil {
		return nil, fmt.Errorf("wasi: %w", err)
	}
	return e, nil
}

func (e *Engine) provideWASI(ctx context.Context) error {
	compiled, err := wasi_snapshot_preview1.NewBuilder(e.runtime).Compile(ctx)
	if err != nil {
		return err
	}
	names := make(map[string]bool)
	for name := range compiled.ExportedFunctions() {
		names[name] = true
	}
	e.known = map[string]map[string]bool{wasi_snapshot_preview1.ModuleName: names}
	_, err = e.runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig())
	return err
}

// Close interrupts every run, waits for runs and loads to end, and frees what
// was compiled. It may be called more than once. A compilation under way, and a
// guest that recurses without a loop, are waited for, since wazero cannot
// interrupt them.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.active.Wait()

	ctx := context.Background()
	err := e.runtime.Close(ctx)
	if cerr := e.cache.Close(ctx); err == nil {
		err = cerr
	}
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
