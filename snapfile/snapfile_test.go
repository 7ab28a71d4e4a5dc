package snapfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/snapfile"
	"github.com/wasmatrix/wasmatrix/snapfile/snapfiletest"
)

var format = &snapfile.Format{
	Name: "box", Magic: "WMXBOXX\n", Newest: 7, Sections: []string{"apples", "pears", "nuts"}, MaxChunk: 1 << 20,
}

const (
	apples = snapfile.FirstSection + iota
	pears
	nuts
)

type record struct {
	kind snapfile.Kind
	text string
}

// box is a file's content: messages of text, and a trailer of the chunks and
// the sum.
type box struct {
	version uint32
	header  string
	records []record

	fail map[snapfile.Kind]error // what to answer to a message of a kind
}

func (x *box) Header(version uint32, b []byte) error {
	var m wrapperspb.StringValue
	if err := proto.Unmarshal(b, &m); err != nil {
		return err
	}
	x.version, x.header = version, m.GetValue()
	return x.fail[snapfile.Header]
}

func (x *box) Record(kind snapfile.Kind, b []byte) error {
	var m wrapperspb.StringValue
	if err := proto.Unmarshal(b, &m); err != nil {
		return err
	}
	x.records = append(x.records, record{kind, m.GetValue()})
	return x.fail[kind]
}

func (x *box) Trailer(b []byte, found snapfile.Totals) error {
	var m wrapperspb.BytesValue
	if err := proto.Unmarshal(b, &m); err != nil {
		return err
	}
	if len(m.GetValue()) < 8 {
		return errors.New("too short")
	}
	says := snapfile.Totals{Chunks: binary.BigEndian.Uint64(m.GetValue()), Sum: m.GetValue()[8:]}
	if err := says.Check(found); err != nil {
		return err
	}
	return x.fail[format.Trailer()]
}

func trailer(t snapfile.Totals) proto.Message {
	return wrapperspb.Bytes(append(binary.BigEndian.AppendUint64(nil, t.Chunks), t.Sum...))
}

func (x *box) write(w io.Writer) error {
	fw, err := format.NewWriter(w, x.version)
	if err != nil {
		return err
	}
	fw.Header(wrapperspb.String(x.header))
	var m wrapperspb.StringValue
	for _, r := range x.records {
		m.Value = r.text
		if ok := fw.Record(r.kind, &m); ok != fw.OK() {
			return errors.New("Record and OK do not agree")
		}
	}
	return fw.Finish(trailer)
}

func written(tb testing.TB, x *box) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := x.write(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// small has some of everything but of one section, and an empty record.
func small() *box {
	return &box{version: 3, header: "head", records: []record{{apples, "a"}, {apples, ""}, {nuts, "some text"}}}
}

// large has sections of several chunks.
func large() *box {
	x := &box{version: 7, header: "head"}
	chance := rand.New(rand.NewPCG(1, 2))
	for n := range 3000 {
		text := make([]byte, 400)
		for i := range text {
			text[i] = 'a' + byte(chance.UintN(26))
		}
		x.records = append(x.records, record{apples + snapfile.Kind(n/1500), string(text)})
	}
	x.records = append(x.records, record{nuts, strings.Repeat("x", format.MaxChunk-10)})
	return x
}

func wantError(t *testing.T, what string, err error, say ...string) {
	t.Helper()
	if wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
		t.Fatalf("%s: %v", what, err)
	}
	for _, s := range say {
		if !strings.Contains(err.Error(), s) {
			t.Fatalf("%s: %v, which does not say %q", what, err, s)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for name, want := range map[string]*box{"empty": {version: 1}, "small": small(), "large": large()} {
		t.Run(name, func(t *testing.T) {
			b := written(t, want)
			if !bytes.Equal(b, written(t, want)) {
				t.Error("written again it is another file")
			}
			for way, r := range map[string]io.Reader{
				"whole": bytes.NewReader(b), "in bytes": iotest.OneByteReader(bytes.NewReader(b)), "with its end": iotest.DataErrReader(bytes.NewReader(b)),
			} {
				var got box
				size, err := format.Read(r, &got)
				if err != nil || size != int64(len(b)) {
					t.Fatalf("read %s: %d of %d bytes, %v", way, size, len(b), err)
				}
				if !reflect.DeepEqual(&got, want) {
					t.Errorf("read %s it is another", way)
				}
			}
			version, chunks := snapfiletest.Split(t, format, b)
			if !bytes.Equal(snapfiletest.Join(format, version, chunks), b) {
				t.Error("taken apart and put together it is another file")
			}
			sections := map[snapfile.Kind]int{}
			for _, c := range chunks {
				sections[c.Kind]++
			}
			if name == "large" && (sections[apples] < 2 || sections[pears] < 2 || sections[nuts] != 1) {
				t.Errorf("chunks: %v", sections)
			}
		})
	}
}
