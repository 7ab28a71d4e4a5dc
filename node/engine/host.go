package engine

import (
	"context"
	"errors"
	"io"
	"reflect"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// What ends a guest, with a stack trace.
var (
	errFuel  = errors.New("fuel budget used up")
	errDepth = errors.New("call depth exceeded")
)

// provideHost makes the modules that guests import from.
func (e *Engine) provideHost(ctx context.Context) error {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, e.runtime); err != nil {
		return err
	}
	if _, err := e.meterHost().Instantiate(ctx); err != nil {
		return err
	}
	_, err := e.abiHost().Instantiate(ctx)
	return err
}

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

// meterHost is what metered modules call.
func (e *Engine) meterHost() wazero.HostModuleBuilder {
	b := e.runtime.NewHostModuleBuilder(meter.HostModule)
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, stack []uint64) {
		stack[0] = executionOf(ctx).refill(int64(stack[0]))
	}), []api.ValueType{i64}, []api.ValueType{i64}).Export(meter.FuncRefill)
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) {
		if int32(stack[0]) == meter.TrapStack {
			panic(errDepth)
		}
		panic(errors.New("the module was ended by an unknown reason"))
	}), []api.ValueType{i32}, nil).Export(meter.FuncTrap)
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, stack []uint64) {
		if !executionOf(ctx).mem.growTable(uint32(stack[1]), uint64(uint32(stack[0])), uint64(uint32(stack[2]))) {
			stack[0] = api.EncodeI32(-1)
		}
	}), []api.ValueType{i32, i32, i32}, []api.ValueType{i32}).Export(meter.FuncGrowTable)
	return b
}

// memoryOf is the memory of a module, or nil: the engine's own answer is a nil
// pointer within an interface where there is none.
func memoryOf(mod api.Module) api.Memory {
	if mem := mod.Memory(); !reflect.ValueOf(mem).IsNil() {
		return mem
	}
	return nil
}

// guarded makes a safe point of what a guest reads and writes by the gigabyte, or
// in millions of pieces by one call.
type guarded struct {
	x *execution
	w io.Writer
	r io.Reader
}

// Write implements [io.Writer].
func (g guarded) Write(p []byte) (int, error) {
	g.x.busy()
	return g.w.Write(p)
}

// Read implements [io.Reader].
func (g guarded) Read(p []byte) (int, error) {
	g.x.busy()
	return g.r.Read(p)
}
