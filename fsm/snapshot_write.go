package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
)

// maxSharedSpecs bounds the memory in which a writer knows the specs that it
// has written. Where there are more, some are written again.
const maxSharedSpecs = 1 << 14

// WriteSnapshot writes the state in the snapshot format. It takes a bounded
// amount of memory besides the state.
func (s *State) WriteSnapshot(w io.Writer) error {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(chunkTarget),
	)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "cannot compress a snapshot: %w", err)
	}
	sw := &snapshotWriter{w: w, sum: sha256.New(), enc: enc, schema: s.schema(), specs: make(map[*wasmatrix.Spec]uint32)}
	sw.preamble()
	sw.header(s)
	s.writeRecords(sw)
	sw.trailer(s)
	if sw.err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "cannot write snapshot: %w", sw.err)
	}
	return nil
}

func (s *State) writeRecords(sw *snapshotWriter) {
	s.modules.Scan(func(_ string, e *moduleEntry) bool {
		return sw.record(chunkModules, &log.ModuleRecord{Module: encodeModule(e.module), Names: e.names})
	})
	for n := range s.Nodes() {
		if !sw.record(chunkNodes, encodeNode(n)) {
			return
		}
	}
	for p := range s.Providers() {
		if !sw.record(chunkProviders, encodeProvider(p)) {
			return
		}
	}
	for i := range s.Instances("") {
		if !sw.record(chunkInstances, sw.instance(i)) {
			return
		}
	}
	s.assignments.Scan(func(_ wasmatrix.InstanceID, all []*wasmatrix.Assignment) bool {
		for _, a := range all {
			sw.record(chunkAssignments, encodeAssignment(a))
		}
		return sw.err == nil
	})
	s.crashes.Scan(func(id wasmatrix.InstanceID, all []*wasmatrix.Crash) bool {
		for _, c := range all {
			sw.record(chunkCrashes, &log.CrashRecord{Instance: string(id), Crash: encodeCrash(c)})
		}
		return sw.err == nil
	})
	for _, r := range s.window.byAge.from(0) {
		if !sw.record(chunkRequests, encodeRemembered(*r)) {
			return
		}
	}
	for _, f := range s.facts.from(0) {
		if !sw.record(chunkFacts, encodeFact(f)) {
			return
		}
	}
}

// snapshotWriter writes chunks until the first error, which it keeps.
type snapshotWriter struct {
	w      io.Writer
	schema uint32    // of what is written: format version, and rules of the hash
	sum    hash.Hash // of all bytes written
	enc    *zstd.Encoder
	kind   chunkKind // of the records in raw
	raw    []byte    // content of the chunk being filled
	stored []byte
	head   []byte
	chunks uint64
	specs  map[*wasmatrix.Spec]uint32 // numbers of specs written
	next   uint32                     // number of the next spec
	err    error
}

func (sw *snapshotWriter) write(b []byte) {
	if sw.err != nil {
		return
	}
	sw.sum.Write(b)
	_, sw.err = sw.w.Write(b)
}

func (sw *snapshotWriter) preamble() {
	sw.write(binary.BigEndian.AppendUint32([]byte(snapshotMagic), sw.schema))
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

// record appends to the section of a kind and reports whether all is well.
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
	if len(sw.raw) == 0 {
		return
	}
	sw.stored = sw.enc.EncodeAll(sw.raw, sw.stored[:0])
	sw.chunk(sw.kind, len(sw.raw), sw.stored)
	sw.raw = sw.raw[:0]
}

func (sw *snapshotWriter) header(s *State) {
	sw.message(chunkHeader, &log.SnapshotHeader{
		ProductVersion: wasmatrix.Version, Index: s.index, Cluster: string(s.cluster), Now: int64(s.now),
		Counts: encodeCounts(s.counts()), NextFact: s.facts.next,
	})
}

func (sw *snapshotWriter) trailer(s *State) {
	sw.flush()
	if sw.err != nil {
		return
	}
	state := s.Hash()
	sw.message(chunkTrailer, &log.SnapshotTrailer{
		Chunks: sw.chunks, Sum: sw.sum.Sum(nil), StateHash: state[:], HashVersion: sw.schema,
	})
}

func (sw *snapshotWriter) instance(i *wasmatrix.Instance) *log.InstanceRecord {
	r := &log.InstanceRecord{
		Id: string(i.ID), Status: log.Status(i.Status), Node: string(i.Node),
		Epoch: i.Epoch, Attempt: i.Attempt, Seq: i.Seq, StopRequested: i.StopRequested,
		Reason: i.Reason, LastError: string(i.LastError), ExitCode: i.ExitCode,
		Restarts: i.Restarts, Crashes: i.Crashes,
		CreatedAt: int64(i.CreatedAt), StartedAt: int64(i.StartedAt), ChangedAt: int64(i.ChangedAt),
		CreateIndex: i.CreateIndex, ModifyIndex: i.ModifyIndex, GrantsIndex: i.GrantsIndex,
	}
	if n, ok := sw.specs[i.Spec]; ok {
		r.SpecOrNumber = &log.InstanceRecord_SpecNumber{SpecNumber: n}
		return r
	}
	if len(sw.specs) >= maxSharedSpecs {
		clear(sw.specs)
	}
	sw.specs[i.Spec] = sw.next
	sw.next++
	r.SpecOrNumber = &log.InstanceRecord_Spec{Spec: encodeSpec(i.Spec)}
	return r
}

func encodeNode(n *wasmatrix.Node) *log.NodeRecord {
	return &log.NodeRecord{
		Id: string(n.ID), Boot: string(n.Boot), Addr: n.Addr, Version: n.Version, Labels: encodePairs(n.Labels),
		Capacity: encodeCapacity(n.Capacity), Status: log.NodeStatus(n.Status), Draining: n.Draining, Reason: n.Reason,
		RegisteredAt: int64(n.RegisteredAt), ChangedAt: int64(n.ChangedAt),
		CreateIndex: n.CreateIndex, ModifyIndex: n.ModifyIndex,
	}
}

func encodeRemembered(r *request) *log.RequestRecord {
	return &log.RequestRecord{
		Request: encodeRequest(wasmatrix.Request{ID: r.id, Body: r.body}), At: int64(r.at), Instances: encodeStrings(r.instances),
	}
}

func encodeFact(f *wasmatrix.Fact) *log.FactRecord {
	return &log.FactRecord{
		At: int64(f.At), Kind: string(f.Kind), Instance: string(f.Instance), Node: string(f.Node),
		Epoch: f.Epoch, Attempt: f.Attempt, Reason: f.Reason,
	}
}
