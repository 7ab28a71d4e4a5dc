package fsm

import (
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
	"github.com/wasmatrix/wasmatrix/snapfile"
)

// maxSharedSpecs bounds the memory in which a writer knows the specs that it
// has written. Where there are more, some are written again.
const maxSharedSpecs = 1 << 14

// WriteSnapshot writes the state in the snapshot format. It takes a bounded
// amount of memory besides the state.
func (s *State) WriteSnapshot(to io.Writer) error {
	schema := s.schema() // format version, and rules of the hash
	w, err := snapshotFormat.NewWriter(to, schema)
	if err != nil {
		return err
	}
	w.Header(&log.SnapshotHeader{
		ProductVersion: wasmatrix.Version, Index: s.index, Cluster: string(s.cluster), Now: int64(s.now),
		Counts: encodeCounts(s.counts()), NextFact: s.facts.next,
	})
	s.writeRecords(w)
	return w.Finish(func(t snapfile.Totals) proto.Message {
		state := s.Hash()
		return &log.SnapshotTrailer{Chunks: t.Chunks, Sum: t.Sum, StateHash: state[:], HashVersion: schema}
	})
}

func (s *State) writeRecords(w *snapfile.Writer) {
	s.modules.Scan(func(_ string, e *moduleEntry) bool {
		return w.Record(chunkModules, &log.ModuleRecord{Module: encodeModule(e.module), Names: e.names})
	})
	for n := range s.Nodes() {
		if !w.Record(chunkNodes, encodeNode(n)) {
			return
		}
	}
	for p := range s.Providers() {
		if !w.Record(chunkProviders, encodeProvider(p)) {
			return
		}
	}
	instances := &instanceEncoder{specs: make(map[*wasmatrix.Spec]uint32)}
	for i := range s.Instances("") {
		if !w.Record(chunkInstances, instances.encode(i)) {
			return
		}
	}
	s.assignments.Scan(func(_ wasmatrix.InstanceID, all []*wasmatrix.Assignment) bool {
		for _, a := range all {
			w.Record(chunkAssignments, encodeAssignment(a))
		}
		return w.OK()
	})
	s.crashes.Scan(func(id wasmatrix.InstanceID, all []*wasmatrix.Crash) bool {
		for _, c := range all {
			w.Record(chunkCrashes, &log.CrashRecord{Instance: string(id), Crash: encodeCrash(c)})
		}
		return w.OK()
	})
	for _, r := range s.window.byAge.from(0) {
		if !w.Record(chunkRequests, encodeRemembered(*r)) {
			return
		}
	}
	for _, f := range s.facts.from(0) {
		if !w.Record(chunkFacts, encodeFact(f)) {
			return
		}
	}
}

// instanceEncoder encodes instances, and a spec that many of them share only
// once.
type instanceEncoder struct {
	specs map[*wasmatrix.Spec]uint32 // numbers of specs encoded
	next  uint32                     // number of the next spec
}

func (e *instanceEncoder) encode(i *wasmatrix.Instance) *log.InstanceRecord {
	r := &log.InstanceRecord{
		Id: string(i.ID), Status: log.Status(i.Status), Node: string(i.Node),
		Epoch: i.Epoch, Attempt: i.Attempt, Seq: i.Seq, StopRequested: i.StopRequested,
		Reason: i.Reason, LastError: string(i.LastError), ExitCode: i.ExitCode,
		Restarts: i.Restarts, Crashes: i.Crashes,
		CreatedAt: int64(i.CreatedAt), StartedAt: int64(i.StartedAt), ChangedAt: int64(i.ChangedAt),
		CreateIndex: i.CreateIndex, ModifyIndex: i.ModifyIndex, GrantsIndex: i.GrantsIndex,
	}
	if n, ok := e.specs[i.Spec]; ok {
		r.SpecOrNumber = &log.InstanceRecord_SpecNumber{SpecNumber: n}
		return r
	}
	if len(e.specs) >= maxSharedSpecs {
		clear(e.specs)
	}
	e.specs[i.Spec] = e.next
	e.next++
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
