// Package snapfile frames the files in which state machines keep their
// snapshots. It knows neither their records nor their rules: what it adds is
// that a file that is cut off, damaged or put together of parts is never taken
// for a snapshot.
//
// A file is
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
// zstd. A section has as many chunks as it needs, or none. The trailer has the
// number of the chunks and a SHA-256 of all bytes before it.
//
// The package is deterministic: the same records make the same bytes. It starts
// no goroutine, and holds at most a few chunks in memory. What is written so is
// kept in the field, and stays readable for ever.
package snapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/wasmatrix/wasmatrix"
)

// ChunkTarget is the number of bytes of content after which a chunk takes no
// more records. It exceeds that by less than a record.
const ChunkTarget = 256 << 10

const (
	versionLen = 4
	headLen    = 1 + 4 + 4 + 4
	summedLen  = 1 + 4 + 4 // of a head: what its checksum covers
)

// Format is what the files of one state machine have in common. It must not
// change while it is used; any number of goroutines may use it.
type Format struct {
	Name     string   // of such a file, as errors call it: "snapshot"
	Magic    string   // the first bytes of a file, 8 of them
	Newest   uint32   // format version that this build reads; it reads all from 1 on
	Sections []string // names of the sections, in the order of their kinds
	MaxChunk int      // bytes of a chunk, of its content and as stored: room for ChunkTarget and the largest record, below 4 GiB
}

// Kind is what a chunk holds. The kinds of a file ascend: the header, the
// sections of the format from [FirstSection] on, and the trailer after the last
// of them.
type Kind uint8

// The kinds that do not depend on the format.
const (
	Header       Kind = 1
	FirstSection Kind = 2
)

// Trailer is the kind of the last chunk.
func (f *Format) Trailer() Kind { return FirstSection + Kind(len(f.Sections)) }

// KindName is a kind as errors call it, also one that the format has not.
func (f *Format) KindName(k Kind) string {
	switch {
	case k == Header:
		return "header"
	case k == f.Trailer():
		return "trailer"
	case k >= FirstSection && k < f.Trailer():
		return f.Sections[k-FirstSection]
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// Totals are what a trailer says of the file before it.
type Totals struct {
	Chunks uint64
	Sum    []byte // SHA-256 of all bytes
}

// Check compares what a trailer says with what was found.
func (t Totals) Check(found Totals) error {
	switch {
	case t.Chunks != found.Chunks:
		return fmt.Errorf("there are %d chunks before it, and should be %d", found.Chunks, t.Chunks)
	case !bytes.Equal(t.Sum, found.Sum):
		return errors.New("the SHA-256 of what is before it does not match")
	}
	return nil
}

// checkOrder says what is wrong with a chunk of kind next after one of kind
// last, which is 0 at the beginning.
func (f *Format) checkOrder(last, next Kind) error {
	switch {
	case last == 0 && next != Header:
		return fmt.Errorf("it begins with a chunk of %s", f.KindName(next))
	case last != 0 && (next < FirstSection || next < last || next > f.Trailer() || last == f.Trailer()):
		return fmt.Errorf("a chunk of %s follows one of %s", f.KindName(next), f.KindName(last))
	}
	return nil
}

func (f *Format) preamble(version uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(f.Magic), version)
}

func (f *Format) corrupt(format string, args ...any) error {
	return wasmatrix.Errorf(wasmatrix.CodeStorage, f.Name+" is corrupted: "+format, args...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of a chunk with this head, the checksum in it left out.
func checksum(head, stored []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:summedLen], castagnoli), castagnoli, stored)
}
