package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/wasmatrix/wasmatrix"
)

// The functions by which WASI modules are begun.
const (
	startCommand = "_start"
	startReactor = "_initialize"
)

// RunConfig is what one run is given.
type RunConfig struct {
	Args []string // with the program's name first
	Env  map[string]string
	// Stdout and Stderr are written from the goroutine of the run, with slices
	// that are the guest's memory: a writer copies what it keeps. nil discards.
	Stdout, Stderr io.Writer
	// MemoryLimit bounds linear memory in bytes; 0 means that of
	// [wasmatrix.DefaultLimits].
	MemoryLimit uint64
	// Deadline bounds the run, counted from when the guest begins; 0 does not.
	Deadline time.Duration
	// OnRunning is called at most once, from the goroutine of the run: before
	// the first instruction of a command's _start, or after a reactor's
	// _initialize. It may be nil.
	OnRunning func()
}

var errDeadline = errors.New("the deadline passed")

// Run instantiates the module and blocks until the guest has ended: a command
// by itself, a reactor when ctx ends, either when ctx or the deadline ends it.
// No panic of the engine or of a host function leaves it.
func (m *Module) Run(ctx context.Context, cfg RunConfig) (exit Exit) {
	e := m.s.e
	if m.released.Load() || !e.enter() {
		return Exit{Kind: Host, Message: "the module was released or the engine is closed"}
	}
	defer e.active.Done()

	mem := newMemory(cfg.MemoryLimit)
	defer func() {
		if r := recover(); r != nil {
			exit = e.recovered(r)
		}
		exit.MemoryPeak = mem.peak
		mem.release()
	}()
	if len(m.s.missing) > 0 {
		return startFailure(describeMissing(m.s.missing))
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.ctx, func() { cancel(errClosed()) })() //nolint:contextcheck // the engine ends the run as well
	if cfg.Deadline > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, cfg.Deadline, errDeadline)
		defer stop()
	}
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return m.s.run(experimental.WithMemoryAllocator(ctx, mem), cfg, mem)
}

func (s *shared) run(ctx context.Context, cfg RunConfig, mem *memory) Exit {
	mod, err := s.e.runtime.InstantiateModule(ctx, s.compiled, s.e.moduleConfig(ctx, cfg))
	if err != nil {
		return classify(ctx, err, mem, startFailure)
	}
	// The guest is no longer executing when this runs: wazero's own closer acts
	// within a call only.
	defer func() { _ = mod.Close(context.WithoutCancel(ctx)) }()

	if s.kind == wasmatrix.ModuleCommand {
		return s.call(ctx, mod, startCommand, cfg.OnRunning, mem)
	}
	if mod.ExportedFunction(startReactor) != nil {
		if exit := s.call(ctx, mod, startReactor, nil, mem); exit.Kind != OK || exit.Code != nil {
			return exit
		}
	}
	if cfg.OnRunning != nil {
		cfg.OnRunning()
	}
	<-ctx.Done()
	return interrupted(ctx)
}

// call runs an exported function to its end. An exit that has no code means
// that the function returned.
func (s *shared) call(ctx context.Context, mod api.Module, name string, begin func(), mem *memory) Exit {
	f := mod.ExportedFunction(name)
	if begin != nil {
		begin()
	}
	if _, err := f.Call(ctx); err != nil {
		return classify(ctx, err, mem, untraced)
	}
	return Exit{Kind: OK}
}

// recovered turns a panic of wazero or of a host function into an exit.
func (e *Engine) recovered(r any) Exit {
	if big, ok := r.(initialMemoryError); ok {
		return Exit{Kind: Memory, Message: bounded(big.Error(), wasmatrix.MaxCrashMessage)}
	}
	e.log.Error("a run panicked", "panic", r, "stack", string(debug.Stack()))
	return Exit{Kind: Host, Message: bounded(fmt.Sprintf("the engine failed: %v", r), wasmatrix.MaxCrashMessage)}
}

func baseConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().
		WithName("").         // instances of a module would clash by their name
		WithStartFunctions(). // called by run, which tells when it does
		WithSysWalltime().
		WithSysNanotime().
		WithOsyield(runtime.Gosched)
}

func (e *Engine) moduleConfig(ctx context.Context, cfg RunConfig) wazero.ModuleConfig {
	c := e.base.
		WithNanosleep(func(ns int64) { sleep(ctx, time.Duration(ns)) }).
		WithRandSource(random{ctx}).
		WithArgs(cfg.Args...)
	if cfg.Stdout != nil {
		c = c.WithStdout(cfg.Stdout)
	}
	if cfg.Stderr != nil {
		c = c.WithStderr(cfg.Stderr)
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.Env)) {
		c = c.WithEnv(k, cfg.Env[k])
	}
	return c
}

// sleep parks the goroutine, so that a sleeping guest costs no thread. When ctx
// ends it unwinds the guest from where it is, as proc_exit does.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		panic(sys.NewExitError(sys.ExitCodeContextCanceled))
	}
}
