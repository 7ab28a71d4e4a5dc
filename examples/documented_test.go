package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// blocks are the programs of a language in the contract's document.
func blocks(t *testing.T, language string) (programs []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(committed(t, "../docs/abi.md")), -1) {
		programs = append(programs, m[1])
	}
	if len(programs) == 0 {
		t.Fatalf("there are no programs in %s", language)
	}
	return programs
}

// TestDocumentedGuests builds what docs/abi.md shows, and runs what counts.
func TestDocumentedGuests(t *testing.T) {
	compileText := func(t *testing.T, text, ext string, command ...string) []byte {
		t.Helper()
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Skipf("there is no %s", command[0])
		}
		dir := t.TempDir()
		source, out := filepath.Join(dir, "guest"+ext), filepath.Join(dir, "guest.wasm")
		if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], "-o", out, source)...)
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s\n%s", err, b, text)
		}
		return committed(t, out)
	}
	t.Run("wat", func(t *testing.T) {
		for _, text := range blocks(t, "wat") {
			m := loadInto(t, newEngine(t), compileText(t, text, ".wat", "wat2wasm"), wasmatrix.ModuleReactor)
			r := begin(t, m, engine.RunConfig{Capabilities: nodetest.NewWorld()})
			r.want("visit", "", 0, "\x01"+strings.Repeat("\x00", 7))
			r.want("visit", "", 0, "\x02"+strings.Repeat("\x00", 7))
		}
	})
	t.Run("c", func(t *testing.T) {
		for _, text := range blocks(t, "c") {
			compileText(t, text, ".c", "clang", "--target=wasm32", "-Wall", "-Werror", "-Os", "-I../sdk/c", "-nostdlib", "-Wl,--no-entry")
		}
	})
}
