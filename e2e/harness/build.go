package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Root returns the folder of the main module.
func Root(tb TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, ".golangci.yml")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			tb.Fatalf("not inside the wasmatrix module")
		}
		dir = filepath.Dir(dir)
	}
}

// Binary returns the wasmatrix binary under test: that of WASMATRIX_BIN, or one
// that is built here.
func Binary(tb TB) string {
	tb.Helper()
	if bin := os.Getenv("WASMATRIX_BIN"); bin != "" {
		return bin
	}
	return buildOnce(tb, "wasmatrix", func(out string) *exec.Cmd {
		cmd := exec.CommandContext(tb.Context(), "go", "build", "-o", out, "./cmd/wasmatrix")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		return cmd
	})
}

// Guest returns the path of a guest of examples/, built for wasip1.
func Guest(tb TB, name string) string {
	tb.Helper()
	return buildOnce(tb, name+".wasm", func(out string) *exec.Cmd {
		cmd := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./examples/"+name)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		return cmd
	})
}

// Build returns the path of a program built from a package of this repository's
// module or of its dependencies.
func Build(tb TB, name, pkg string) string {
	tb.Helper()
	return buildOnce(tb, name, func(out string) *exec.Cmd {
		cmd := exec.CommandContext(tb.Context(), "go", "build", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		return cmd
	})
}

// Wasm returns the path of a program in Go of this repository, built for wasip1:
// a command, or a reactor. Pkg is its folder, from the root.
func Wasm(tb TB, pkg string, reactor bool) string {
	tb.Helper()
	mode, name := "exe", strings.ReplaceAll(pkg, "/", "-")+".wasm"
	if reactor {
		mode, name = "c-shared", "reactor-"+name
	}
	return buildOnce(tb, name, func(out string) *exec.Cmd {
		cmd := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-buildmode="+mode, "-o", out, "./"+pkg)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		return cmd
	})
}

// PublicGuest returns the path of a program that others wrote, built for wasip1
// from its module at the version that examples/NAME/go.mod pins.
func PublicGuest(tb TB, name, pkg string) string {
	tb.Helper()
	dir := filepath.Join(Root(tb), "examples", name)
	return buildOnce(tb, name+".wasm", func(out string) *exec.Cmd {
		cmd := exec.CommandContext(tb.Context(), "go", "build", "-C", dir, "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		return cmd
	})
}

var (
	buildMu  sync.Mutex
	buildDir string
	built    = map[string]string{}
)

// buildOnce builds each thing once for the life of the process.
func buildOnce(tb TB, name string, command func(out string) *exec.Cmd) string {
	tb.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	if path, ok := built[name]; ok {
		return path
	}
	if buildDir == "" {
		dir, err := os.MkdirTemp("", "wasmatrix-e2e-")
		if err != nil {
			tb.Fatalf("%v", err)
		}
		buildDir = dir
	}
	out := filepath.Join(buildDir, name)
	cmd := command(out)
	cmd.Dir = Root(tb)
	if b, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("building %s: %v\n%s", name, err, b)
	}
	built[name] = out
	return out
}

// RemoveBuilt removes what was built. Call it from TestMain, or at the end of
// a program.
func RemoveBuilt() {
	buildMu.Lock()
	defer buildMu.Unlock()
	if buildDir != "" {
		_ = os.RemoveAll(buildDir)
		buildDir, built = "", map[string]string{}
	}
}
