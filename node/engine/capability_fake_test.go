package engine

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/wasmatrix/wasmatrix/abi"
)

//go:generate sh -c "for f in testdata/*.wat; do wat2wasm --debug-names ${DOLLAR}f -o ${DOLLAR}{f%.wat}.wasm || exit 1; done"

// testModule returns the module of testdata/NAME.wat.
func testModule(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/" + name + ".wasm")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// step is one call of a script.
type step struct {
	f    string
	args []uint64
}

// do is a step. Numbers are addresses, lengths and i64s; a text is put somewhere
// into the guest's memory, and becomes its address and length.
func (r *reactor) do(f string, args ...any) step {
	r.t.Helper()
	s := step{f: f}
	for _, a := range args {
		switch a := a.(type) {
		case int:
			s.args = append(s.args, uint64(a))
		case string:
			if r.free < texts0 {
				r.free = texts0
			}
			r.put(r.free, []byte(a))
			s.args = append(s.args, uint64(r.free), uint64(len(a)))
			r.free += len(a)
		default:
			r.t.Fatalf("%T", a)
		}
	}
	return s
}

const texts0 = 0x1000 // from where texts are put

// put writes to the guest's memory.
func (r *reactor) put(at int, b []byte) {
	r.t.Helper()
	if _, err := r.bytes("poke", append(binary.LittleEndian.AppendUint32(nil, uint32(at)), b...)); err != nil {
		r.t.Fatal(err)
	}
}

// numberOf is the number of a function in scripts.
func numberOf(f string) int {
	return slices.IndexFunc(hostFunctions, func(h hostFunction) bool { return h.name == f })
}

func encodeSteps(steps []step) (in []byte) {
	for _, s := range steps {
		record := make([]byte, 80)
		binary.LittleEndian.PutUint32(record, uint32(numberOf(s.f)))
		for i, a := range s.args {
			binary.LittleEndian.PutUint64(record[8+8*i:], a)
		}
		in = append(in, record...)
	}
	return in
}

// script has the guest do steps within one invocation, and returns what it was
// told, and what it has written with output_write.
func (r *reactor) script(steps ...step) (told []int32, written []byte) {
	r.t.Helper()
	res, err := r.bytes("script", encodeSteps(steps))
	if err != nil {
		r.t.Fatal(err)
	}
	out := res.Data
	for _, s := range steps {
		if s.f == abi.OutputWrite {
			n := int(s.args[1])
			written = append(written, out[:n]...)
			out = out[n:]
		}
		told = append(told, int32(binary.LittleEndian.Uint32(out)))
		out = out[4:]
	}
	return told, written
}

// want runs a script and holds what the guest is told against what it should be.
func (r *reactor) want(written string, told []int32, steps ...step) {
	r.t.Helper()
	gotTold, gotWritten := r.script(steps...)
	if !slices.Equal(gotTold, told) {
		r.t.Errorf("%v: told %v, want %v", steps, gotTold, told)
	}
	if string(gotWritten) != written {
		r.t.Errorf("%v: wrote %.200q, want %.200q", steps, gotWritten, written)
	}
}
