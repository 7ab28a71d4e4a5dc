package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
)

// A snapshot file is
//
//	magic, 8 bytes; format version, 4 bytes
//	chunks: header, then the sections in the order of the kinds, then trailer
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
// message, stored as it is. That of a section's chunk is messages of the
// section's type, each preceded by its length as a varint, compressed with
// zstd. A section has as many chunks as it needs, or none. The trailer has a
// SHA-256 of all bytes before it, and the state's hash.
const (
	snapshotMagic   = "WMXSNAP\n"
	snapshotVersion = 3 // the newest; each is written with the lowest that covers it, which is [State.schema]

	chunkTarget  = 256 << 10 // bytes of content after which a chunk is full
	maxChunk     = 64 << 20  // bytes, of content and as stored
	chunkHeadLen = 1 + 4 + 4 + 4
)

// chunkKind is what a chunk holds. A snapshot has them in ascending order.
type chunkKind uint8

const (
	chunkHeader chunkKind = iota + 1
	chunkModules
	chunkNodes
	chunkProviders
	chunkInstances
	chunkAssignments
	chunkCrashes
	chunkRequests
	chunkFacts
	chunkTrailer
)

var chunkNames = [...]string{
	"unknown", "header", "modules", "nodes", "providers", "instances", "assignments", "crashes", "requests", "facts", "trailer",
}

func (k chunkKind) String() string {
	if int(k) < len(chunkNames) {
		return chunkNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Header is what a snapshot says of itself.
type Header struct {
	FormatVersion  uint32
	ProductVersion string // of the release that wrote it
	Index          uint64 // log index of the last command in it
	Cluster        wasmatrix.ClusterID
	Now            wasmatrix.Time // leader time of the last command in it
	Counts         Counts
}

// Counts are the numbers of records in a snapshot.
type Counts struct {
	Instances, Nodes, Modules, Providers, Assignments, Crashes, Requests, Facts uint64
}

// SnapshotInfo is what [InspectSnapshot] finds.
type SnapshotInfo struct {
	Header
	Hash  [32]byte // of the state, computed from the records
	Bytes int64    // length of the snapshot
}

// InspectSnapshot reads a whole snapshot and checks it as [FSM.Restore] would.
func InspectSnapshot(r io.Reader) (SnapshotInfo, error) {
	counted := &countingReader{r: r}
	var specs specInterner
	s, h, err := readSnapshot(counted, &specs)
	if err != nil {
		return SnapshotInfo{}, err
	}
	return SnapshotInfo{Header: h, Hash: s.Hash(), Bytes: counted.n}, nil
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

func (s *State) counts() Counts {
	return Counts{
		Instances: uint64(s.instances.Len()), Nodes: uint64(s.nodes.Len()), Modules: uint64(s.modules.Len()),
		Providers: uint64(s.providers.Len()), Assignments: uint64(s.assignmentCount), Crashes: uint64(s.crashCount),
		Requests: uint64(s.window.byAge.len()), Facts: uint64(s.facts.len()),
	}
}

func encodeCounts(c Counts) *log.SnapshotCounts {
	return &log.SnapshotCounts{
		Instances: c.Instances, Nodes: c.Nodes, Modules: c.Modules, Providers: c.Providers,
		Assignments: c.Assignments, Crashes: c.Crashes, Requests: c.Requests, Facts: c.Facts,
	}
}

func decodeCounts(c *log.SnapshotCounts) Counts {
	return Counts{
		Instances: c.GetInstances(), Nodes: c.GetNodes(), Modules: c.GetModules(), Providers: c.GetProviders(),
		Assignments: c.GetAssignments(), Crashes: c.GetCrashes(), Requests: c.GetRequests(), Facts: c.GetFacts(),
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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
	ch := chunk{
		kind:   chunkKind(c.head[0]),
		rawLen: int(binary.BigEndian.Uint32(c.head[1:])),
		head:   c.head[:],
	}
	stored := int64(binary.BigEndian.Uint32(c.head[5:]))
	if ch.rawLen > maxChunk || stored > maxChunk {
		return chunk{}, corrupt("chunk %d has impossible lengths", c.n)
	}
	c.buf.Reset()
	if _, err := io.CopyN(&c.buf, c.r, stored); err != nil {
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
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "snapshot is truncated: it ends %s", where)
	}
	return wasmatrix.Errorf(wasmatrix.CodeStorage, "cannot read snapshot %s: %w", where, err)
}

func corrupt(format string, args ...any) error {
	return wasmatrix.Errorf(wasmatrix.CodeStorage, "snapshot is corrupted: "+format, args...)
}
