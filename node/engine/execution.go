package engine

import (
	"context"
	"slices"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wasmatrix/wasmatrix/node/cpu"
)

// execution is what the host functions of one run share. It is the context that
// wazero hands them. All of it belongs to the goroutine of the run.
type execution struct {
	context.Context // of the run, or of the call under way

	s     *shared
	share *cpu.Share
	mem   *memory
	caps  Capabilities

	budget  uint64 // fuel that the run may use; 0 is no bound
	spent   uint64 // up to the last safe point
	granted uint64 // of which the guest has what is left
	slice   uint64 // to grant next
	stack   uint64 // budget of nested calls, in bytes as they are estimated; 0 in a start section
	resumed time.Time

	call *pending // the invocation under way, or nil
	held *held    // or nil

	before time.Duration // that the share had used
	undo   []func()      // what ends with the execution, in reverse
}

// newExecution makes what a run of the module needs. It is followed by end.
func (m *Module) newExecution(ctx context.Context, cfg *RunConfig) *execution {
	e := m.s.e
	x := &execution{s: m.s, share: cfg.Share, caps: cfg.Capabilities, mem: newMemory(&e.memory, cfg.MemoryLimit, m.s.tables), budget: cfg.Fuel, slice: firstSlice}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.ctx, func() { cancel(errClosed()) }) //nolint:contextcheck // the engine ends the run as well
	x.undo = append(x.undo, func() { cancel(nil) }, func() { stop() })
	if cfg.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.Deadline, errDeadline)
		x.undo = append(x.undo, cancel)
	}
	if x.caps == nil {
		x.caps = denied{}
	}
	if x.share == nil {
		x.share = e.Share(cfg.CPU)
		x.undo = append(x.undo, x.share.Leave)
	}
	x.Context, x.before = ctx, x.share.Used()
	return x
}

// end gives back what the execution has, and tells what it has used. Nothing of
// the guest is executing.
func (x *execution) end(exit *Exit) {
	x.leave()
	if x.held != nil {
		x.held.release()
	}
	exit.MemoryPeak, exit.Fuel, exit.CPU = x.mem.peak, x.spent, x.share.Used()-x.before
	x.mem.release()
	for _, undo := range slices.Backward(x.undo) {
		undo()
	}
}

// executionKey finds the execution in contexts that wrap it.
type executionKey struct{}

// Value implements [context.Context].
func (x *execution) Value(key any) any {
	if _, ok := key.(executionKey); ok {
		return x
	}
	return x.Context.Value(key)
}

// executionOf returns the execution that a host function is called by.
func executionOf(ctx context.Context) *execution {
	if x, ok := ctx.(*execution); ok {
		return x
	}
	x, _ := ctx.Value(executionKey{}).(*execution)
	return x
}

const (
	// A slice of fuel should take sliceTime. It begins at firstSlice, and is
	// adapted to what the guest's instructions take, since a load that misses all
	// caches takes a hundred times an addition.
	sliceTime  = 400 * time.Microsecond
	firstSlice = 200_000
	minSlice   = 1_000
	maxSlice   = 2_000_000
)

// enter takes a core before guest code runs.
func (x *execution) enter() error {
	if err := x.share.Acquire(x.Context); err != nil {
		return err
	}
	x.resumed = time.Now()
	return nil
}

// leave gives the core back, if the execution has one.
func (x *execution) leave() { x.share.Release() }

// refill is called by the guest when its fuel is used up; left is what it has,
// below zero. It returns the next slice, or unwinds the guest.
func (x *execution) refill(left int64) uint64 {
	x.spent += uint64(int64(x.granted) - left)
	x.granted = 0
	if x.budget > 0 && x.spent > x.budget {
		panic(errFuel)
	}
	now := time.Now()
	switch took := now.Sub(x.resumed); {
	case took > 2*sliceTime:
		x.slice = max(minSlice, x.slice/2)
	case took < sliceTime/2:
		x.slice = min(maxSlice, x.slice*2)
	}
	x.safePoint()
	x.granted = x.slice
	if x.budget > 0 {
		x.granted = min(x.granted, x.budget-x.spent)
	}
	return x.granted
}

// safePoint lets others have the core, and unwinds a guest that is to end. It is
// called from host functions only.
func (x *execution) safePoint() {
	if err := x.share.Yield(x.Context); err != nil {
		unwind()
	}
	x.resumed = time.Now()
}

// busy is called by host functions that work for long: it makes a safe point of
// them when the guest has had its time.
func (x *execution) busy() {
	if time.Since(x.resumed) > sliceTime {
		x.safePoint()
	}
}

// unwind ends a guest whose context has ended from within a host function, as
// proc_exit does.
func unwind() { panic(sys.NewExitError(sys.ExitCodeContextCanceled)) }

// sleep parks the goroutine without a core, so that a sleeping guest costs
// neither that nor a thread.
func (x *execution) sleep(d time.Duration) {
	if d <= 0 {
		x.busy()
		return
	}
	x.leave()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.Done():
		unwind()
	}
	if x.enter() != nil {
		unwind()
	}
}
