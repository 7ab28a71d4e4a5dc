package snapfile

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
)

// Writer writes one file: Header once, Record for each record in the order of
// their kinds, Finish once. It keeps the first error, after which it writes
// nothing; Finish returns it. One goroutine at a time may use it.
type Writer struct {
	f      *Format
	w      io.Writer
	sum    hash.Hash // of all bytes written
	enc    *zstd.Encoder
	last   Kind   // of the chunk before
	kind   Kind   // of the records in raw
	raw    []byte // content of the chunk being filled
	stored []byte
	head   [headLen]byte
	chunks uint64
	err    error
}

// NewWriter begins a file of a format version. What it writes to w are whole
// chunks and their heads; it does not close w.
func (f *Format) NewWriter(w io.Writer, version uint32) (*Writer, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(ChunkTarget),
	)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "cannot compress a %s: %w", f.Name, err)
	}
	fw := &Writer{f: f, w: w, sum: sha256.New(), enc: enc}
	fw.write(f.preamble(version))
	return fw, nil
}

// Header writes the header.
func (w *Writer) Header(m proto.Message) { w.message(Header, m) }

// Record appends a record to the section of a kind, and reports whether all is
// well. The message may be changed and used again afterwards.
func (w *Writer) Record(kind Kind, m proto.Message) bool {
	if w.err != nil {
		return false
	}
	if w.kind != kind || len(w.raw) >= ChunkTarget {
		if w.flush(); w.err != nil {
			return false
		}
	}
	w.kind = kind
	opts := proto.MarshalOptions{}
	w.raw = binary.AppendUvarint(w.raw, uint64(opts.Size(m)))
	opts.UseCachedSize = true
	w.raw, w.err = opts.MarshalAppend(w.raw, m)
	return w.err == nil
}

// OK reports whether all is well so far.
func (w *Writer) OK() bool { return w.err == nil }

// Finish writes what is left and the trailer, which is asked for only if all is
// well until there. An error has the code STORAGE_ERROR and wraps its cause.
func (w *Writer) Finish(trailer func(Totals) proto.Message) error {
	w.flush()
	if w.err == nil {
		w.message(w.f.Trailer(), trailer(Totals{Chunks: w.chunks, Sum: w.sum.Sum(nil)}))
	}
	if w.err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "cannot write %s: %w", w.f.Name, w.err)
	}
	return nil
}

func (w *Writer) flush() {
	if len(w.raw) == 0 || w.err != nil {
		return
	}
	w.stored = w.enc.EncodeAll(w.raw, w.stored[:0])
	w.chunk(w.kind, len(w.raw), w.stored)
	w.raw = w.raw[:0]
}

// message writes a chunk of one message.
func (w *Writer) message(kind Kind, m proto.Message) {
	if w.err != nil {
		return
	}
	b, err := proto.Marshal(m)
	if err != nil {
		w.err = err
		return
	}
	w.chunk(kind, len(b), b)
}

// chunk refuses what no reader would take: it is better known when the snapshot
// is written than when it is needed.
func (w *Writer) chunk(kind Kind, rawLen int, stored []byte) {
	if err := w.f.checkOrder(w.last, kind); err != nil {
		w.err = err
		return
	}
	if rawLen > w.f.MaxChunk || len(stored) > w.f.MaxChunk {
		w.err = fmt.Errorf("a chunk of %s has %d bytes", w.f.KindName(kind), rawLen)
		return
	}
	w.head[0] = byte(kind)
	binary.BigEndian.PutUint32(w.head[1:], uint32(rawLen))
	binary.BigEndian.PutUint32(w.head[5:], uint32(len(stored)))
	binary.BigEndian.PutUint32(w.head[summedLen:], checksum(w.head[:], stored))
	w.write(w.head[:])
	w.write(stored)
	w.last = kind
	w.chunks++
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	w.sum.Write(b)
	_, w.err = w.w.Write(b)
}
