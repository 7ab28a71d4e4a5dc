package store

import (
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	kvpb "github.com/wasmatrix/wasmatrix/gen/kv"
	"github.com/wasmatrix/wasmatrix/snapfile"
)

// write writes the state as a snapshot. It takes a bounded amount of memory
// besides the state.
func (s *state) write(to io.Writer) error {
	w, err := snapshotFormat.NewWriter(to, SchemaVersion)
	if err != nil {
		return err
	}
	w.Header(&kvpb.SnapshotHeader{
		ProductVersion: wasmatrix.Version, Index: s.index, Now: int64(s.now), Revision: s.revision,
		Entries: s.entries, Fences: uint64(s.fences.Len()), Writes: uint64(len(s.writes.byAge)),
	})
	s.writeRecords(w)
	return w.Finish(func(t snapfile.Totals) proto.Message {
		sum := s.hash()
		return &kvpb.SnapshotTrailer{Chunks: t.Chunks, Sum: t.Sum, StateHash: sum[:], HashVersion: hashVersion}
	})
}

func (s *state) writeRecords(w *snapfile.Writer) {
	s.namespaces.Scan(func(n slot) bool {
		m := kvpb.EntryRecord{Namespace: n.id.proto()}
		n.ns.keys.Scan(func(key string, e *entry) bool {
			m.Key, m.Value, m.Revision, m.Expires = key, e.value, e.revision, int64(e.expires)
			ok := w.Record(chunkEntries, &m)
			m.Namespace = nil
			return ok
		})
		return w.OK()
	})
	s.fences.Scan(func(f Fence) bool {
		return w.Record(chunkFences, &kvpb.FenceRecord{Fence: fencesProto([]Fence{f})[0]})
	})
	var m kvpb.WriteRecord
	for i := range s.writes.byAge {
		past := &s.writes.byAge[i]
		m.Id, m.Body, m.At = past.id[:], past.body, int64(past.at)
		m.Result, m.Revision, m.Bound = kvpb.WriteResult(past.result), past.revision, past.bound
		if !w.Record(chunkWrites, &m) {
			return
		}
	}
}
