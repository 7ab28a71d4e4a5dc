package store

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	kvpb "github.com/wasmatrix/wasmatrix/gen/kv"
)

// write writes the state as a snapshot. It takes a bounded amount of memory
// besides the state.
func (s *state) write(w io.Writer) error {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(chunkTarget),
	)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "cannot compress a kv snapshot: %w", err)
	}
	sw := &snapshotWriter{w: w, sum: sha256.New(), enc: enc}
	sw.write(binary.BigEndian.AppendUint32([]byte(snapshotMagic), SchemaVersion))
	sw.message(chunkHeader, &kvpb.SnapshotHeader{
		ProductVersion: wasmatrix.Version, Index: s.index, Now: int64(s.now), Revision: s.revision,
		Entries: s.entries, Fences: uint64(s.fences.Len()), Writes: uint64(len(s.writes.byAge)),
	})
	s.writeRecords(sw)
	sw.flush()
	if sw.err == nil {
		sum := s.hash()
		sw.message(chunkTrailer, &kvpb.SnapshotTrailer{
			Chunks: sw.chunks, Sum: sw.sum.Sum(nil), StateHash: sum[:], HashVersion: hashVersion,
		})
	}
	if sw.err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "cannot write kv snapshot: %w", sw.err)
	}
	return nil
}

func (s *state) writeRecords(sw *snapshotWriter) {
	s.namespaces.Scan(func(n slot) bool {
		m := kvpb.EntryRecord{Namespace: n.id.proto()}
		n.ns.keys.Scan(func(key string, e *entry) bool {
			m.Key, m.Value, m.Revision, m.Expires = key, e.value, e.revision, int64(e.expires)
			ok := sw.record(chunkEntries, &m)
			m.Namespace = nil
			return ok
		})
		return sw.err == nil
	})
	s.fences.Scan(func(f Fence) bool {
		return sw.record(chunkFences, &kvpb.FenceRecord{Fence: fencesProto([]Fence{f})[0]})
	})
	var m kvpb.WriteRecord
	for i := range s.writes.byAge {
		w := &s.writes.byAge[i]
		m.Id, m.Body, m.At = w.id[:], w.body, int64(w.at)
		m.Result, m.Revision, m.Bound = kvpb.WriteResult(w.result), w.revision, w.bound
		if !sw.record(chunkWrites, &m) {
			return
		}
	}
}

// snapshotWriter writes chunks until the first error, which it keeps.
type snapshotWriter struct {
	w      io.Writer
	sum    hash.Hash // of all bytes written
	enc    *zstd.Encoder
	kind   chunkKind // of the records in raw
	raw    []byte    // content of the chunk being filled
	stored []byte
	head   []byte
	chunks uint64
	err    error
}

func (sw *snapshotWriter) write(b []byte) {
	if sw.err != nil {
		return
	}
	sw.sum.Write(b)
	_, sw.err = sw.w.Write(b)
}

func (sw *snapshotWriter) chunk(kind chunkKind, rawLen int, payload []byte) {
	if rawLen > maxChunk || len(payload) > maxChunk {
		sw.err = wasmatrix.Errorf(wasmatrix.CodeInternal, "a chunk of %s has %d bytes", kind, rawLen)
		return
	}
	sw.head = appendChunkHead(sw.head[:0], kind, rawLen, payload)
	sw.write(sw.head)
	sw.write(payload)
	sw.chunks++
}

// message writes a chunk of one message.
func (sw *snapshotWriter) message(kind chunkKind, m proto.Message) {
	b, err := proto.Marshal(m)
	if err != nil {
		sw.err = err
		return
	}
	sw.chunk(kind, len(b), b)
}

// record appends to the chunks of a kind and reports whether all is well.
func (sw *snapshotWriter) record(kind chunkKind, m proto.Message) bool {
	if sw.err != nil {
		return false
	}
	if sw.kind != kind || len(sw.raw) >= chunkTarget {
		sw.flush()
	}
	sw.kind = kind
	opts := proto.MarshalOptions{}
	sw.raw = binary.AppendUvarint(sw.raw, uint64(opts.Size(m)))
	opts.UseCachedSize = true
	sw.raw, sw.err = opts.MarshalAppend(sw.raw, m)
	return sw.err == nil
}

func (sw *snapshotWriter) flush() {
	if len(sw.raw) == 0 || sw.err != nil {
		return
	}
	sw.stored = sw.enc.EncodeAll(sw.raw, sw.stored[:0])
	sw.chunk(sw.kind, len(sw.raw), sw.stored)
	sw.raw = sw.raw[:0]
}
