package meter_test

import (
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// specModules finds the modules of the core specification's tests that come
// with the engine.
func specModules(t testing.TB) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	root := filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".wasm") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) == 0 {
		t.Fatal("no modules of the specification", err)
	}
	return paths
}

// TestAcceptsWhatTheEngineAccepts compares for all modules of the specification's tests, which
// have many that are malformed or invalid on purpose.
func TestAcceptsWhatTheEngineAccepts(t *testing.T) {
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	defer r.Close(t.Context())
	accepted, refused := 0, 0
	for _, path := range specModules(t) {
		src := read(t, path)
		name := filepath.Join(filepath.Base(filepath.Dir(filepath.Dir(path))), filepath.Base(path))
		_, before := r.CompileModule(t.Context(), src)
		out, err := meter.Rewrite(src, meter.Options{})
		after := err
		if err == nil {
			_, after = r.CompileModule(t.Context(), out.Wasm)
		}
		switch {
		case before == nil && after != nil && !errors.Is(after, meter.ErrUnsupported):
			t.Errorf("%s: accepted, and refused when metered: %v", name, after)
		case before != nil && after == nil:
			t.Errorf("%s: refused with %v, and accepted when metered", name, before)
		case before == nil && after == nil:
			accepted++
		default:
			refused++
		}
	}
	t.Logf("%d modules accepted, %d refused", accepted, refused)
	if accepted < 1000 || refused < 1000 {
		t.Error("too few modules of one kind to say anything")
	}
}
