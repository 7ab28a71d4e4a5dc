package snapfile_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/snapfile"
	"github.com/wasmatrix/wasmatrix/snapfile/snapfiletest"
)

func TestDamageIsRefused(t *testing.T) {
	good := written(t, small())
	refuse := func(what string, b []byte, say ...string) {
		t.Helper()
		size, err := format.Read(bytes.NewReader(b), &box{})
		wantError(t, what, err, say...)
		if size != 0 {
			t.Fatalf("%s: has %d bytes", what, size)
		}
	}
	for n := range good {
		refuse(fmt.Sprintf("the first %d bytes", n), good[:n], "box is truncated")
		for bit := range 8 {
			flipped := bytes.Clone(good)
			flipped[n] ^= 1 << bit
			refuse(fmt.Sprintf("byte %d, bit %d", n, bit), flipped, "box")
		}
	}
	refuse("more", append(bytes.Clone(good), 0), "data after its end")
	refuse("twice", append(bytes.Clone(good), good...), "data after its end")
	refuse("another file", []byte("PK\x03\x04 some zip archive"), "not a wasmatrix box")
	_, chunks := snapfiletest.Split(t, format, good)
	refuse("version 0", snapfiletest.Join(format, 0, chunks), "corrupted", "version 0")
	refuse("newer", snapfiletest.Join(format, 8, chunks), "version 8", "newer release", "up to 7")
}

// resealed is a file of chunks whose trailer is right.
func resealed(tb testing.TB, chunks []snapfiletest.Chunk) []byte {
	tb.Helper()
	sum := sha256.Sum256(snapfiletest.Join(format, 1, chunks))
	b, err := proto.Marshal(trailer(snapfile.Totals{Chunks: uint64(len(chunks)), Sum: sum[:]}))
	if err != nil {
		tb.Fatal(err)
	}
	return snapfiletest.Join(format, 1, append(slices.Clone(chunks), snapfiletest.Message(format.Trailer(), b)))
}

func packed(tb testing.TB, kind snapfile.Kind, content []byte) snapfiletest.Chunk {
	tb.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return snapfiletest.Chunk{Kind: kind, RawLen: len(content), Payload: enc.EncodeAll(content, nil)}
}

// TestWhatNoWriterMakes: files whose checksums and trailer are right.
func TestWhatNoWriterMakes(t *testing.T) {
	_, chunks := snapfiletest.Split(t, format, written(t, small()))
	head, apple, nut := chunks[0], chunks[1], chunks[2]
	long, short := apple, head
	long.RawLen++
	short.RawLen--
	bomb := packed(t, pears, make([]byte, format.MaxChunk+1))
	bomb.RawLen = format.MaxChunk
	for _, c := range []struct {
		name   string
		chunks []snapfiletest.Chunk
		say    string // "" for a sound file
	}{
		{"sound", []snapfiletest.Chunk{head, apple, nut}, ""},
		{"a section in several chunks", []snapfiletest.Chunk{head, apple, apple, nut}, ""},
		{"an empty chunk", []snapfiletest.Chunk{head, packed(t, pears, nil)}, ""},
		{"no header", []snapfiletest.Chunk{apple, nut}, "begins with a chunk of apples"},
		{"nothing", nil, "begins with a chunk of trailer"},
		{"two headers", []snapfiletest.Chunk{head, head, apple}, "a chunk of header follows one of header"},
		{"a late header", []snapfiletest.Chunk{head, apple, head}, "a chunk of header follows one of apples"},
		{"another order", []snapfiletest.Chunk{head, nut, apple}, "a chunk of apples follows one of nuts"},
		{"kind 0", []snapfiletest.Chunk{head, {Kind: 0}}, "kind 0"},
		{"an unknown kind", []snapfiletest.Chunk{head, {Kind: 200}}, "kind 200"},
		{"a wrong length", []snapfiletest.Chunk{head, long}, "chunk 2 (apples): it has 5 bytes, and should have 6"},
		{"a wrong length of the header", []snapfiletest.Chunk{short}, "chunk 1 (header): it has 6 bytes"},
		{"an impossible length", []snapfiletest.Chunk{head, {Kind: pears, RawLen: format.MaxChunk + 1}}, "impossible lengths"},
		{"too much stored", []snapfiletest.Chunk{head, {Kind: pears, Payload: make([]byte, format.MaxChunk+1)}}, "impossible lengths"},
		{"no zstd", []snapfiletest.Chunk{head, snapfiletest.Message(pears, []byte("plain"))}, "does not decompress"},
		{"more than a chunk may have", []snapfiletest.Chunk{head, bomb}, "does not decompress"},
		{"a record cut off", []snapfiletest.Chunk{head, packed(t, pears, []byte{2, 0})}, "a record is cut off"},
		{"a length cut off", []snapfiletest.Chunk{head, packed(t, pears, []byte{0, 0x80})}, "a record is cut off"},
		{"a trailer in between", []snapfiletest.Chunk{head, snapfiletest.Message(format.Trailer(), nil), apple}, "trailer"},
	} {
		_, err := format.Read(bytes.NewReader(resealed(t, c.chunks)), &box{})
		if c.say == "" && err == nil {
			continue
		}
		wantError(t, c.name, err, "corrupted", c.say)
	}

	_, chunks = snapfiletest.Split(t, format, written(t, large()))
	for n := range len(chunks) - 1 {
		_, err := format.Read(bytes.NewReader(snapfiletest.Join(format, 7, slices.Delete(slices.Clone(chunks), n, n+1))), &box{})
		wantError(t, fmt.Sprintf("without chunk %d", n), err, "corrupted")
		_, err = format.Read(bytes.NewReader(snapfiletest.Join(format, 7, slices.Insert(slices.Clone(chunks), n, chunks[n]))), &box{})
		wantError(t, fmt.Sprintf("chunk %d twice", n), err, "corrupted")
	}
	chunks[1], chunks[2] = chunks[2], chunks[1]
	_, err := format.Read(bytes.NewReader(snapfiletest.Join(format, 7, chunks)), &box{})
	wantError(t, "two chunks of a section swapped", err, "SHA-256")
}

