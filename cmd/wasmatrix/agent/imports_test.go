package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

func TestImportsThatNobodyProvides(t *testing.T) {
	check := func(imports ...string) *wasmatrix.Error {
		return wasmatrix.AsError(checkImports(&wasmatrix.Module{Imports: imports}))
	}
	if e := check(); e != nil {
		t.Errorf("a module without imports: %v", e)
	}
	if e := check("wasi_snapshot_preview1.fd_write", "wasmatrix.input_len"); e != nil {
		t.Errorf("what hosts provide: %v", e)
	}
	e := check("a.b.c", "env.one", "wasi_snapshot_preview1.fd_write", "wasi_unstable.fd_write", "wasmatrixx.f", "env.two")
	if e == nil || e.Code != wasmatrix.CodeWasmRuntime || e.Details["imports"] != "a.b.c env.one wasi_unstable.fd_write wasmatrixx.f env.two" ||
		!strings.Contains(e.Message, "a.b.c, env.one, wasi_unstable.fd_write, wasmatrixx.f, env.two") {
		t.Errorf("got %v, details %v", e, e.Details)
	}
	var many []string
	for n := range 10_000 {
		many = append(many, fmt.Sprintf("env.f%d", n))
	}
	if e := check(many...); e == nil || len(e.Message) > 2*maxNamed || !strings.Contains(e.Message, " more") {
		t.Errorf("10,000 imports: %d bytes of message", len(e.Message))
	}
}
