package meter_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// features are those that modules are compiled with.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// errStack is what the host's trap function panics with.
var errStack = errors.New("call depth exceeded")

// host is what a metered guest runs on, and counts what it uses.
type host struct {
	slice int64 // what a refill gives; 0 is a million
	given int64 // all of them
	left  int64 // what was left at the last one
	calls int
	limit int64 // panics with errFuel when more was used; 0 is no limit

	tables    [][3]uint32 // how growTable was called
	fixTables bool        // no table may grow

	stack uint64 // budget of nested calls; 0 is enoughStack
}

var errFuel = errors.New("fuel used up")

// refill is the function that metered modules import.
func (h *host) refill(_ context.Context, left int64) int64 {
	h.calls++
	h.left = left
	if h.limit > 0 && h.given-left > h.limit {
		panic(errFuel)
	}
	// What was used beyond comes off the next slices.
	for left < 0 {
		left += h.slice
		h.given += h.slice
	}
	return left
}

// growTable is asked before a table grows.
func (h *host) growTable(n, table, grown uint32) uint32 {
	h.tables = append(h.tables, [3]uint32{n, table, grown})
	if h.fixTables {
		return 1<<32 - 1
	}
	return n
}

// instantiate adds the host module to a runtime.
func (h *host) instantiate(t testing.TB, r wazero.Runtime) {
	t.Helper()
	if h.slice == 0 {
		h.slice = 1_000_000
	}
	_, err := r.NewHostModuleBuilder(meter.HostModule).
		NewFunctionBuilder().WithFunc(h.refill).Export(meter.FuncRefill).
		NewFunctionBuilder().WithFunc(func(_ context.Context, reason int32) {
		if reason != meter.TrapStack {
			t.Errorf("trap for reason %d", reason)
		}
		panic(errStack)
	}).Export(meter.FuncTrap).
		NewFunctionBuilder().WithFunc(h.growTable).Export(meter.FuncGrowTable).
		Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
}

// newRuntime makes one that compiles, where there is a compiler for the platform.
func newRuntime(t testing.TB) wazero.Runtime {
	t.Helper()
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfig().WithCoreFeatures(features))
	t.Cleanup(func() { r.Close(context.WithoutCancel(t.Context())) })
	return r
}

// enoughStack is a budget of nested calls for all that is not to meet its end, in bytes.
const enoughStack = 4 << 20

// raiseDepth sets the budget of a metered module that nothing executes.
func raiseDepth(m api.Module, stack uint64) {
	m.ExportedGlobal(meter.ExportDepth).(api.MutableGlobal).Set(stack)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
