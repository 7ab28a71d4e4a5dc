package meter_test

import (
	"bytes"
	"debug/dwarf"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Regenerate testdata/lines.wasm with
//
//	clang --target=wasm32 -O1 -g -fno-inline -fno-optimize-sibling-calls -fdebug-compilation-dir=. \
//		-nostdlib -Wl,--no-entry -o lines.wasm lines.c
//
// without wasm-opt on PATH: clang would have it optimize the result, which leaves
// no lines in it.

// trace calls f, which must trap, and returns the engine's stack trace.
func trace(t *testing.T, g *guest) string {
	t.Helper()
	_, err := g.mod.ExportedFunction("f").Call(t.Context())
	if err == nil {
		t.Fatal("no trap")
	}
	return err.Error()
}

var frameOffset = regexp.MustCompile(`(?m)^\s+(0x[0-9a-f]+): (.*)$`)

// TestLinesOfAMeteredTrace: the offsets in the trace of a metered module lead,
// through Debug, to the lines that the engine finds for the module as it is.
func TestLinesOfAMeteredTrace(t *testing.T) {
	src := read(t, "testdata/lines.wasm")
	want := frameOffset.FindAllStringSubmatch(trace(t, plain(t, src)), -1)
	if len(want) != 7 { // divide, middle, four times deep, f
		t.Fatalf("%d lines in the trace of the module as it is: %q", len(want), want)
	}
	out, err := meter.Rewrite(src, meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if out.Debug == nil {
		t.Fatal("no debug information")
	}
	text := trace(t, metered(t, src, &host{}, meter.Options{}))
	got := frameOffset.FindAllStringSubmatch(text, -1)
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), text)
	}
	data, err := dwarf.New(out.Debug.Sections[".debug_abbrev"], nil, nil, out.Debug.Sections[".debug_info"],
		out.Debug.Sections[".debug_line"], nil, out.Debug.Sections[".debug_ranges"], out.Debug.Sections[".debug_str"])
	if err != nil {
		t.Fatal(err)
	}
	unit, err := data.Reader().Next()
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		offset, err := strconv.ParseUint(got[i][1], 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		original := out.Debug.Original(uint32(offset))
		if offset := fmt.Sprintf("%#x", original); offset != want[i][1] {
			t.Errorf("frame %d: %s, which is %s of the source; want %s", i, got[i][1], offset, want[i][1])
		}
		lines, err := data.LineReader(unit)
		if err != nil {
			t.Fatal(err)
		}
		var entry dwarf.LineEntry
		if err := lines.SeekPC(uint64(original), &entry); err != nil {
			t.Fatal(err)
		}
		if line := fmt.Sprintf("lines.c:%d:", entry.Line); !strings.Contains(want[i][2], line) {
			t.Errorf("frame %d: %s, want %s", i, line, want[i][2])
		}
	}
}

func TestNoDebugWithoutLines(t *testing.T) {
	out, err := meter.Rewrite(read(t, "testdata/exits.wasm"), meter.Options{})
	if err != nil || out.Debug != nil {
		t.Fatal(out, err)
	}
	if text := trace(t, metered(t, single(nil, nil, 0), &host{}, meter.Options{})); frameOffset.MatchString(text) {
		t.Error(text)
	}
}

func TestFunctionsKeepTheirNames(t *testing.T) {
	g := metered(t, read(t, "testdata/exits.wasm"), &host{}, meter.Options{})
	_, err := g.mod.ExportedFunction("deep").Call(t.Context())
	for _, name := range []string{".deep()", ".refuel and check depth()"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("no %q in %v", name, err)
		}
	}
	_, err = metered(t, read(t, "testdata/bulk.wasm"), &host{}, meter.Options{}).mod.ExportedFunction("fill").Call(t.Context(), 1<<30, 0, 100)
	if err == nil || !strings.Contains(err.Error(), "memory.fill (metered)") {
		t.Error(err)
	}
}

func TestDebugOriginal(t *testing.T) {
	d := &meter.Debug{Shifts: []meter.Shift{{New: 10, Old: 5}, {New: 20, Old: 9}, {New: 22, Old: 9}, {New: 40, Old: 30}}}
	for offset, want := range map[uint32]uint32{
		3: 3, 10: 5, 12: 7, 19: 9 /* not beyond what follows */, 20: 9, 21: 9, 22: 9, 30: 17, 39: 26, 40: 30, 50: 40,
	} {
		if got := d.Original(offset); got != want {
			t.Errorf("%d is %d, want %d", offset, got, want)
		}
	}
}

func TestDebugMarshals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &meter.Debug{Shifts: []meter.Shift{}, Sections: rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.Byte())).Draw(t, "sections")}
		var s meter.Shift
		for range rapid.IntRange(0, 20).Draw(t, "shifts") {
			s.New += uint32(rapid.IntRange(0, 1000).Draw(t, "new"))
			s.Old = rapid.Uint32().Draw(t, "old")
			d.Shifts = append(d.Shifts, s)
		}
		b, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got meter.Debug
		if err := got.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		again, _ := got.MarshalBinary()
		if !reflect.DeepEqual(d.Shifts, got.Shifts) || !bytes.Equal(b, again) || len(got.Sections) != len(d.Sections) {
			t.Fatalf("%v, want %v", got, d)
		}
		// Damaged bytes are an error or something else, never a panic.
		if len(b) > 0 {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
			_ = got.UnmarshalBinary(b)
			if err := got.UnmarshalBinary(b[:len(b)/2]); err == nil && len(b) > 40 {
				t.Log("half of it decodes too")
			}
		}
	})
}
