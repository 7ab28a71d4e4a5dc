// Package snapfiletest takes snapshot files apart and puts them together, so
// that tests can make files that no writer makes. It follows the layout in the
// documentation of snapfile and shares no code with it.
package snapfiletest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/wasmatrix/wasmatrix/snapfile"
)

const headLen = 1 + 4 + 4 + 4

// Chunk is a chunk without its checksum.
type Chunk struct {
	Kind    snapfile.Kind
	RawLen  int    // bytes of its content
	Payload []byte // as stored: of a section's chunk, compressed
}

// Message is a chunk of one message: a header or a trailer.
func Message(kind snapfile.Kind, b []byte) Chunk {
	return Chunk{Kind: kind, RawLen: len(b), Payload: b}
}

// Split returns the format version and the chunks of a file, which share its
// memory. A file that is not made of sound chunks ends the test.
func Split(tb testing.TB, f *snapfile.Format, b []byte) (version uint32, chunks []Chunk) {
	tb.Helper()
	rest, ok := bytes.CutPrefix(b, []byte(f.Magic))
	if !ok || len(rest) < 4 {
		tb.Fatalf("this is no %s: %q", f.Name, b[:min(len(b), 12)])
	}
	version, rest = binary.BigEndian.Uint32(rest), rest[4:]
	for len(rest) > 0 {
		if len(rest) < headLen || len(rest)-headLen < int(binary.BigEndian.Uint32(rest[5:])) {
			tb.Fatalf("chunk %d of a %s is cut off", len(chunks)+1, f.Name)
		}
		end := headLen + int(binary.BigEndian.Uint32(rest[5:]))
		c := Chunk{Kind: snapfile.Kind(rest[0]), RawLen: int(binary.BigEndian.Uint32(rest[1:])), Payload: rest[headLen:end:end]}
		if !bytes.Equal(c.head(), rest[:headLen]) {
			tb.Fatalf("chunk %d of a %s has a wrong checksum", len(chunks)+1, f.Name)
		}
		chunks, rest = append(chunks, c), rest[end:]
	}
	return version, chunks
}

// Join makes a file of chunks, each with its right checksum. It changes nothing
// that they say, as the sum in a trailer.
func Join(f *snapfile.Format, version uint32, chunks []Chunk) []byte {
	b := binary.BigEndian.AppendUint32([]byte(f.Magic), version)
	for _, c := range chunks {
		b = append(append(b, c.head()...), c.Payload...)
	}
	return b
}

func (c Chunk) head() []byte {
	b := binary.BigEndian.AppendUint32([]byte{byte(c.Kind)}, uint32(c.RawLen))
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Payload)))
	sum := crc32.Checksum(append(bytes.Clone(b), c.Payload...), crc32.MakeTable(crc32.Castagnoli))
	return binary.BigEndian.AppendUint32(b, sum)
}
