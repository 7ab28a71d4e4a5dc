package compile

import (
	"bytes"
	"encoding/binary"
	"reflect"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// loose are limits that let every bomb pass to the compiler.
var loose = func() (l meter.Limits) {
	for _, f := range reflect.ValueOf(&l).Elem().Fields() {
		f.SetUint(1 << 31)
	}
	return l
}()

// timeBomb is a module of 170 KB that takes wazero most of a minute: loops within one
// another, each of which changes some locals.
func timeBomb() []byte {
	const loops = 12_000
	body := []byte{1, 8, 0x7f} // eight locals of i32
	for i := range loops {
		l := byte(i % 8)
		body = append(body, 0x03, 0x40, 0x20, l, 0x41, 1, 0x6a, 0x21, l) // loop; local = local + 1
	}
	for i := range loops {
		body = append(body, 0x20, byte(i%8), 0x0d, 0, 0x0b) // br_if 0; end
	}
	return functions(append(body, 0x0b))
}

// memoryBomb is a module of some KB whose locals take the engine the given
// number of bytes as soon as it has read them.
func memoryBomb(size int) []byte {
	const locals = 50_000
	body := append(binary.AppendUvarint([]byte{1}, locals), 0x7f, 0x0b)
	bodies := make([][]byte, size/locals)
	for i := range bodies {
		bodies[i] = body
	}
	return functions(bodies...)
}

// withLines adds what counts as debug information to a module.
func withLines(src []byte) []byte {
	return append(bytes.Clone(src), bytes.Join([][]byte{
		custom(".debug_abbrev", []byte("abbreviations")), custom(".debug_info", []byte("information")), custom(".debug_line", []byte("lines")),
	}, nil)...)
}
