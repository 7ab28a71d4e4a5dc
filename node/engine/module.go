package engine

import (
	"container/list"
	"context"
	"runtime/debug"
	"sync/atomic"

	"github.com/tetratelabs/wazero"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Module is a hold on a compiled module, which is shared by all that loaded the
// same digest. It runs until it is released.
type Module struct {
	s        *shared
	released atomic.Bool
}

// Fetch returns the bytes of a module. They are not changed afterwards.
type Fetch func(context.Context) ([]byte, error)

// Bytes is a Fetch of what is at hand already.
func Bytes(b []byte) Fetch { return func(context.Context) ([]byte, error) { return b, nil } }

// shared is one compiled module. What a load sets is
// set before ready is closed, and not changed afterwards.
type shared struct {
	e        *Engine
	digest   wasmatrix.Digest
	ready    chan struct{} // closed when loading has ended
	err      error
	compiled wazero.CompiledModule
	kind     wasmatrix.ModuleKind
	memory   int64                        // bytes, counted in e.taken
	tables   uint64                       // elements that its tables begin with
	debug    func() (*meter.Debug, error) // nil where it has no source lines

	refs   int                // holds, and those that wait for ready; guarded by e.mu
	loaded bool               // guarded by e.mu
	idle   *list.Element      // while refs is 0; guarded by e.mu
	cancel context.CancelFunc // of the load, once nobody waits for it
}

// Load compiles the module of a digest, or finds it compiled. The bytes are
// fetched only where they are needed, and concurrent loads of a digest wait for
// one result. Errors of fetch are returned as they are; a module that cannot be
// compiled, or imports what no host provides, is WASM_RUNTIME_ERROR, and one that
// takes too much, or more than is left for modules, RESOURCE_EXHAUSTED. The caller
// releases the module.
func (e *Engine) Load(ctx context.Context, digest wasmatrix.Digest, fetch Fetch) (*Module, error) {
	s, err := e.hold(digest, fetch) //nolint:contextcheck // the load is for all who wait, not for this one
	if err != nil {
		return nil, err
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		e.drop(s) //nolint:contextcheck // what nobody holds goes, whoever was last
		return nil, context.Cause(ctx)
	}
	if s.err != nil {
		e.drop(s) //nolint:contextcheck // what nobody holds goes, whoever was last
		return nil, s.err
	}
	return &Module{s: s}, nil
}

// hold returns the shared module of digest with one more reference, and begins
// to load it if nobody has.
func (e *Engine) hold(digest wasmatrix.Digest, fetch Fetch) (*shared, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed()
	}
	if s, ok := e.modules[digest]; ok {
		s.refs++
		if s.idle != nil {
			e.idle.Remove(s.idle)
			s.idle = nil
		}
		return s, nil
	}
	ctx, cancel := context.WithCancel(e.ctx)
	s := &shared{e: e, digest: digest, ready: make(chan struct{}), refs: 1, cancel: cancel}
	e.modules[digest] = s
	e.active.Go(func() {
		defer cancel()
		s.load(ctx, fetch)
		if e.loaded(s) {
			e.free(s) //nolint:contextcheck // cannot be interrupted
		}
		close(s.ready)
	})
	return s, nil
}

// loaded settles an ended load. It reports whether nobody wants the result; a
// failed or unwanted load is forgotten, so that the next one tries anew.
func (e *Engine) loaded(s *shared) (unwanted bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.loaded = true
	if (s.err != nil || s.refs == 0) && e.modules[s.digest] == s {
		delete(e.modules, s.digest)
	}
	if s.err != nil || s.refs == 0 {
		e.taken -= s.memory
	}
	return s.err == nil && s.refs == 0
}

// free frees a module that nothing uses.
func (e *Engine) free(s *shared) {
	if err := s.compiled.Close(context.Background()); err != nil {
		e.log.Warn("freeing a compiled module failed", "module", s.digest.Short(), "error", err)
	}
}

// reserve counts what a module is about to take. Idle ones make room for it;
// where those in use leave none it fails with RESOURCE_EXHAUSTED.
func (e *Engine) reserve(s *shared, bytes int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.taken+bytes > e.moduleMax && e.idle.Len() > 0 {
		e.freeIdle()
	}
	if e.taken+bytes > e.moduleMax {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "module %s takes %s of memory, and the modules in use leave %s of %s",
			s.digest.Short(), wasmatrix.FormatBytes(uint64(bytes)), wasmatrix.FormatBytes(uint64(max(0, e.moduleMax-e.taken))),
			wasmatrix.FormatBytes(uint64(e.moduleMax)))
	}
	e.taken += bytes
	s.memory = bytes
	return nil
}

// freeIdle frees the module that was used longest ago. The caller holds mu, and
// there is one.
func (e *Engine) freeIdle() {
	old, _ := e.idle.Remove(e.idle.Back()).(*shared)
	old.idle = nil
	delete(e.modules, old.digest)
	e.taken -= old.memory
	e.free(old)
}

// drop gives back one reference.
func (e *Engine) drop(s *shared) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.refs--
	if s.refs > 0 {
		return
	}
	if !s.loaded { // and nobody waits any more
		s.cancel()
		if e.modules[s.digest] == s {
			delete(e.modules, s.digest)
		}
		return
	}
	if e.closed || s.err != nil || e.modules[s.digest] != s {
		return // closing the runtime frees it, or it was never made
	}
	s.idle = e.idle.PushFront(s)
	for e.idle.Len() > e.idleLimit {
		e.freeIdle()
	}
}

func (s *shared) load(ctx context.Context, fetch Fetch) {
	s.err = s.e.compiled.Load(ctx, s.digest, compile.Fetch(fetch), func(a *compile.Artifact) (err error) {
		defer func() {
			if r := recover(); r != nil {
				s.e.log.Error("loading a module panicked", "module", s.digest.Short(), "panic", r, "stack", string(debug.Stack()))
				err = wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "module %s: the engine failed: %v", s.digest.Short(), r)
			}
		}()
		if err := s.e.reserve(s, a.Memory); err != nil { //nolint:contextcheck // freeing what is idle cannot be interrupted
			return err
		}
		// It finds the code that the child has compiled.
		s.compiled, err = s.e.runtime.CompileModule(ctx, a.Wasm)
		if err != nil {
			return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "module %s: %w", s.digest.Short(), err)
		}
		s.kind, s.tables, s.debug = a.Kind, a.Tables, a.Debug
		return nil
	})
}

// Digest names the module.
func (m *Module) Digest() wasmatrix.Digest { return m.s.digest }

// Kind tells whether a run ends by itself.
func (m *Module) Kind() wasmatrix.ModuleKind { return m.s.kind }

// Release gives the hold back; no run may be under way or follow. It may be
// called more than once.
func (m *Module) Release() {
	if m.released.CompareAndSwap(false, true) {
		m.s.e.drop(m.s)
	}
}
