package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
	"github.com/wasmatrix/wasmatrix/snapfile"
)

// readSnapshot builds the state that a snapshot holds, and checks that it is
// whole and consistent. What it says of the snapshot is all but the hash.
func readSnapshot(r io.Reader, specs *specInterner) (*State, SnapshotInfo, error) {
	b := newBuilder(specs)
	size, err := snapshotFormat.Read(r, b)
	if err != nil {
		return nil, SnapshotInfo{}, err
	}
	return b.s, SnapshotInfo{Header: b.head, Bytes: size}, nil
}

// builder makes a state of the content of a snapshot.
type builder struct {
	s      *State
	head   Header
	got    Counts
	specs  []*wasmatrix.Spec // by number
	intern *specInterner

	// The assignments or crashes of the instance that is being read.
	instance    wasmatrix.InstanceID
	assignments []*wasmatrix.Assignment
	crashes     []*wasmatrix.Crash
}

func newBuilder(intern *specInterner) *builder {
	return &builder{s: newState(), intern: intern}
}

// Header implements [snapfile.Content].
func (b *builder) Header(version uint32, raw []byte) error {
	var m log.SnapshotHeader
	if err := proto.Unmarshal(raw, &m); err != nil {
		return err
	}
	h := Header{
		FormatVersion: version, ProductVersion: m.GetProductVersion(), Index: m.GetIndex(),
		Cluster: wasmatrix.ClusterID(m.GetCluster()), Now: wasmatrix.Time(m.GetNow()), Counts: decodeCounts(m.GetCounts()),
	}
	if m.GetNextFact() == 0 || h.Counts.Facts >= m.GetNextFact() {
		return fmt.Errorf("%d facts before number %d", h.Counts.Facts, m.GetNextFact())
	}
	b.head = h
	b.s.cluster, b.s.index, b.s.now = h.Cluster, h.Index, h.Now
	b.s.facts = newRing[wasmatrix.Fact](m.GetNextFact() - h.Counts.Facts)
	return nil
}

// Record implements [snapfile.Content].
func (b *builder) Record(kind snapfile.Kind, rec []byte) error {
	var d decoder
	err := b.record(kind, rec, &d)
	if err == nil && d.wrong != "" {
		err = errors.New("malformed " + d.wrong)
	}
	return err
}

func (b *builder) record(kind snapfile.Kind, rec []byte, d *decoder) error {
	switch kind {
	case chunkModules:
		return b.module(rec, d)
	case chunkNodes:
		return b.node(rec, d)
	case chunkProviders:
		var p log.Provider
		if err := proto.Unmarshal(rec, &p); err != nil {
			return err
		}
		b.got.Providers++
		_, twice := b.s.providers.Set(wasmatrix.ProviderID(p.GetId()), d.provider(&p))
		return onlyOnce(twice, p.GetId())
	case chunkInstances:
		return b.putInstance(rec, d)
	case chunkAssignments:
		return b.assignment(rec)
	case chunkCrashes:
		return b.crash(rec)
	case chunkRequests:
		return b.request(rec, d)
	case chunkFacts:
		return b.fact(rec)
	default:
		return errors.New("no records belong here")
	}
}

func onlyOnce(twice bool, id string) error {
	if twice {
		return errors.New(id + " is there twice")
	}
	return nil
}

func (b *builder) module(rec []byte, d *decoder) error {
	var r log.ModuleRecord
	if err := proto.Unmarshal(rec, &r); err != nil {
		return err
	}
	m := d.module(r.GetModule())
	if m == nil || d.wrong != "" {
		return errors.New("malformed module")
	}
	if _, twice := b.s.Module(m.Digest); twice {
		return onlyOnce(true, m.Digest.String())
	}
	b.got.Modules++
	b.s.putModule(m)
	for _, name := range r.GetNames() {
		if _, twice := b.s.names.Get(name); twice {
			return onlyOnce(true, name)
		}
		b.s.putName(name, m.Digest)
	}
	return nil
}

