package compile

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Config says where a [Cache] lies and what its children may take.
type Config struct {
	// Dir is the cache's own directory. It is made if it is not there.
	Dir string
	// DirBytes bounds what is kept, beyond what is in use; 0 means 2 GiB.
	DirBytes int64
	// Command is the argument vector of the child, whose body is [Main]. It is
	// usually that of [Self].
	Command []string
	// Parallel is how many children run at a time; 0 means all cores but one.
	// Twice as many modules are fetched and kept in memory at a time.
	Parallel int
	// Memory bounds the address space of a child, in bytes, beyond what it has
	// when it begins; 0 means 4 GiB.
	Memory uint64
	// Timeout is after how much CPU time a child is killed, in whole seconds,
	// and after four times as much time; 0 means 60 s. Where the system does not
	// bound CPU time it is killed after that time.
	Timeout time.Duration
	// LoadTimeout bounds the CPU time that loading a compiled module may take,
	// as the child measures it; 0 means 2 s.
	LoadTimeout time.Duration
	// LoadMemory bounds the bytes that are allocated for it, native code
	// included; 0 means 1 GiB.
	LoadMemory uint64
	Limits     meter.Limits // of modules
	Logger     hclog.Logger // nil discards

	favour time.Duration // CPU time of a child before its priority is the lowest
}

const (
	defaultDirBytes    = 2 << 30
	defaultMemory      = 4 << 30
	defaultTimeout     = 60 * time.Second
	defaultLoadTimeout = 2 * time.Second
	defaultLoadMemory  = 1 << 30
	defaultFavour      = 10 * time.Second
)

func (cfg Config) withDefaults() Config {
	if cfg.DirBytes <= 0 {
		cfg.DirBytes = defaultDirBytes
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = max(1, runtime.GOMAXPROCS(0)-1)
	}
	if cfg.Memory == 0 {
		cfg.Memory = defaultMemory
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.LoadTimeout <= 0 {
		cfg.LoadTimeout = defaultLoadTimeout
	}
	if cfg.LoadMemory == 0 {
		cfg.LoadMemory = defaultLoadMemory
	}
	if cfg.favour <= 0 {
		cfg.favour = defaultFavour
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return cfg
}

// Cache compiles modules and keeps the results. All methods may be called
// concurrently.
type Cache struct {
	cfg     Config
	log     hclog.Logger
	version string // what besides the module decides what the result is
	code    string // directory of wazero's files
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // flights
	sources chan struct{}  // one element for each module in memory
	slots   chan struct{}  // one element for each child

	mu      sync.Mutex // guards all below
	closed  bool
	flights map[string]*flight
	failed  failures
	index   index
}

// Open opens or makes a cache. Errors are STORAGE_ERROR, and INVALID_REQUEST
// where the configuration names no child.
func Open(cfg Config) (*Cache, error) {
	if len(cfg.Command) == 0 {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "compilation cache: no command to compile with")
	}
	cfg = cfg.withDefaults()
	c := &Cache{
		cfg: cfg, log: cfg.Logger, flights: make(map[string]*flight),
		sources: make(chan struct{}, 2*cfg.Parallel), slots: make(chan struct{}, cfg.Parallel),
	}
	if err := c.open(); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

func (c *Cache) open() error {
	if err := os.MkdirAll(filepath.Join(c.cfg.Dir, entriesDir), 0o700); err != nil {
		return err
	}
	if err := removeLeftovers(c.cfg.Dir); err != nil {
		return err
	}
	engine, err := probe(c.cfg.Dir)
	if err != nil {
		return err
	}
	c.code = filepath.Join(c.cfg.Dir, engine.dir)
	if err := os.MkdirAll(c.code, 0o700); err != nil {
		return err
	}
	c.version = version(engine, &c.cfg)
	if c.index, err = openIndex(c.cfg.Dir, c.code, c.version); err != nil {
		return err
	}
	c.index.evict(c.cfg.DirBytes, c.log)
	return nil
}

// Dir is what a runtime that loads artifacts has as its cache.
func (c *Cache) Dir() string { return c.cfg.Dir }

// Active is how many modules are being compiled, or wait for it.
func (c *Cache) Active() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.flights)
}

// Close kills the children and waits for their ends. Calls of Load that wait for
// one fail; entries that are in use stay valid. It may be called more than once.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	return nil
}

