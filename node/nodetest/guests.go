package nodetest

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

//go:embed wasm/*.wasm
var modules embed.FS

// Module returns the module of wasm/NAME.wat.
func Module(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := modules.ReadFile("wasm/" + name + ".wasm")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Names lists what Module knows.
func Names(tb testing.TB) []string {
	tb.Helper()
	entries, err := modules.ReadDir("wasm")
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name()[:len(e.Name())-len(".wasm")])
	}
	return names
}

// GoGuest returns the program of testdata/guest, built for wasip1 once in a
// test binary.
func GoGuest(tb testing.TB) []byte {
	tb.Helper()
	b, err := goGuest()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

var goGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guest.wasm")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out,
		"github.com/wasmatrix/wasmatrix/node/nodetest/testdata/guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the guest: %w\n%s", err, text)
	}
	return os.ReadFile(out)
})
