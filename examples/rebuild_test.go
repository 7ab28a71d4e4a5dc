package examples_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommittedModulesAreWhatTheirSourcesSay builds them anew, where the compiler
// is there by which they were built: another makes other bytes.
func TestCommittedModulesAreWhatTheirSourcesSay(t *testing.T) {
	t.Run("c", func(t *testing.T) {
		const version = "clang version 14."
		out, err := exec.CommandContext(t.Context(), "clang", "--version").Output()
		if err != nil || !strings.Contains(string(out), version) {
			t.Skipf("there is no %s", version)
		}
		// clang runs wasm-opt where that is on PATH, which makes another file.
		tools := t.TempDir()
		for _, tool := range []string{"clang", "wasm-ld", "wasm-ld-14"} { // by either name
			if path, err := exec.LookPath(tool); err == nil {
				if err := os.Symlink(path, filepath.Join(tools, tool)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if links, err := filepath.Glob(filepath.Join(tools, "wasm-ld*")); err != nil || len(links) == 0 {
			t.Skip("there is no linker")
		}
		for _, source := range []string{"reactor/reactor.c", "wordcount/wordcount.c", "visits/c/visits.c", "relay/c/relay.c"} {
			dir, file := filepath.Split(source)
			out := filepath.Join(t.TempDir(), "guest.wasm")
			cmd := exec.CommandContext(t.Context(), "clang", "--target=wasm32", "-Os", "-mbulk-memory", "-Wall", "-Wextra", "-Werror", "-Wno-logical-op-parentheses",
				"-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=4096", "-o", out, file)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+tools)
			compareBuilt(t, cmd, out, strings.TrimSuffix(source, ".c")+".wasm")
		}
	})
	t.Run("as", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the compiler takes ten seconds for each")
		}
		asc, err := filepath.Abs("../sdk/assemblyscript/node_modules/.bin/asc")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(asc); err != nil {
			t.Skip("npm ci was not run in sdk/assemblyscript")
		}
		for _, name := range []string{"examples/visits/as/visits", "examples/relay/as/relay", "sdk/assemblyscript/test/guest"} {
			out := filepath.Join(t.TempDir(), "guest.wasm")
			cmd := exec.CommandContext(t.Context(), asc, name+".ts", "--runtime", "incremental", "--exportStart", "_initialize",
				"--use", "abort=sdk/assemblyscript/assembly/host/abort", "-O", "-o", out)
			cmd.Dir = ".."
			compareBuilt(t, cmd, out, "../"+name+".wasm")
		}
	})
}

func compareBuilt(t *testing.T, cmd *exec.Cmd, built, path string) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", path, err, out)
		return
	}
	if !bytes.Equal(committed(t, built), committed(t, path)) {
		t.Errorf("%s is not what its source makes: build it by the recipe in README.md", path)
	}
}
