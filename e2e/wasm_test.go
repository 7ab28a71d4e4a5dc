package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// Small modules in the binary format, each for one way to go wrong. What they
// are is written beside them in the text format.
var (
	wasmHeader = "\x00asm\x01\x00\x00\x00"

	// (module (func (export "_start")))
	wasmEnds = wasmHeader + wasmStart + "\x0a\x04\x01\x02\x00\x0b"

	// (module (func $boom unreachable) (func (export "_start") (call $boom)))
	wasmTraps = wasmHeader +
		"\x01\x04\x01\x60\x00\x00" + "\x03\x03\x02\x00\x00" + "\x07\x0a\x01\x06_start\x00\x01" +
		"\x0a\x0a\x02\x03\x00\x00\x0b\x04\x00\x10\x00\x0b" +
		"\x00\x16\x04name\x01\x0f\x02\x00\x04boom\x01\x06_start"

	// (module (import "env" "nope" (func)) (func (export "_start") (call 0)))
	wasmLacks = wasmHeader +
		"\x01\x04\x01\x60\x00\x00" + "\x02\x0c\x01\x03env\x04nope\x00\x00" + "\x03\x02\x01\x00" +
		"\x07\x0a\x01\x06_start\x00\x01" + "\x0a\x06\x01\x04\x00\x10\x00\x0b"

	// (module (func $boom unreachable) (func (export "_start")) (start $boom))
	wasmStartTraps = wasmHeader +
		"\x01\x04\x01\x60\x00\x00" + "\x03\x03\x02\x00\x00" + "\x07\x0a\x01\x06_start\x00\x01" + "\x08\x01\x00" +
		"\x0a\x08\x02\x03\x00\x00\x0b\x02\x00\x0b"

	// (module (func (export "_start") (i32.const 0))), which leaves a value behind.
	wasmInvalid = wasmHeader + wasmStart + "\x0a\x06\x01\x04\x00\x41\x00\x0b"

	// The header of a component.
	wasmComponent = "\x00asm\x0d\x00\x01\x00"

	// The types, functions and exports of a module of one function, _start.
	wasmStart = "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x07\x0a\x01\x06_start\x00\x00"
)

// padded is a module with a custom section of n bytes, so that its digest is
// one of its own.
func padded(n int) string {
	size := n + 2 // the empty name's length is one of them; LEB128 of two bytes fits below
	var leb []byte
	for v := size; ; v >>= 7 {
		if v < 0x80 {
			leb = append(leb, byte(v))
			break
		}
		leb = append(leb, byte(v)|0x80)
	}
	return wasmEnds + "\x00" + string(leb) + "\x01p" + string(make([]byte, n))
}

// file writes what a test has in memory to a file of its own.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
