package meter_test

import (
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// kernels are the functions of testdata/kernels.wat, and how often each repeats what it does.
var kernels = []struct {
	name  string
	count uint64
}{
	{"tight", 1_000_000},
	{"lcg", 500_000},
	{"nested", 10_000},
	{"fib", 24},
	{"calls", 200_000},
	{"indirect", 200_000},
	{"memory", 500},
	{"sieve", 200_000},
	{"pressure", 200_000},
	{"interpreter", 200_000},
}

// BenchmarkKernels compares small programs as they are, metered, and with the
// engine's own means against endless loops.
func BenchmarkKernels(b *testing.B) {
	src := read(b, "testdata/kernels.wasm")
	out, err := meter.Rewrite(src, meter.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for _, k := range kernels {
		for _, mode := range []struct {
			name  string
			wasm  []byte
			close bool
		}{{"plain", src, false}, {"metered", out.Wasm, false}, {"closeOnContextDone", src, true}} {
			b.Run(k.name+"/"+mode.name, func(b *testing.B) {
				config := wazero.NewRuntimeConfig().WithCoreFeatures(features).WithCloseOnContextDone(mode.close)
				r := wazero.NewRuntimeWithConfig(b.Context(), config)
				defer r.Close(b.Context())
				h := &host{slice: 3_000_000}
				h.instantiate(b, r)
				m, err := r.InstantiateWithConfig(b.Context(), mode.wasm, wazero.NewModuleConfig())
				if err != nil {
					b.Fatal(err)
				}
				f := m.ExportedFunction(k.name)
				for b.Loop() {
					if _, err := f.Call(b.Context(), k.count); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
