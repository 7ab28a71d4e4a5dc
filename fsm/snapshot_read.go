package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
)

// readSnapshot builds the state that a snapshot holds, and checks that it is
// whole and consistent.
func readSnapshot(r io.Reader, specs *specInterner) (*State, Header, error) {
	version, err := readPreamble(r)
	if err != nil {
		return nil, Header{}, err
	}
	sum := sha256.New()
	sum.Write(binary.BigEndian.AppendUint32([]byte(snapshotMagic), version))
	chunks := &chunkReader{r: r}
	first, err := chunks.next()
	if err != nil {
		return nil, Header{}, err
	}
	if first.kind != chunkHeader {
		return nil, Header{}, corrupt("it begins with a chunk of %s", first.kind)
	}
	var head log.SnapshotHeader
	if err := proto.Unmarshal(first.payload, &head); err != nil {
		return nil, Header{}, corrupt("header: %w", err)
	}
	sum.Write(first.head)
	sum.Write(first.payload)
	h := Header{
		FormatVersion: version, ProductVersion: head.GetProductVersion(), Index: head.GetIndex(),
		Cluster: wasmatrix.ClusterID(head.GetCluster()), Now: wasmatrix.Time(head.GetNow()), Counts: decodeCounts(head.GetCounts()),
	}
	if head.GetNextFact() == 0 || h.Counts.Facts >= head.GetNextFact() {
		return nil, Header{}, corrupt("header: %d facts before number %d", h.Counts.Facts, head.GetNextFact())
	}

	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunk), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, Header{}, wasmatrix.Errorf(wasmatrix.CodeInternal, "cannot decompress a snapshot: %w", err)
	}
	defer dec.Close()

	b := newBuilder(h, head.GetNextFact(), specs)
	var raw []byte
	for last := chunkHeader; ; {
		ch, err := chunks.next()
		if err != nil {
			return nil, Header{}, err
		}
		if ch.kind < last || ch.kind == chunkHeader || ch.kind > chunkTrailer {
			return nil, Header{}, corrupt("a chunk of %s follows one of %s", ch.kind, last)
		}
		last = ch.kind
		if ch.kind == chunkTrailer {
			if err := b.finish(ch.payload, chunks.n-1, sum.Sum(nil)); err != nil {
				return nil, Header{}, err
			}
			break
		}
		sum.Write(ch.head)
		sum.Write(ch.payload)
		if raw, err = dec.DecodeAll(ch.payload, raw[:0]); err != nil {
			return nil, Header{}, corrupt("chunk %d (%s) does not decompress: %w", chunks.n, ch.kind, err)
		}
		if len(raw) != ch.rawLen {
			return nil, Header{}, corrupt("chunk %d (%s) has %d bytes, and should have %d", chunks.n, ch.kind, len(raw), ch.rawLen)
		}
		if err := b.records(ch.kind, raw); err != nil {
			return nil, Header{}, corrupt("chunk %d (%s): %w", chunks.n, ch.kind, err)
		}
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n != 0 {
		return nil, Header{}, corrupt("there is data after its end")
	} else if !errors.Is(err, io.EOF) {
		return nil, Header{}, readError(err, "after its end")
	}
	return b.s, h, nil
}

func readPreamble(r io.Reader) (version uint32, err error) {
	var b [len(snapshotMagic) + 4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, readError(err, "before its header")
	}
	if string(b[:len(snapshotMagic)]) != snapshotMagic {
		return 0, wasmatrix.Errorf(wasmatrix.CodeStorage, "this is not a wasmatrix snapshot: it does not begin with %q", snapshotMagic)
	}
	version = binary.BigEndian.Uint32(b[len(snapshotMagic):])
	switch {
	case version == 0:
		return 0, corrupt("format version 0")
	case version > snapshotVersion:
		return 0, wasmatrix.Errorf(wasmatrix.CodeStorage, "snapshot has format version %d and was written by a newer release; this build, %s, reads versions up to %d", version, wasmatrix.Version, snapshotVersion)
	}
	return version, nil
}

// builder makes a state of records.
type builder struct {
	s      *State
	want   Header
	got    Counts
	specs  []*wasmatrix.Spec // by number
	intern *specInterner

	// The assignments or crashes of the instance that is being read.
	instance    wasmatrix.InstanceID
	assignments []*wasmatrix.Assignment
	crashes     []*wasmatrix.Crash
}

func newBuilder(h Header, nextFact uint64, intern *specInterner) *builder {
	s := newState()
	s.cluster, s.index, s.now = h.Cluster, h.Index, h.Now
	s.facts = newRing[wasmatrix.Fact](nextFact - h.Counts.Facts)
	return &builder{s: s, want: h, intern: intern}
}

// records takes the content of a chunk.
func (b *builder) records(kind chunkKind, raw []byte) error {
	for len(raw) > 0 {
		rec, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return errors.New("a record is cut off")
		}
		raw = raw[n:]
		var d decoder
		err := b.record(kind, rec, &d)
		switch {
		case err != nil:
			return err
		case d.wrong != "":
			return errors.New("malformed " + d.wrong)
		}
	}
	return nil
}

func (b *builder) record(kind chunkKind, rec []byte, d *decoder) error {
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
	case chunkHeader, chunkTrailer:
		fallthrough
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

// finish compares what was read with the trailer.
func (b *builder) finish(trailer []byte, chunks int, sum []byte) error {
	var t log.SnapshotTrailer
	if err := proto.Unmarshal(trailer, &t); err != nil {
		return corrupt("trailer: %w", err)
	}
	switch {
	case t.GetChunks() != uint64(chunks):
		return corrupt("it has %d chunks, and should have %d", chunks, t.GetChunks())
	case !bytes.Equal(t.GetSum(), sum):
		return corrupt("its SHA-256 does not match")
	case b.got != b.want.Counts:
		return corrupt("it has %+v records, and should have %+v", b.got, b.want.Counts)
	}
	if t.GetHashVersion() <= hashVersion {
		if v := b.s.schema(); t.GetHashVersion() != v {
			return corrupt("it is hashed by rules %d, and its state by rules %d", t.GetHashVersion(), v)
		}
		if h := b.s.Hash(); !bytes.Equal(t.GetStateHash(), h[:]) {
			return wasmatrix.Errorf(wasmatrix.CodeInternal, "the state that was read from the snapshot is not the one that was written (hash %x, and should be %x)", h, t.GetStateHash())
		}
	}
	return nil
}