// Load calls use with the compiled form of a module, and returns its error. It
// compiles what is missing or damaged; concurrent calls for a digest wait for
// one child, which is killed when the last of them has gone. While use runs, the
// native code stays where a runtime finds it, verified.
//
// Errors of fetch are returned as they are, and those of ctx as its cause. A
// module that cannot be compiled is WASM_RUNTIME_ERROR, also where that took too
// long or too much memory; one beyond a limit is RESOURCE_EXHAUSTED. The same is
// answered without another try for a minute.
func (c *Cache) Load(ctx context.Context, digest wasmatrix.Digest, fetch Fetch, use func(*Artifact) error) error {
	key := c.key(digest)
	found, err := c.use(key, use)
	// What was compiled is kept for those who waited for it. It may be damaged
	// all the same, but hardly again and again.
	for try := 0; !found && try < 3; try++ {
		var f *flight
		if f, err = c.join(key, digest, fetch); err != nil { //nolint:contextcheck // it is compiled for all who wait, not for this one
			return err
		}
		if err = f.wait(ctx); err == nil {
			found, err = c.use(key, use)
		}
		c.leave(f)
		if err != nil {
			return err
		}
	}
	if !found && err == nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "the compilation cache does not keep module %s whole", digest.Short())
	}
	return err
}

// Prepare has a module compiled in the background. It reports whether the module
// is there or will be; it is not while the cache has much to do, or for a minute
// after the module has failed.
func (c *Cache) Prepare(digest wasmatrix.Digest, fetch Fetch) bool {
	key := c.key(digest)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.failed.find(key) != nil {
		return false
	}
	if c.index.has(key) {
		return true
	}
	f := c.flights[key]
	if f == nil {
		if len(c.flights) >= 2*c.cfg.Parallel {
			return false
		}
		f = c.launch(key, digest, fetch)
	}
	f.kept = true
	return true
}

// key names the result for a module.
func (c *Cache) key(digest wasmatrix.Digest) string {
	return hex.EncodeToString(digest[:]) + "-" + c.version
}

// use calls use with an entry, verified and pinned, if there is one that is whole.
func (c *Cache) use(key string, use func(*Artifact) error) (found bool, err error) {
	c.mu.Lock()
	e := c.index.pin(key)
	c.mu.Unlock()
	if e == nil {
		return false, nil
	}
	defer c.unpin(e)
	a, err := e.artifact(c.code)
	if err != nil {
		c.log.Warn("an entry of the compilation cache is damaged; compiling the module again", "entry", key, "error", err)
		c.mu.Lock()
		c.index.remove(e, c.log)
		c.mu.Unlock()
		return false, nil
	}
	return true, use(a)
}

func (c *Cache) unpin(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index.unpin(e, c.log)
	c.index.evict(c.cfg.DirBytes, c.log)
}

// build fetches and compiles the module of a flight, and puts the result into
// the cache.
func (c *Cache) build(ctx context.Context, f *flight, digest wasmatrix.Digest, fetch Fetch) error {
	// Sources are bounded before they are fetched: however many modules wait,
	// the node holds a few.
	if err := acquire(ctx, c.sources); err != nil {
		return err
	}
	defer release(c.sources)
	source, err := fetch(ctx)
	if err != nil {
		return err
	}
	if err := acquire(ctx, c.slots); err != nil {
		return err
	}
	defer release(c.slots)
	dir, err := os.MkdirTemp(c.cfg.Dir, tempPrefix)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	ans, err := c.runChild(ctx, dir, source)
	if err != nil {
		if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
			err = wasmatrix.Errorf(e.Code, "module %s: %s", digest.Short(), e.Message)
		}
		c.mu.Lock()
		c.failed.add(f.key, err)
		c.mu.Unlock()
		return err
	}
	if err := c.land(f, dir, &ans.Manifest); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
	}
	c.log.Debug("module compiled", "module", digest.Short(), "bytes", len(source), "metered", ans.Manifest.Module.Bytes,
		"code", ans.Manifest.Code.Bytes, "took", time.Since(began), "load_cpu", time.Duration(ans.LoadTime), "load_bytes", ans.LoadBytes)
	return nil
}

func acquire(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func release(slots chan struct{}) { <-slots }
