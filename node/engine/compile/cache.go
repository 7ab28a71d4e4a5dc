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
	// usually this program and [Verb].
	Command []string
	// Parallel is how many children run at a time; 0 means all cores but one.
	Parallel int
	// Memory bounds the address space of a child, in bytes; 0 means 4 GiB. The Go
	// runtime alone reserves some hundred MiB of it.
	Memory uint64
	// Timeout is after what time a child is killed; 0 means 60 s.
	Timeout time.Duration
	// LoadTimeout bounds the CPU time that loading a compiled module may take,
	// as the child measures it; 0 means 2 s.
	LoadTimeout time.Duration
	Limits      meter.Limits // of modules
	Stack       uint32       // as in [meter.Options]
	Logger      hclog.Logger // nil discards
}

const (
	defaultDirBytes    = 2 << 30
	defaultMemory      = 4 << 30
	defaultTimeout     = 60 * time.Second
	defaultLoadTimeout = 2 * time.Second
)

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
	slots   chan struct{}  // one element for each child

	mu      sync.Mutex // guards all below
	closed  bool
	flights map[string]*flight
	failed  failures
	index   index
}

// flight is a compilation that is under way, for all who wait for it.
type flight struct {
	done    chan struct{} // closed at its end
	err     error         // set before
	waiters int           // guarded by Cache.mu
	cancel  context.CancelFunc
}

// Open opens or makes a cache. Errors are STORAGE_ERROR.
func Open(cfg Config) (*Cache, error) {
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
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	c := &Cache{
		cfg: cfg, log: cfg.Logger, slots: make(chan struct{}, cfg.Parallel), flights: make(map[string]*flight),
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
	var err error
	if c.code, err = codeDir(c.cfg.Dir); err != nil {
		return err
	}
	c.version = version(filepath.Base(c.code), &c.cfg)
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

// Close ends the children and waits for them. Entries that are in use stay valid.
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
// one child. Errors of fetch are returned as they are. A module that cannot be
// compiled is WASM_RUNTIME_ERROR, one that takes too much RESOURCE_EXHAUSTED; for
// a while the same is answered without trying again.
func (c *Cache) Load(ctx context.Context, digest wasmatrix.Digest, fetch Fetch, use func(*Artifact) error) error {
	key := c.key(digest)
	// An entry may be damaged, or evicted between compilation and use.
	for try := 0; ; try++ {
		found, err := c.use(key, use)
		if found || err != nil {
			return err
		}
		if try == 3 {
			return wasmatrix.Errorf(wasmatrix.CodeStorage, "the compilation cache does not keep module %s", digest.Short())
		}
		if err := c.await(ctx, key, digest, fetch); err != nil {
			return err
		}
	}
}

// Prepare has a module compiled in the background. It reports whether the module
// is there or will be; it is not while the cache has much to do, or after the
// module has failed.
func (c *Cache) Prepare(digest wasmatrix.Digest, fetch Fetch) bool {
	key := c.key(digest)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.failed.find(key) != nil {
		return false
	}
	if c.index.has(key) || c.flights[key] != nil {
		return true
	}
	if len(c.flights) >= 2*c.cfg.Parallel {
		return false
	}
	f := c.launch(key, digest, fetch)
	f.waiters++ // for good: it is wanted though nobody waits
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
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.index.unpin(e)
		c.index.evict(c.cfg.DirBytes, c.log)
	}()
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

// await joins or begins the compilation of a module.
func (c *Cache) await(ctx context.Context, key string, digest wasmatrix.Digest, fetch Fetch) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "the compilation cache is closed")
	}
	if err := c.failed.find(key); err != nil {
		c.mu.Unlock()
		return err
	}
	f := c.flights[key]
	if f == nil {
		f = c.launch(key, digest, fetch) //nolint:contextcheck // it is for all who wait, not for this one
	}
	f.waiters++
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel() // nobody wants it
		if c.flights[key] == f {
			delete(c.flights, key)
		}
	}
	return context.Cause(ctx)
}

// launch begins a compilation. The caller holds mu, and counts itself in.
func (c *Cache) launch(key string, digest wasmatrix.Digest, fetch Fetch) *flight {
	ctx, cancel := context.WithCancel(c.ctx)
	f := &flight{done: make(chan struct{}), cancel: cancel}
	c.flights[key] = f
	c.running.Go(func() {
		defer cancel()
		err := c.build(ctx, key, digest, fetch)
		c.mu.Lock()
		if c.flights[key] == f {
			delete(c.flights, key)
		}
		if err != nil && ctx.Err() == nil {
			c.failed.add(key, err)
		}
		f.err = err
		c.mu.Unlock()
		close(f.done)
	})
	return f
}

// build fetches and compiles a module, and puts the result into the cache.
func (c *Cache) build(ctx context.Context, key string, digest wasmatrix.Digest, fetch Fetch) error {
	source, err := fetch(ctx)
	if err != nil {
		return err
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	dir, err := os.MkdirTemp(c.cfg.Dir, tempPrefix)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	m, err := c.runChild(ctx, dir, source)
	if err != nil {
		if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
			return wasmatrix.Errorf(e.Code, "module %s: %s", digest.Short(), e.Message)
		}
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.index.put(key, dir, m); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
	}
	c.log.Debug("module compiled", "module", digest.Short(), "bytes", len(source), "metered", m.Module.Bytes, "code", m.Code.Bytes,
		"took", time.Since(began))
	return nil
}
