package engine

import (
	"testing"

	"github.com/wasmatrix/wasmatrix/abi"
)

func TestWithoutAMemoryThereAreNoBytes(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "bytes_bare", RunConfig{})
	for function, want := range map[string]int32{
		"len": 5, "read": -int32(abi.ErrBounds), "read_beyond": 0, "write": -int32(abi.ErrBounds),
	} {
		if res, err := r.bytes(function, []byte("input")); err != nil || res.Status != want || len(res.Data) != 0 {
			t.Errorf("%s: status %d, %q, %v; want %d", function, res.Status, res.Data, err, want)
		}
	}
}