func (b *builder) node(rec []byte, d *decoder) error {
	var r log.NodeRecord
	if err := proto.Unmarshal(rec, &r); err != nil {
		return err
	}
	if st := r.GetStatus(); st < 0 || st > log.NodeStatus_NODE_STATUS_DOWN {
		d.fail("node status")
	}
	n := &wasmatrix.Node{
		ID: wasmatrix.NodeID(r.GetId()), Boot: wasmatrix.BootID(r.GetBoot()), Addr: r.GetAddr(), Version: r.GetVersion(),
		Labels: decodePairs(r.GetLabels()), Capacity: decodeCapacity(r.GetCapacity()),
		Status: wasmatrix.NodeStatus(r.GetStatus()), Draining: r.GetDraining(), Reason: r.GetReason(),
		RegisteredAt: wasmatrix.Time(r.GetRegisteredAt()), ChangedAt: wasmatrix.Time(r.GetChangedAt()),
		CreateIndex: r.GetCreateIndex(), ModifyIndex: r.GetModifyIndex(),
	}
	_, twice := b.s.Node(n.ID)
	b.got.Nodes++
	b.s.putNode(n)
	return onlyOnce(twice, r.GetId())
}

func (b *builder) spec(r *log.InstanceRecord, d *decoder) (*wasmatrix.Spec, error) {
	switch s := r.GetSpecOrNumber().(type) {
	case *log.InstanceRecord_Spec:
		spec := d.spec(s.Spec)
		if spec == nil || d.wrong != "" {
			return nil, errors.New("malformed spec")
		}
		spec = b.intern.intern(spec)
		b.specs = append(b.specs, spec)
		return spec, nil
	case *log.InstanceRecord_SpecNumber:
		if int64(s.SpecNumber) >= int64(len(b.specs)) {
			return nil, errors.New("an instance refers to a spec that is not there")
		}
		return b.specs[s.SpecNumber], nil
	default:
		return nil, errors.New("an instance has no spec")
	}
}

func (b *builder) putInstance(rec []byte, d *decoder) error {
	var r log.InstanceRecord
	if err := proto.Unmarshal(rec, &r); err != nil {
		return err
	}
	spec, err := b.spec(&r, d)
	if err != nil {
		return err
	}
	i := &wasmatrix.Instance{
		ID: wasmatrix.InstanceID(r.GetId()), Spec: spec, Status: d.status(r.GetStatus()), Node: wasmatrix.NodeID(r.GetNode()),
		Epoch: r.GetEpoch(), Attempt: r.GetAttempt(), Seq: r.GetSeq(), StopRequested: r.GetStopRequested(),
		Reason: r.GetReason(), LastError: interned(knownCodes, r.GetLastError()), ExitCode: r.ExitCode,
		Restarts: r.GetRestarts(), Crashes: r.GetCrashes(),
		CreatedAt: wasmatrix.Time(r.GetCreatedAt()), StartedAt: wasmatrix.Time(r.GetStartedAt()), ChangedAt: wasmatrix.Time(r.GetChangedAt()),
		CreateIndex: r.GetCreateIndex(), ModifyIndex: r.GetModifyIndex(), GrantsIndex: r.GetGrantsIndex(),
	}
	node, known := b.s.Node(i.Node)
	switch {
	case known:
		i.Node = node.ID
	case i.Status.OnNode():
		return errors.New("instance " + r.GetId() + " is on a node that is not there")
	}
	if _, ok := b.s.Module(spec.Module); !ok && !i.Status.Final() {
		return errors.New("instance " + r.GetId() + " runs a module that is not there")
	}
	if _, twice := b.s.Instance(i.ID); twice || i.ID == "" || i.Status == wasmatrix.StatusUnknown {
		return errors.New("instance " + r.GetId() + " is there twice, or is malformed")
	}
	b.got.Instances++
	b.s.putInstance(nil, i)
	return nil
}

// sharedID returns the instance's own copy of its ID.
func (b *builder) sharedID(id string) (wasmatrix.InstanceID, error) {
	i, ok := b.s.Instance(wasmatrix.InstanceID(id))
	if !ok {
		return "", errors.New("instance " + id + " is not there")
	}
	return i.ID, nil
}

