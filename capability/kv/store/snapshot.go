package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/wasmatrix/wasmatrix"
)

// A snapshot is
//
//	magic, 8 bytes; schema version, 4 bytes
//	chunks: header, then entries, fences and writes, then trailer
//
// and a chunk is
//
//	kind, 1 byte
//	length of the content, 4 bytes
//	length as stored, 4 bytes
//	CRC-32C of the 9 bytes before and of what is stored, 4 bytes
//	what is stored
//
// with all integers big-endian. The content of header and trailer is one
// message, stored as it is. That of the others is messages, each preceded by its
// length as a varint, compressed with zstd; of a kind there are as many chunks as
// it needs, or none. The trailer has a SHA-256 of all bytes before it, and the
// state's hash.
const (
	snapshotMagic = "WMXKVSN\n"

	chunkTarget  = 256 << 10 // bytes of content after which a chunk is full
	maxChunk     = chunkTarget + maxValue + 2*maxText + 1024
	chunkHeadLen = 1 + 4 + 4 + 4
)

// chunkKind is what a chunk holds. A snapshot has them in ascending order.
type chunkKind uint8

const (
	chunkHeader chunkKind = iota + 1
	chunkEntries
	chunkFences
	chunkWrites
	chunkTrailer
)

var chunkNames = [...]string{"unknown", "header", "entries", "fences", "writes", "trailer"}

func (k chunkKind) String() string {
	if int(k) < len(chunkNames) {
		return chunkNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Info is what [Inspect] finds.
type Info struct {
	SchemaVersion  uint32
	ProductVersion string // of the release that wrote it
	Stats
	Hash  [32]byte // of the state, computed from the records
	Bytes int64    // length of the snapshot
}

// Verify reads a whole snapshot and checks it as [Store.Restore] would.
func Verify(r io.Reader) error {
	_, _, err := read(r)
	return err
}

// Inspect reads a whole snapshot, checks it as [Store.Restore] would, and says
// what it holds.
func Inspect(r io.Reader) (Info, error) {
	counted := &countingReader{r: r}
	s, info, err := read(counted)
	if err != nil {
		return Info{}, err
	}
	info.Stats, info.Bytes = s.stats(), counted.n
	return info, nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// appendChunkHead writes the head of a chunk whose content has rawLen bytes and
// is stored as payload.
func appendChunkHead(b []byte, kind chunkKind, rawLen int, payload []byte) []byte {
	start := len(b)
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint32(b, uint32(rawLen))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(b[start:], castagnoli), castagnoli, payload)
	return binary.BigEndian.AppendUint32(b, sum)
}

// chunk is one chunk as read. Its slices are good until the next is read.
type chunk struct {
	kind    chunkKind
	rawLen  int
	head    []byte
	payload []byte // as stored
}

// chunkReader reads chunks and checks their sums.
type chunkReader struct {
	r    io.Reader
	n    int // chunks read
	head [chunkHeadLen]byte
	buf  bytes.Buffer
}

func (c *chunkReader) next() (chunk, error) {
	if _, err := io.ReadFull(c.r, c.head[:]); err != nil {
		return chunk{}, readError(err, "after chunk %d", c.n)
	}
	c.n++
	ch := chunk{kind: chunkKind(c.head[0]), head: c.head[:]}
	raw, stored := binary.BigEndian.Uint32(c.head[1:]), binary.BigEndian.Uint32(c.head[5:])
	if raw > maxChunk || stored > maxChunk {
		return chunk{}, corrupt("chunk %d has impossible lengths", c.n)
	}
	ch.rawLen = int(raw)
	// The buffer grows with what comes, not with what is promised.
	c.buf.Reset()
	if _, err := io.CopyN(&c.buf, c.r, int64(stored)); err != nil {
		return chunk{}, readError(err, "in chunk %d (%s)", c.n, ch.kind)
	}
	ch.payload = c.buf.Bytes()
	sum := crc32.Update(crc32.Checksum(c.head[:9], castagnoli), castagnoli, ch.payload)
	if sum != binary.BigEndian.Uint32(c.head[9:]) {
		return chunk{}, corrupt("checksum of chunk %d (%s) does not match", c.n, ch.kind)
	}
	return ch, nil
}

// readError tells a file that ends early from one that cannot be read.
func readError(err error, where string, args ...any) error {
	where = fmt.Sprintf(where, args...)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "kv snapshot is truncated: it ends %s", where)
	}
	return wasmatrix.Errorf(wasmatrix.CodeStorage, "cannot read kv snapshot %s: %w", where, err)
}

func corrupt(format string, args ...any) error {
	return wasmatrix.Errorf(wasmatrix.CodeStorage, "kv snapshot is corrupted: "+format, args...)
}
