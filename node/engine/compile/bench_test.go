package compile

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// BenchmarkGoProgram compiles a Go program, once, and loads it again and again.
// WASMATRIX_BENCH_MODULE names another module.
func BenchmarkGoProgram(b *testing.B) {
	var src []byte
	if path := os.Getenv("WASMATRIX_BENCH_MODULE"); path != "" {
		var err error
		if src, err = os.ReadFile(path); err != nil {
			b.Fatal(err)
		}
	} else {
		src = nodetest.GoGuest(b)
	}
	c := open(b, Config{})
	digest := wasmatrix.DigestOf(src)
	began := time.Now()
	if err := c.Load(b.Context(), digest, give(src), func(*Artifact) error { return nil }); err != nil {
		b.Fatal(err)
	}
	cold := time.Since(began)
	for b.Loop() {
		if err := c.Load(b.Context(), digest, give(src), func(a *Artifact) error {
			_, err := load(b.Context(), c.Dir(), a.Wasm)
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cold.Milliseconds()), "ms/cold")
}

// BenchmarkSmall compiles small modules, each time another.
func BenchmarkSmall(b *testing.B) {
	c := open(b, Config{})
	src := nodetest.Module(b, "reactor")
	var n uint64
	for b.Loop() {
		n++
		// A section that nobody reads makes it another module.
		other := append(slices.Clip(src), custom("n", binary.LittleEndian.AppendUint64(nil, n))...)
		if err := c.Load(b.Context(), wasmatrix.DigestOf(other), give(other), func(*Artifact) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