func (b *builder) assignment(rec []byte) error {
	var r log.Assignment
	if err := proto.Unmarshal(rec, &r); err != nil {
		return err
	}
	a := decodeAssignment(&r)
	id, err := b.sharedID(r.GetInstance())
	if err != nil {
		return err
	}
	a.Instance = id
	if id != b.instance {
		b.instance, b.assignments = id, nil
		if _, twice := b.s.assignments.Get(id); twice {
			return onlyOnce(true, string(id))
		}
	}
	if n := len(b.assignments); n > 0 && b.assignments[n-1].ID >= a.ID {
		return errors.New("assignments of " + string(id) + " are out of order")
	}
	b.got.Assignments++
	b.assignments = append(b.assignments, a)
	b.s.putAssignments(id, b.assignments)
	return nil
}

func (b *builder) crash(rec []byte) error {
	var r log.CrashRecord
	if err := proto.Unmarshal(rec, &r); err != nil {
		return err
	}
	id, err := b.sharedID(r.GetInstance())
	if err != nil {
		return err
	}
	c := decodeCrash(r.GetCrash())
	if c == nil {
		return errors.New("malformed crash")
	}
	if n, ok := b.s.Node(c.Node); ok {
		c.Node = n.ID
	}
	if id != b.instance || len(b.crashes) == 0 {
		b.instance, b.crashes = id, nil
		if _, twice := b.s.crashes.Get(id); twice {
			return onlyOnce(true, string(id))
		}
	}
	b.got.Crashes++
	b.crashes = append(b.crashes, c)
	b.s.putCrashes(id, b.crashes)
	return nil
}

func (b *builder) request(rec []byte, d *decoder) error {
	var r log.RequestRecord
	if err := proto.Unmarshal(rec, &r); err != nil {
		return err
	}
	req := d.request(r.GetRequest())
	if req.ID == "" || b.s.window.get(req.ID) != nil {
		return errors.New("a request is there twice, or has no ID")
	}
	b.got.Requests++
	b.s.window.add(&request{
		id: req.ID, body: req.Body, at: wasmatrix.Time(r.GetAt()), instances: decodeStrings[wasmatrix.InstanceID](r.GetInstances()),
	})
	return nil
}

func (b *builder) fact(rec []byte) error {
	var r log.FactRecord
	if err := proto.Unmarshal(rec, &r); err != nil {
		return err
	}
	b.got.Facts++
	b.s.facts.push(wasmatrix.Fact{
		Index: b.s.facts.next, At: wasmatrix.Time(r.GetAt()), Kind: interned(knownFacts, r.GetKind()),
		Instance: wasmatrix.InstanceID(r.GetInstance()), Node: wasmatrix.NodeID(r.GetNode()),
		Epoch: r.GetEpoch(), Attempt: r.GetAttempt(), Reason: r.GetReason(),
	})
	return nil
}

// Trailer implements [snapfile.Content]: it compares what was read with what
// was written.
func (b *builder) Trailer(raw []byte, found snapfile.Totals) error {
	var m log.SnapshotTrailer
	if err := proto.Unmarshal(raw, &m); err != nil {
		return err
	}
	if err := (snapfile.Totals{Chunks: m.GetChunks(), Sum: m.GetSum()}).Check(found); err != nil {
		return err
	}
	if b.got != b.head.Counts {
		return fmt.Errorf("there are %+v records, and should be %+v", b.got, b.head.Counts)
	}
	if m.GetHashVersion() > hashVersion {
		return nil // a newer release hashed it, by rules that this one does not know
	}
	if v := b.s.schema(); m.GetHashVersion() != v {
		return fmt.Errorf("the state is hashed by rules %d, and should be by rules %d", m.GetHashVersion(), v)
	}
	if h := b.s.Hash(); !bytes.Equal(m.GetStateHash(), h[:]) {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "the state that was read from the snapshot is not the one that was written (hash %x, and should be %x)", h, m.GetStateHash())
	}
	return nil
}