// TestErrorsOfTheContent: one that has a code is passed, any other is of a
// corrupted file.
func TestErrorsOfTheContent(t *testing.T) {
	b := written(t, small())
	for kind, name := range map[snapfile.Kind]string{
		snapfile.Header: "chunk 1 (header)", apples: "chunk 2 (apples)", nuts: "chunk 3 (nuts)", format.Trailer(): "chunk 4 (trailer)",
	} {
		coded := wasmatrix.Errorf(wasmatrix.CodeInternal, "as it is")
		if _, err := format.Read(bytes.NewReader(b), &box{fail: map[snapfile.Kind]error{kind: coded}}); err == nil || err.Error() != coded.Error() || !errors.Is(err, coded) {
			t.Errorf("%s: %v", name, err)
		}
		plain := errors.New("not so")
		_, err := format.Read(bytes.NewReader(b), &box{fail: map[snapfile.Kind]error{kind: plain}})
		wantError(t, name, err, "box is corrupted: "+name+": not so")
		if !errors.Is(err, plain) {
			t.Errorf("%s: the cause is lost", name)
		}
	}
}

func TestErrorsOfTheReader(t *testing.T) {
	b := written(t, small())
	broken := errors.New("disk on fire")
	for n := range len(b) + 1 {
		_, err := format.Read(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(broken)), &box{})
		wantError(t, fmt.Sprintf("after %d bytes", n), err, "cannot read box", "disk on fire")
		if !errors.Is(err, broken) {
			t.Fatalf("after %d bytes the cause is lost", n)
		}
	}
}

// TestPromisesTakeNoMemory: a damaged length must not take what the machine has.
func TestPromisesTakeNoMemory(t *testing.T) {
	huge := *format
	huge.MaxChunk = 1 << 30
	b := snapfiletest.Join(format, 1, []snapfiletest.Chunk{{Kind: snapfile.Header}})
	binary.BigEndian.PutUint32(b[len(format.Magic)+4+5:], 1<<30)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := huge.Read(bytes.NewReader(b), &box{})
	runtime.ReadMemStats(&after)
	wantError(t, "a promise", err, "truncated")
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("it took %d bytes", took)
	}
}

// TestTotals: each of the figures alone is enough to refuse a file.
func TestTotals(t *testing.T) {
	found := snapfile.Totals{Chunks: 3, Sum: []byte{1, 2}}
	for _, c := range []struct {
		says snapfile.Totals
		say  string
	}{
		{snapfile.Totals{Chunks: 3, Sum: []byte{1, 2}}, ""},
		{snapfile.Totals{Chunks: 4, Sum: []byte{1, 2}}, "there are 3 chunks before it, and should be 4"},
		{snapfile.Totals{Chunks: 3, Sum: []byte{1, 3}}, "SHA-256"},
		{snapfile.Totals{Chunks: 3}, "SHA-256"},
	} {
		err := c.says.Check(found)
		if (err == nil) != (c.say == "") || err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("%+v: %v, which does not say %q", c.says, err, c.say)
		}
	}
}
