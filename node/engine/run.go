package engine

import (
	"bytes"
	"cmp"
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

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/cpu"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// The functions by which WASI modules are begun.
const (
	startCommand = "_start"
	startReactor = "_initialize"
)

// RunConfig is what one run is given.
type RunConfig struct {
	Args  []string // with the program's name first
	Env   map[string]string
	Stdin []byte // followed by the end of the file
	// Stdout and Stderr are written from the goroutine of the run, with slices
	// that are the guest's memory: a writer copies what it keeps. nil discards.
	Stdout, Stderr io.Writer
	// MemoryLimit bounds linear memory and the tables that the module begins
	// with, in bytes; 0 means that of [wasmatrix.DefaultLimits].
	MemoryLimit uint64
	// Share is charged for the run, if it is not nil, and CPU is of no account. It
	// serves one run at a time, and is what remembers from one to the next what a guest
	// has used, which would evade its quota by crashing again and again.
	Share *cpu.Share
	// CPU is the guest's share in thousandths of a core; 0 means that of
	// [wasmatrix.DefaultLimits].
	CPU uint32
	// Fuel bounds the instructions of the run, in units of about one; 0 does not.
	Fuel uint64
	// Deadline bounds the run, counted from when the guest begins; 0 does not.
	Deadline time.Duration
	// Calls are invocations, which a reactor takes one at a time while it runs.
	// A command takes none. It may be nil.
	Calls <-chan *Call
	// Capabilities carries out what the guest asks for; nil denies all of it.
	Capabilities Capabilities
	// OnRunning is called at most once, from the goroutine of the run: before
	// the first instruction of a command's _start, or after a reactor's
	// _initialize. It may be nil.
	OnRunning func()
}

// Share makes a part of the cores, of so many thousandths of one, for the runs
// of one instance; 0 means that of [wasmatrix.DefaultLimits]. The caller calls
// Leave after the last.
func (e *Engine) Share(millis uint32) *cpu.Share {
	return e.cores.Join(cmp.Or(millis, wasmatrix.DefaultLimits.CPU))
}

var errDeadline = errors.New("the deadline passed")

// Run instantiates the module and blocks until the guest has ended: a command
// by itself, a reactor when ctx ends, either when ctx or the deadline ends it, or
// when it traps. Whatever the guest does, it has ended soon after ctx has: after a
// slice of its fuel. No panic of the engine or of a host function leaves it.
func (m *Module) Run(ctx context.Context, cfg RunConfig) (exit Exit) {
	e := m.s.e
	if m.released.Load() || !e.enter() {
		return Exit{Kind: Host, Message: "the module was released or the engine is closed"}
	}
	defer e.active.Done()
	x := m.newExecution(ctx, &cfg)
	defer func() {
		if r := recover(); r != nil {
			exit = e.recovered(r)
		}
		x.end(&exit)
	}()
	if x.Err() != nil {
		return interrupted(x.Context) //nolint:contextcheck // as below
	}
	return m.s.run(x, &cfg) //nolint:contextcheck // x is the context
}

// run takes the configuration by its address, and Run leaves to others what needs
// a frame of some size: a stack that is parked in serve for months keeps what is
// on it, and a few hundred bytes decide whether it has 8 KiB or 16.
func (s *shared) run(x *execution, cfg *RunConfig) Exit {
	if err := x.mem.admit(); err != nil {
		return Exit{Kind: Memory, Message: err.Error()}
	}
	// Instantiating runs the start section, and copies the data segments.
	if x.enter() != nil {
		return interrupted(x.Context)
	}
	mod, err := s.e.runtime.InstantiateModule(experimental.WithMemoryAllocator(x, x.mem), s.compiled, s.e.moduleConfig(x, cfg))
	if err != nil {
		return s.classify(x, err, startFailure)
	}
	defer func() { _ = mod.Close(context.WithoutCancel(x.Context)) }() // nothing of the guest is executing
	defer x.settle(mod)
	x.allowStack(mod)

	if s.kind == wasmatrix.ModuleCommand {
		if cfg.OnRunning != nil {
			cfg.OnRunning()
		}
		return s.start(x, mod, startCommand)
	}
	if mod.ExportedFunction(startReactor) != nil {
		if exit := s.start(x, mod, startReactor); exit.Kind != OK || exit.Code != nil {
			return exit
		}
	}
	x.leave()
	x.rest()
	if cfg.OnRunning != nil {
		cfg.OnRunning()
	}
	return s.serve(x, mod, cfg.Calls)
}

// start runs a function that begins a module to its end. An exit that has no
// code means that the function returned.
func (s *shared) start(x *execution, mod api.Module, name string) Exit {
	if _, err := mod.ExportedFunction(name).Call(x); err != nil {
		return s.classify(x, err, untraced)
	}
	return Exit{Kind: OK}
}

// stackPart is how many bytes of its memory limit an instance has for each of its
// native stack, as it is estimated.
const stackPart = 32

// allowStack gives the guest its budget of nested calls.
func (x *execution) allowStack(mod api.Module) {
	x.stack = max(meter.MinStack, min(x.s.e.maxStack, x.mem.limit/stackPart))
	if g, ok := mod.ExportedGlobal(meter.ExportDepth).(api.MutableGlobal); ok {
		g.Set(g.Get() + x.stack - meter.MinStack)
	}
}

// settle counts the fuel that the guest has used of its last slice.
func (x *execution) settle(mod api.Module) {
	if g := mod.ExportedGlobal(meter.ExportFuel); g != nil {
		if left := g.Get(); left <= x.granted {
			x.spent += x.granted - left
			x.granted = left
		}
	}
}

// recovered turns a panic of wazero or of a host function into an exit.
func (e *Engine) recovered(r any) Exit {
	if big, ok := r.(initialMemoryError); ok {
		return Exit{Kind: Memory, Message: wasmatrix.BoundText(big.Error(), wasmatrix.MaxCrashMessage)}
	}
	e.log.Error("a run panicked", "panic", r, "stack", string(debug.Stack()))
	return Exit{Kind: Host, Message: wasmatrix.BoundText(fmt.Sprintf("the engine failed: %v", r), wasmatrix.MaxCrashMessage)}
}

func baseConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().
		WithName("").         // instances of a module would clash by their name
		WithStartFunctions(). // called by run, which tells when it does
		WithSysWalltime().
		WithSysNanotime().
		WithOsyield(runtime.Gosched)
}

func (e *Engine) moduleConfig(x *execution, cfg *RunConfig) wazero.ModuleConfig {
	c := e.base.
		WithNanosleep(func(ns int64) { x.sleep(time.Duration(ns)) }).
		WithRandSource(random{x}).
		WithArgs(cfg.Args...)
	if len(cfg.Stdin) > 0 {
		c = c.WithStdin(guarded{x: x, r: bytes.NewReader(cfg.Stdin)})
	}
	if cfg.Stdout != nil {
		c = c.WithStdout(guarded{x: x, w: cfg.Stdout})
	}
	if cfg.Stderr != nil {
		c = c.WithStderr(guarded{x: x, w: cfg.Stderr})
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.Env)) {
		c = c.WithEnv(k, cfg.Env[k])
	}
	return c
}
