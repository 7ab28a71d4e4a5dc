package stream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestHandshakeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(1, -1, maxString)
		h := hello{
			kind:    name.Draw(t, "kind"),
			cluster: wasmatrix.ClusterID(rapid.StringN(0, -1, maxString).Draw(t, "cluster")),
			source:  wasmatrix.ServerID(name.Draw(t, "source")),
			target:  wasmatrix.ServerID(name.Draw(t, "target")),
		}
		b, err := encodeHello(h)
		if err != nil {
			t.Fatal(err)
		}
		rest := rapid.SliceOf(rapid.Byte()).Draw(t, "rest")
		r := bytes.NewReader(append(b, rest...))
		got, err := readHello(r)
		if err != nil || got != h {
			t.Fatalf("got %+v, %v; want %+v", got, err, h)
		}
		if r.Len() != len(rest) {
			t.Fatalf("%d of %d bytes behind the handshake are left", r.Len(), len(rest))
		}
		a := reply{code: wasmatrix.Code(rapid.StringN(0, -1, maxString).Draw(t, "code")), message: rapid.StringN(0, -1, maxMessage).Draw(t, "message")}
		answer, err := readReply(bytes.NewReader(encodeReply(a)))
		if err != nil || answer != a {
			t.Fatalf("got %+v, %v; want %+v", answer, err, a)
		}
	})
}

// Servers of two releases speak it with each other: these bytes must stay.
func TestHandshakeIsLegibleForEver(t *testing.T) {
	const wire = "wmtx\x01\x00\x22" + "\x09raft/main" + "\x01c" + "\x0aa.00000000" + "\x0ab.11111111"
	want := hello{kind: "raft/main", cluster: "c", source: "a.00000000", target: "b.11111111"}
	b, err := encodeHello(want)
	if err != nil || string(b) != wire {
		t.Fatalf("sent %q, %v; want %q", b, err, wire)
	}
	got, err := readHello(strings.NewReader(wire))
	if err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
	const refusal = "wmtx\x01\x00\x0d" + "\x08CONFLICT" + "\x00\x02no"
	if b := encodeReply(reply{code: wasmatrix.CodeConflict, message: "no"}); string(b) != refusal {
		t.Fatalf("answered %q", b)
	}
}

func TestLongNamesAreNotSent(t *testing.T) {
	if _, err := encodeHello(hello{kind: strings.Repeat("x", maxString+1), source: "a", target: "b"}); !errors.Is(err, errMalformed) {
		t.Fatalf("got %v", err)
	}
	r, err := readReply(bytes.NewReader(encodeReply(reply{code: "X", message: strings.Repeat("x", 5000)})))
	if err != nil || len(r.message) != maxMessage {
		t.Fatalf("%d bytes, %v", len(r.message), err)
	}
}

func FuzzReadHello(f *testing.F) {
	seed, err := encodeHello(hello{kind: "raft/main", cluster: "c", source: "a", target: "b"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		if h.kind == "" || h.source == "" || h.target == "" {
			t.Fatalf("accepted %+v", h)
		}
		again, err := encodeHello(h)
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Fatalf("%q became %q, %v", b, again, err)
		}
	})
}

func FuzzReadReply(f *testing.F) {
	f.Add(encodeReply(reply{code: wasmatrix.CodeConflict, message: "no"}))
	f.Add(encodeReply(reply{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readReply(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := readReply(bytes.NewReader(encodeReply(r)))
		if err != nil || again != r {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

func TestHelloRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		bytes string
		want  error
	}{
		"nothing":        {"", io.EOF},
		"cut short":      {"wmt", io.ErrUnexpectedEOF},
		"HTTP":           {"GET / HTTP/1.1\r\n", errNotOurs},
		"too long":       {"wmtx\x01\xff\xff", errMalformed},
		"body missing":   {"wmtx\x01\x00\x08\x01k", io.ErrUnexpectedEOF},
		"empty kind":     {"wmtx\x01\x00\x07\x00\x01c\x01s\x01t", errMalformed},
		"empty source":   {"wmtx\x01\x00\x07\x01k\x01c\x00\x01t", errMalformed},
		"empty target":   {"wmtx\x01\x00\x07\x01k\x01c\x01s\x00", errMalformed},
		"field too long": {"wmtx\x01\x00\x08\x01k\x01c\x01s\x05t", errMalformed},
		"field missing":  {"wmtx\x01\x00\x06\x01k\x01c\x01s", errMalformed},
		"more behind":    {"wmtx\x01\x00\x09\x01k\x01c\x01s\x01tx", errMalformed},
		"other version":  {"wmtx\x02\x00\x00", versionError(2)},
	} {
		if _, err := readHello(strings.NewReader(c.bytes)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
