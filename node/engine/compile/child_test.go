package compile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// mustFail compiles a module that cannot be compiled, and returns the error.
func mustFail(t *testing.T, c *Cache, src []byte, code wasmatrix.Code, parts ...string) {
	t.Helper()
	err := c.Load(t.Context(), wasmatrix.DigestOf(src), give(src), func(*Artifact) error {
		t.Error("it is used")
		return nil
	})
	if wasmatrix.CodeOf(err) != code {
		t.Errorf("error %v, want %s", err, code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %v is not about %q", err, part)
		}
	}
	for _, path := range files(t, c.Dir()) {
		t.Errorf("it left %s", path)
	}
}

func TestABombIsKilledByTheTimer(t *testing.T) {
	t.Parallel()
	c := open(t, Config{Limits: loose, Timeout: 500 * time.Millisecond})
	began := time.Now()
	mustFail(t, c, timeBomb(), wasmatrix.CodeWasmRuntime, "module "+wasmatrix.DigestOf(timeBomb()).Short(), "took longer than 500ms")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestInvalidModules(t *testing.T) {
	t.Parallel()
	c := open(t, Config{})
	for name, src := range map[string][]byte{
		"empty": {}, "text": []byte("#!/bin/sh\n"), "truncated": nodetest.Module(t, "stateless")[:200],
		"component": {0, 'a', 's', 'm', 0x0d, 0, 1, 0},
		"types":     functions([]byte{0, 0x41, 1, 0x0b}), // a result that nobody declared
	} {
		t.Run(name, func(t *testing.T) { mustFail(t, c, src, wasmatrix.CodeWasmRuntime) })
	}
}

func TestLimitsReachTheMeter(t *testing.T) {
	t.Parallel()
	c := open(t, Config{Limits: meter.Limits{Functions: 2}})
	body := []byte{0, 0x0b}
	mustFail(t, c, functions(body, body, body), wasmatrix.CodeResourceExhausted, "limit is 2")
	mustLoad(t, c, functions(body, body))
}

// TestLoadingIsBounded refuses what would take the node too much, though it can
// be compiled.
func TestLoadingIsBounded(t *testing.T) {
	t.Parallel()
	mustFail(t, open(t, Config{LoadTimeout: time.Nanosecond}), numbered(1), wasmatrix.CodeResourceExhausted,
		"loading the compiled module takes", "limit is 1ns")
	bomb := memoryBomb(20 << 20)
	if len(bomb) > 8<<10 {
		t.Errorf("a bomb of %d bytes", len(bomb))
	}
	c := open(t, Config{Limits: loose, LoadMemory: 16 << 20, Timeout: 10 * time.Minute})
	mustFail(t, c, bomb, wasmatrix.CodeResourceExhausted, "of memory", "limit is 16MiB")
	mustLoad(t, c, numbered(1))
}

// TestAReplacedProgram runs a copy of this program that removes itself before it
// loads a module, and a child of another version.
func TestAReplacedProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, b, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, verbRemoved, filepath.Join(dir, "cache")).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}

	req := &request{Program: "another", Source: "nowhere"}
	if _, err := compile(t.Context(), req); err == nil || !strings.Contains(err.Error(), "not of the node's version") {
		t.Errorf("error %v", err)
	}
}

func TestChildrenThatFail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		command []string
		code    wasmatrix.Code
		part    string
	}{
		{"dies", []string{os.Args[0], verbPanics}, wasmatrix.CodeWasmRuntime, "the compiler failed: panic: on purpose"},
		{"is not there", []string{filepath.Join(t.TempDir(), "missing")}, wasmatrix.CodeInternal, "no such file"},
		{"says nothing", []string{os.Args[0], verbLies, ""}, wasmatrix.CodeInternal, "answer"},
		{"names other files", []string{
			os.Args[0], verbLies, `{"Manifest":{"Module":{"Name":"../../passwd"},"Code":{"Name":"00"}}}`,
		}, wasmatrix.CodeInternal, "unexpected files"},
		{"names code elsewhere", []string{
			os.Args[0], verbLies, `{"Manifest":{"Module":{"Name":"module.wasm"},"Code":{"Name":"../00"}}}`,
		}, wasmatrix.CodeInternal, "unexpected files"},
		{"leaves nothing", []string{
			os.Args[0], verbLies, `{"Manifest":{"Module":{"Name":"module.wasm"},"Code":{"Name":"00"}}}`,
		}, wasmatrix.CodeStorage, "written 0 files"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mustFail(t, open(t, Config{Command: tt.command}), numbered(1), tt.code, tt.part)
		})
	}
}
