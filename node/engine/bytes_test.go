package engine

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
)

// TestBytesGoThroughAGuest, which reads and writes them in pieces.
func TestBytesGoThroughAGuest(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "bytes", RunConfig{})
	for _, n := range []int{0, 1, 999, 1000, 1001, 2000, 123_456, wasmatrix.MaxInvokeData} {
		in := make([]byte, n)
		for i := range in {
			in[i] = byte(i * 7)
		}
		res, err := r.bytes("echo", in)
		if err != nil || res.Status != 0 || !bytes.Equal(res.Data, in) || res.Results != nil {
			t.Errorf("%d bytes: %d came back, status %d, %v", n, len(res.Data), res.Status, err)
		}
	}
	// Nothing of a call is left to the next, nor to one of numbers.
	if res, err := r.bytes("silent", []byte("input")); err != nil || len(res.Data) != 0 || res.Status != 0 {
		t.Errorf("a function that writes nothing gave %q, status %d, %v", res.Data, res.Status, err)
	}
	if res, err := r.call("load", "0"); err != nil || res.Data != nil {
		t.Errorf("a call of numbers gave %q, %v", res.Data, err)
	}
}

// probe has the guest call a function of package abi with these arguments from
// within a call of bytes, and returns what it was told, and the output.
func (r *reactor) probe(words ...uint32) (int32, []byte) {
	r.t.Helper()
	var in []byte
	for _, w := range words {
		in = binary.LittleEndian.AppendUint32(in, w)
	}
	res, err := r.bytes("probe", in)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.Status, res.Data
}

// The first word of a probe.
const (
	askLen, askRead, askWrite = 0, 1, 2
)

func TestFunctionsOfBytesKeepWithinTheGuestsMemory(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "bytes", RunConfig{})
	const size = 64 << 10 // of the memory
	const bounds = -int32(abi.ErrBounds)
	for _, tt := range []struct {
		name  string
		words []uint32
		want  int32
	}{
		{"length", []uint32{askLen, 0, 0, 0}, 16},
		{"length of less", []uint32{askLen}, 4},
		{"all", []uint32{askRead, 0, 100, 16}, 16},
		{"more than there is", []uint32{askRead, 4, 100, 1 << 31}, 12},
		{"nothing", []uint32{askRead, 0, 100, 0}, 0},
		{"at the end", []uint32{askRead, 16, 100, 4}, 0},
		{"beyond the end", []uint32{askRead, 17, 100, 4}, 0},
		{"far beyond the end", []uint32{askRead, 1<<32 - 1, 100, 1<<32 - 1}, 0},
		{"beyond the end, to nowhere", []uint32{askRead, 16, 1<<32 - 1, 4}, 0},
		{"to the memory's last bytes", []uint32{askRead, 0, size - 16, 16}, 16},
		{"to one behind", []uint32{askRead, 0, size - 15, 16}, bounds},
		{"what is there fits", []uint32{askRead, 12, size - 4, 1 << 20}, 4},
		{"to the end", []uint32{askRead, 0, size, 1}, bounds},
		{"to where the address wraps", []uint32{askRead, 0, 1<<32 - 1, 16}, bounds},
		{"write", []uint32{askWrite, 0, 16, 16}, 0},
		{"write nothing", []uint32{askWrite, 0, size, 0}, 0},
		{"write the last byte", []uint32{askWrite, 0, size - 1, 1}, 0},
		{"write one behind", []uint32{askWrite, 0, size - 1, 2}, bounds},
		{"write nothing from beyond", []uint32{askWrite, 0, size + 1, 0}, bounds},
		{"write from where the address wraps", []uint32{askWrite, 0, 1<<32 - 1, 16}, bounds},
		{"write the largest", []uint32{askWrite, 0, 0, wasmatrix.MaxInvokeData}, bounds},
		{"write more than the host takes", []uint32{askWrite, 0, 0, wasmatrix.MaxInvokeData + 1}, -int32(abi.ErrTooLarge)},
		{"write what no length can be", []uint32{askWrite, 0, 0, 1<<32 - 1}, -int32(abi.ErrTooLarge)},
	} {
		got, out := r.probe(tt.words...)
		if got != tt.want {
			t.Errorf("%s: the guest was told %d, want %d", tt.name, got, tt.want)
		}
		want := 0
		if tt.words[0] == askWrite && tt.want == 0 {
			want = int(tt.words[3])
		}
		if len(out) != want {
			t.Errorf("%s: %d bytes of output, want %d", tt.name, len(out), want)
		}
	}
	// Of what did not fit nothing was copied: not the part that would have.
	if _, err := r.call("store", "65532", "305419896"); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.probe(askRead, 0, size-4, 16); got != bounds {
		t.Fatalf("told %d", got)
	}
	if res, err := r.call("load", "65532"); err != nil || res.Results[0].Text != "305419896" {
		t.Errorf("the memory has %v, %v", res.Results, err)
	}
	// What is written is copied at once: the guest has the words still there.
	if got, out := r.probe(askWrite, 0, 16, 16); got != 0 || !bytes.Equal(out, []byte{2, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0}) {
		t.Errorf("told %d, output %v", got, out)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "bytes", RunConfig{})
	res, err := r.bytes("too_much", nil)
	// The 65th piece was refused, then one byte, and no bytes were not.
	if want := 65*1000 + 10*int32(abi.ErrTooLarge); err != nil || res.Status != want || len(res.Data) != wasmatrix.MaxInvokeData {
		t.Errorf("status %d, want %d; %d bytes, %v", res.Status, want, len(res.Data), err)
	}
}

// TestNoBytesOutsideOfACallOfBytes: a call of numbers has no input and no output,
// and no call has none either.
func TestNoBytesOutsideOfACallOfBytes(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "bytes", RunConfig{})
	res, err := r.call("outside")
	if got := strings.Join(texts(res), " "); err != nil || got != "i32 0 i32 -3 i32 -3" {
		t.Errorf("in the initializer: %s, %v", got, err)
	}
	if _, err := r.bytes("echo", []byte("of another call")); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{"0": "0", "2": "-3"} {
		if res, err := r.call("numeric_probe", what, "0", "0", "4"); err != nil || res.Results[0].Text != want || res.Data != nil {
			t.Errorf("function %s in a call of numbers: %+v, %v; want %s", what, res, err, want)
		}
	}
	// Reading is to nobody's harm there, and gives nothing.
	if res, err := r.call("numeric_probe", "1", "0", "0", "4"); err != nil || res.Results[0].Text != "0" && res.Results[0].Text != "-3" {
		t.Errorf("input_read in a call of numbers: %+v, %v", res, err)
	}
}

func TestOutputOfACallThatTrappedIsNobodys(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "bytes", RunConfig{})
	res, err := r.bytes("writes_and_traps", []byte("x"))
	if e := wasmatrix.AsError(err); e == nil || e.Code != wasmatrix.CodeCrashDetected || len(res.Data) != 0 {
		t.Errorf("%q, %v", res.Data, err)
	}
	if exit := r.wait(); exit.Kind != Trap {
		t.Errorf("exit %+v", exit)
	}
}
