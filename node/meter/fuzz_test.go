package meter_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// narrow are limits under which the engine's compiler and this package are
// quick whatever the fuzzer comes up with.
var narrow = meter.Limits{Bytes: 1 << 20, Blocks: 500, LocalJoins: 20_000, Locals: 2_000, TableElements: 100_000}

// FuzzRewrite feeds anything. The engine is asked what it makes of a module
// before and after: what it accepts before it must accept after, what it
// refuses before must be refused, and nothing may panic. What this package
// refuses on purpose is told by its error.
func FuzzRewrite(f *testing.F) {
	for _, pattern := range []string{"testdata/*.wasm", "../nodetest/wasm/*.wasm"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatal(pattern, err)
		}
		for _, p := range paths {
			f.Add(read(f, p))
		}
	}
	// Of the specification's modules, those that are small.
	for i, p := range specModules(f) {
		if b := read(f, p); len(b) < 600 && i%8 == 0 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		before := slices.Clone(src)
		out, err := meter.Rewrite(src, meter.Options{Limits: narrow})
		if !slices.Equal(src, before) {
			t.Fatal("the source was changed")
		}
		if err != nil {
			if code := wasmatrix.CodeOf(err); code != wasmatrix.CodeWasmRuntime && code != wasmatrix.CodeResourceExhausted {
				t.Fatalf("error of code %s: %v", code, err)
			}
			if errors.Is(err, meter.ErrUnsupported) || wasmatrix.CodeOf(err) == wasmatrix.CodeResourceExhausted ||
				strings.Contains(err.Error(), "is reserved") || strings.Contains(err.Error(), "the host does not have") {
				return
			}
		} else if again, _ := meter.Rewrite(src, meter.Options{Limits: narrow}); !slices.Equal(again.Wasm, out.Wasm) {
			t.Fatal("outputs differ")
		}
		if len(src) > 100_000 {
			return
		}
		r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
		defer r.Close(t.Context())
		if err != nil {
			// The engine allocates for whatever a length says before it looks how
			// much there is: it is asked where lengths are as they should be.
			if !meter.Decodes(src) {
				return
			}
			if _, plain := r.CompileModule(t.Context(), src); plain == nil {
				t.Fatalf("the engine accepts what was refused: %v", err)
			}
			return
		}
		_, plain := r.CompileModule(t.Context(), src)
		if plain != nil && strings.Contains(plain.Error(), "failed to read custom section") {
			return // the engine does not like an empty one at the end; the output has none
		}
		_, rewritten := r.CompileModule(t.Context(), out.Wasm)
		if (plain == nil) != (rewritten == nil) {
			t.Fatalf("before: %v, after: %v", plain, rewritten)
		}
	})
}
