package snapfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wasmatrix/wasmatrix"
)

// Content takes what a file holds, in its order, until it returns an error. The
// messages are as they were encoded, and good until the method returns.
//
// Before Trailer has returned nothing is known but that each chunk for itself is
// undamaged: what is made of the records must not be used before Read has
// returned.
type Content interface {
	// Header takes the header of a file of a format version, before all else.
	Header(version uint32, b []byte) error
	// Record takes a record of a section.
	Record(kind Kind, b []byte) error
	// Trailer takes the trailer. It has to compare what that says of the file
	// with what was found: see [Totals.Check].
	Trailer(b []byte, found Totals) error
}

// Read reads a whole file and returns its length in bytes. It takes r to its
// end, after which there must be nothing.
//
// A file that is cut off, damaged, of another kind or of a newer release, and
// one that cannot be read, is an error with the code STORAGE_ERROR that says
// so. A *wasmatrix.Error of the content is returned as it is; any other error of
// it means that the file is corrupted.
func (f *Format) Read(r io.Reader, c Content) (size int64, err error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(f.MaxChunk)), zstd.WithDecoderLowmem(true))
	if err != nil {
		return 0, wasmatrix.Errorf(wasmatrix.CodeInternal, "cannot decompress a %s: %w", f.Name, err)
	}
	defer dec.Close()
	fr := &reader{f: f, r: r, dec: dec, sum: sha256.New()}
	version, err := fr.preamble()
	if err != nil {
		return 0, err
	}
	for kind := Kind(0); kind != f.Trailer(); {
		ch, err := fr.next()
		if err != nil {
			return 0, err
		}
		if err := f.checkOrder(kind, ch.kind); err != nil {
			return 0, f.corrupt("%w", err)
		}
		kind = ch.kind
		if err := fr.deliver(c, version, ch); err != nil {
			if _, coded := errors.AsType[*wasmatrix.Error](err); coded {
				return 0, err
			}
			return 0, f.corrupt("chunk %d (%s): %w", fr.chunks, f.KindName(kind), err)
		}
		fr.took(fr.head[:], ch.stored)
	}
	if err := fr.end(); err != nil {
		return 0, err
	}
	return fr.size, nil
}

type reader struct {
	f      *Format
	r      io.Reader
	dec    *zstd.Decoder
	sum    hash.Hash // of the bytes before the chunk that is being read
	size   int64     // number of these bytes
	chunks uint64    // with the one that is being read
	head   [headLen]byte
	buf    bytes.Buffer
	raw    []byte
}

// took counts what was read as before what is read next.
func (r *reader) took(parts ...[]byte) {
	for _, b := range parts {
		r.sum.Write(b)
		r.size += int64(len(b))
	}
}

func (r *reader) preamble() (version uint32, err error) {
	b := make([]byte, len(r.f.Magic)+versionLen)
	if _, err := io.ReadFull(r.r, b); err != nil {
		return 0, r.readError(err, "before its header")
	}
	if string(b[:len(r.f.Magic)]) != r.f.Magic {
		return 0, wasmatrix.Errorf(wasmatrix.CodeStorage, "this is not a wasmatrix %s: it does not begin with %q", r.f.Name, r.f.Magic)
	}
	version = binary.BigEndian.Uint32(b[len(r.f.Magic):])
	switch {
	case version == 0:
		return 0, r.f.corrupt("format version 0")
	case version > r.f.Newest:
		return 0, wasmatrix.Errorf(wasmatrix.CodeStorage, "%s has format version %d and was written by a newer release; this build, %s, reads versions up to %d", r.f.Name, version, wasmatrix.Version, r.f.Newest)
	}
	r.took(b)
	return version, nil
}

// chunk is one chunk as read. What is stored is good until the next is read.
type chunk struct {
	kind   Kind
	rawLen int
	stored []byte
}

// next reads a chunk and checks it for itself.
func (r *reader) next() (chunk, error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return chunk{}, r.readError(err, "after chunk %d", r.chunks)
	}
	r.chunks++
	kind := Kind(r.head[0])
	raw, stored := int64(binary.BigEndian.Uint32(r.head[1:])), int64(binary.BigEndian.Uint32(r.head[5:]))
	if raw > int64(r.f.MaxChunk) || stored > int64(r.f.MaxChunk) {
		return chunk{}, r.f.corrupt("chunk %d has impossible lengths", r.chunks)
	}
	// The buffer grows with what comes, not with what is promised.
	r.buf.Reset()
	if _, err := io.CopyN(&r.buf, r.r, stored); err != nil {
		return chunk{}, r.readError(err, "in chunk %d (%s)", r.chunks, r.f.KindName(kind))
	}
	if checksum(r.head[:], r.buf.Bytes()) != binary.BigEndian.Uint32(r.head[summedLen:]) {
		return chunk{}, r.f.corrupt("checksum of chunk %d (%s) does not match", r.chunks, r.f.KindName(kind))
	}
	return chunk{kind: kind, rawLen: int(raw), stored: r.buf.Bytes()}, nil
}

// deliver unpacks a chunk and gives it to the content.
func (r *reader) deliver(c Content, version uint32, ch chunk) (err error) {
	content := ch.stored
	if ch.kind != Header && ch.kind != r.f.Trailer() {
		if r.raw, err = r.dec.DecodeAll(ch.stored, r.raw[:0]); err != nil {
			return fmt.Errorf("it does not decompress: %w", err)
		}
		content = r.raw
	}
	if len(content) != ch.rawLen {
		return fmt.Errorf("it has %d bytes, and should have %d", len(content), ch.rawLen)
	}
	switch ch.kind {
	case Header:
		return c.Header(version, content)
	case r.f.Trailer():
		return c.Trailer(content, Totals{Chunks: r.chunks - 1, Sum: r.sum.Sum(nil)})
	default:
		for len(content) > 0 {
			record, n := protowire.ConsumeBytes(content)
			if n < 0 {
				return errors.New("a record is cut off")
			}
			content = content[n:]
			if err := c.Record(ch.kind, record); err != nil {
				return err
			}
		}
		return nil
	}
}

// end checks that there is nothing more.
func (r *reader) end() error {
	if n, err := io.ReadFull(r.r, make([]byte, 1)); n != 0 {
		return r.f.corrupt("there is data after its end")
	} else if !errors.Is(err, io.EOF) {
		return r.readError(err, "after its end")
	}
	return nil
}

// readError tells a file that ends early from one that cannot be read.
func (r *reader) readError(err error, where string, args ...any) error {
	where = fmt.Sprintf(where, args...)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "%s is truncated: it ends %s", r.f.Name, where)
	}
	return wasmatrix.Errorf(wasmatrix.CodeStorage, "cannot read %s %s: %w", r.f.Name, where, err)
}
