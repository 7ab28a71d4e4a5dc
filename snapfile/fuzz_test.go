package snapfile_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/wasmatrix/wasmatrix/snapfile"
	"github.com/wasmatrix/wasmatrix/snapfile/snapfiletest"
)

// FuzzRead has any bytes for a file: what is accepted is a file as a whole.
func FuzzRead(f *testing.F) {
	f.Add(written(f, small()))
	f.Add(written(f, &box{version: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var x box
		size, err := format.Read(bytes.NewReader(b), &x)
		if err != nil {
			wantError(t, "refused", err)
			return
		}
		if size != int64(len(b)) {
			t.Fatalf("accepted as of %d of %d bytes", size, len(b))
		}
		roundTrip(t, &x)
	})
}

// FuzzChunk goes past the sums that keep FuzzRead out: any bytes for what is
// stored, and for the content of a chunk.
func FuzzChunk(f *testing.F) {
	_, chunks := snapfiletest.Split(f, format, written(f, small()))
	for _, c := range chunks {
		f.Add(uint8(c.Kind), c.RawLen, c.Payload, false)
	}
	f.Add(uint8(pears), 0, []byte{3, 0x0a, 1, 'p', 0}, true)
	f.Fuzz(func(t *testing.T, kind uint8, rawLen int, b []byte, content bool) {
		c := snapfiletest.Chunk{Kind: snapfile.Kind(kind), RawLen: rawLen, Payload: b}
		if content {
			c = packed(t, snapfile.Kind(kind), b)
		}
		var x box
		if _, err := format.Read(bytes.NewReader(resealed(t, []snapfiletest.Chunk{chunks[0], c})), &x); err != nil {
			wantError(t, "refused", err, "corrupted")
			return
		}
		roundTrip(t, &x)
	})
}

func roundTrip(t *testing.T, x *box) {
	t.Helper()
	var again box
	if _, err := format.Read(bytes.NewReader(written(t, x)), &again); err != nil || !reflect.DeepEqual(&again, x) {
		t.Fatalf("written and read it is %+v, not %+v: %v", again, x, err)
	}
}
