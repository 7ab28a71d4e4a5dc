package snapfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/wasmatrix/wasmatrix/snapfile"
)

// badDisk refuses what goes over its room, once or always.
type badDisk struct {
	room int
	once bool
	bytes.Buffer
}

var errFull = errors.New("no space left")

func (d *badDisk) Write(b []byte) (int, error) {
	if d.room -= len(b); d.room < 0 {
		if d.once {
			d.room = 1 << 30
		}
		return 0, errFull
	}
	return d.Buffer.Write(b)
}

// TestErrorsOfTheDisk: also one that is over with the next write, which would
// leave a hole in the file.
func TestErrorsOfTheDisk(t *testing.T) {
	for _, c := range []struct {
		x    *box
		step int
	}{{small(), 1}, {large(), 50_021}} {
		size := len(written(t, c.x))
		for room := 0; room < size; room += c.step {
			for _, once := range []bool{false, true} {
				d := &badDisk{room: room, once: once}
				err := c.x.write(d)
				wantError(t, fmt.Sprintf("room for %d bytes, once: %v", room, once), err, "cannot write box")
				if !errors.Is(err, errFull) || d.Len() > room {
					t.Fatalf("room for %d bytes: %v, and %d bytes written", room, err, d.Len())
				}
			}
		}
	}
}

// TestWriterRefuses what no reader would take.
func TestWriterRefuses(t *testing.T) {
	str := wrapperspb.String
	for name, write := range map[string]func(*snapfile.Writer){
		"no header":       func(w *snapfile.Writer) { w.Record(apples, str("a")) },
		"nothing":         func(*snapfile.Writer) {},
		"two headers":     func(w *snapfile.Writer) { w.Header(str("h")); w.Header(str("h")) },
		"another order":   func(w *snapfile.Writer) { w.Header(str("h")); w.Record(nuts, str("n")); w.Record(apples, str("a")) },
		"a trailer":       func(w *snapfile.Writer) { w.Header(str("h")); w.Record(format.Trailer(), str("a")) },
		"an unknown kind": func(w *snapfile.Writer) { w.Header(str("h")); w.Record(100, str("a")) },
		"a large record": func(w *snapfile.Writer) {
			w.Header(str("h"))
			w.Record(apples, str(strings.Repeat("x", format.MaxChunk)))
		},
		"no UTF-8": func(w *snapfile.Writer) { w.Header(str("\xff")) },
	} {
		w, err := format.NewWriter(io.Discard, 1)
		if err != nil {
			t.Fatal(err)
		}
		write(w)
		err = w.Finish(trailer)
		wantError(t, name, err, "cannot write box")
		if w.OK() || w.Record(nuts, str("n")) {
			t.Errorf("%s: all is well", name)
		}
	}
}
