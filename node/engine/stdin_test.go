package engine

import (
	"bytes"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestStdin is read once, to its end, by each run anew.
func TestStdin(t *testing.T) {
	t.Parallel()
	m := load(t, newEngine(t, Config{}), nodetest.Module(t, "stdin"))
	for _, in := range []string{"", "x", "seven..", "several lines\nof input\n", strings.Repeat("\x00\xff", wasmatrix.MaxStdin/2)} {
		for range 2 {
			var out bytes.Buffer
			exit := m.Run(t.Context(), RunConfig{Stdin: []byte(in), Stdout: &out})
			if exit.Kind != OK || out.String() != in {
				t.Errorf("%d bytes of input: %d came out, exit %+v", len(in), out.Len(), exit)
			}
		}
	}
}
