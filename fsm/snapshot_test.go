package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
	"github.com/wasmatrix/wasmatrix/snapfile"
	"github.com/wasmatrix/wasmatrix/snapfile/snapfiletest"
)

func snapshotOf(tb testing.TB, s *State) []byte {
	tb.Helper()
	var buf bytes.Buffer
	if err := s.WriteSnapshot(&buf); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func TestSnapshotKeepsEveryField(t *testing.T) {
	want := fullState()
	b := snapshotOf(t, want)
	f := New(Options{})
	if err := f.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	got := f.State()
	same := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s came back as\n%+v, not\n%+v", what, got, want)
		}
	}
	same("instances", slices.Collect(got.Instances("")), slices.Collect(want.Instances("")))
	same("nodes", slices.Collect(got.Nodes()), slices.Collect(want.Nodes()))
	same("modules", slices.Collect(got.Modules()), slices.Collect(want.Modules()))
	same("names", got.names.Keys(), want.names.Keys())
	same("providers", slices.Collect(got.Providers()), slices.Collect(want.Providers()))
	same("assignments", got.assignments.Values(), want.assignments.Values())
	same("crashes", got.crashes.Values(), want.crashes.Values())
	same("requests", remembered(got), remembered(want))
	same("facts", slices.Collect(got.Facts(0)), slices.Collect(want.Facts(0)))
	same("identity", []any{got.Cluster(), got.Index(), got.Now()}, []any{want.Cluster(), want.Index(), want.Now()})
	if got.Hash() != want.Hash() {
		t.Error("the hash differs")
	}

	info, err := InspectSnapshot(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	same("info", info, SnapshotInfo{
		Header: Header{
			FormatVersion: snapshotVersion, ProductVersion: wasmatrix.Version, Index: 10_000, Cluster: "cluster", Now: 20_000,
			Counts: Counts{Instances: 1, Nodes: 1, Modules: 1, Providers: 1, Assignments: 1, Crashes: 1, Requests: 1, Facts: 1},
		},
		Hash: want.Hash(), Bytes: int64(len(b)),
	})
}

func TestSnapshotSharesSpecsAgain(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	big := testSpec(wasmatrix.RestartAlways)
	big.Args = []string{strings.Repeat("x", maxInternedSpec)} // too big to be interned
	var placements []wasmatrix.Placement
	for n := range 10 {
		placements = append(placements, wasmatrix.Placement{Instance: wasmatrix.InstanceID(fmt.Sprintf("big-%d", n)), Node: "n1"})
	}
	m.do(wasmatrix.StartInstances{Items: []wasmatrix.StartItem{{Spec: big, Placements: placements}}})
	m.start("small-1", "n1", wasmatrix.RestartNever)
	m.start("small-2", "n1", wasmatrix.RestartNever)

	for name, s := range map[string]*State{"started": m.fsm.State(), "restored": throughSnapshot(t, m.fsm.State(), Options{}).State()} {
		specs := map[*wasmatrix.Spec]int{}
		for i := range s.Instances("") {
			specs[i.Spec]++
		}
		if len(specs) != 2 {
			t.Errorf("%s: 12 instances of 2 kinds have %d specs", name, len(specs))
		}
	}
}

// TestSnapshotOfManyChunks has sections that take several chunks, and more
// specs than a writer remembers.
func TestSnapshotOfManyChunks(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	s := m.fsm.live
	spec := func(n int) *wasmatrix.Spec {
		sp := testSpec(wasmatrix.RestartAlways)
		sp.ModuleName = fmt.Sprint(n)
		return sp
	}
	for n := range maxSharedSpecs + 10 {
		s.putInstance(nil, &wasmatrix.Instance{ID: wasmatrix.InstanceID(fmt.Sprintf("i%06d", n)), Spec: spec(n), Status: wasmatrix.StatusPending})
	}
	first, _ := s.Instance("i000000")
	s.putInstance(nil, &wasmatrix.Instance{ID: "z", Spec: first.Spec, Status: wasmatrix.StatusPending})
	enc := &instanceEncoder{specs: make(map[*wasmatrix.Spec]uint32)}
	for i := range s.Instances("") {
		if enc.encode(i); len(enc.specs) > maxSharedSpecs {
			t.Fatalf("a writer remembers %d specs", len(enc.specs))
		}
	}
	b := snapshotOf(t, s)
	sections := map[snapfile.Kind]int{}
	for _, c := range splitSnapshot(t, b) {
		sections[c.Kind]++
	}
	if sections[chunkInstances] < 3 {
		t.Fatalf("chunks: %v", sections)
	}
	restored := New(Options{})
	if err := restored.Restore(iotest.OneByteReader(bytes.NewReader(b))); err != nil {
		t.Fatal(err)
	}
	if restored.State().Hash() != s.Hash() {
		t.Error("the state differs")
	}
	checkInvariants(t, restored.State(), Options{})
}

func TestRestoreRefusesDamage(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	m.start("i", "n1", wasmatrix.RestartAlways)
	before := m.fsm.State().Hash()
	good := snapshotOf(t, fullState())
	refuse := func(what string, b []byte, say string) {
		t.Helper()
		err := m.fsm.Restore(bytes.NewReader(b))
		if err == nil {
			t.Fatalf("%s: restored", what)
		}
		if wasmatrix.CodeOf(err) != wasmatrix.CodeStorage || !strings.Contains(err.Error(), say) {
			t.Fatalf("%s: %v, which does not say %q", what, err, say)
		}
		if m.fsm.State().Hash() != before {
			t.Fatalf("%s: the state was touched", what)
		}
	}
	for n := range good {
		refuse(fmt.Sprintf("the first %d bytes", n), good[:n], "truncated")
		flipped := slices.Clone(good)
		flipped[n] ^= 0x10
		refuse(fmt.Sprintf("byte %d flipped", n), flipped, "snapshot")
	}
	refuse("another file", []byte("PK\x03\x04 some zip archive"), "not a wasmatrix snapshot")
	refuse("more data", append(slices.Clone(good), 0), "data after its end")
	newer := slices.Clone(good)
	binary.BigEndian.PutUint32(newer[len(snapshotFormat.Magic):], snapshotVersion+1)
	refuse("newer format", newer, "newer release")

	chunks := splitSnapshot(t, good)
	for n := range chunks {
		name := snapshotFormat.KindName(chunks[n].Kind)
		missing := slices.Delete(slices.Clone(chunks), n, n+1)
		refuse("without its "+name, joinSnapshot(missing), "snapshot")
		double := slices.Insert(slices.Clone(chunks), n, chunks[n])
		refuse("with two of "+name, joinSnapshot(double), "corrupted")
		if n > 0 {
			swapped := slices.Clone(chunks)
			swapped[n], swapped[n-1] = swapped[n-1], swapped[n]
			refuse("with "+name+" too early", joinSnapshot(swapped), "corrupted")
		}
	}
	if err := m.fsm.Restore(iotest.ErrReader(errors.New("disk on fire"))); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("an unreadable file: %v", err)
	}
	if err := m.fsm.Restore(bytes.NewReader(good)); err != nil {
		t.Errorf("the undamaged one: %v", err)
	}
}

// TestRestoreComparesTheHash: a snapshot whose sums are right and whose state
// is not what was written is refused, unless a release with other rules of
// hashing wrote it.
func TestRestoreComparesTheHash(t *testing.T) {
	for version, want := range map[uint32]wasmatrix.Code{hashVersion: wasmatrix.CodeInternal, hashVersion + 1: ""} {
		chunks := splitSnapshot(t, snapshotOf(t, fullState()))
		last := &chunks[len(chunks)-1]
		var tr log.SnapshotTrailer
		if err := proto.Unmarshal(last.Payload, &tr); err != nil {
			t.Fatal(err)
		}
		tr.StateHash[0] ^= 1
		tr.HashVersion = version
		b, err := proto.Marshal(&tr)
		if err != nil {
			t.Fatal(err)
		}
		*last = snapfiletest.Message(last.Kind, b)
		wantCode(t, New(Options{}).Restore(bytes.NewReader(joinSnapshot(chunks))), want)
	}
}

// TestRestoreComparesSumAndCounts: what each of the trailer's figures alone
// would catch, in a snapshot whose hash this release cannot judge.
func TestRestoreComparesSumAndCounts(t *testing.T) {
	reseal := func(chunks []snapfiletest.Chunk, sum bool) []byte {
		last := &chunks[len(chunks)-1]
		var tr log.SnapshotTrailer
		if err := proto.Unmarshal(last.Payload, &tr); err != nil {
			t.Fatal(err)
		}
		tr.HashVersion = hashVersion + 1
		if sum {
			s := sha256.Sum256(joinSnapshot(chunks[:len(chunks)-1]))
			tr.Sum = s[:]
		}
		b, err := proto.Marshal(&tr)
		if err != nil {
			t.Fatal(err)
		}
		*last = snapfiletest.Message(last.Kind, b)
		return joinSnapshot(chunks)
	}
	header := func(change func(*log.SnapshotHeader)) []snapfiletest.Chunk {
		chunks := splitSnapshot(t, snapshotOf(t, fullState()))
		var h log.SnapshotHeader
		if err := proto.Unmarshal(chunks[0].Payload, &h); err != nil {
			t.Fatal(err)
		}
		change(&h)
		b, err := proto.Marshal(&h)
		if err != nil {
			t.Fatal(err)
		}
		chunks[0] = snapfiletest.Message(snapfile.Header, b)
		return chunks
	}
	same := func(*log.SnapshotHeader) {}
	index := func(h *log.SnapshotHeader) { h.Index++ }
	more := func(h *log.SnapshotHeader) { h.Counts.Requests++ }
	for name, c := range map[string]struct {
		b   []byte
		say string
	}{
		"sound":          {reseal(header(same), true), ""},
		"another header": {reseal(header(index), false), "SHA-256"},
		"another count":  {reseal(header(more), true), "records"},
	} {
		err := New(Options{}).Restore(bytes.NewReader(c.b))
		if (err == nil) != (c.say == "") || err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, which does not say %q", name, err, c.say)
		}
	}
}

type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}

func TestSnapshotReportsWriteErrors(t *testing.T) {
	s := fullState()
	for room := 0; room < len(snapshotOf(t, s)); room += 7 {
		err := s.WriteSnapshot(&fullDisk{room: room})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeStorage || !strings.Contains(err.Error(), "no space left") {
			t.Fatalf("with room for %d bytes: %v", room, err)
		}
	}
}

func splitSnapshot(tb testing.TB, b []byte) []snapfiletest.Chunk {
	tb.Helper()
	_, chunks := snapfiletest.Split(tb, snapshotFormat, b)
	return chunks
}

func joinSnapshot(chunks []snapfiletest.Chunk) []byte {
	return snapfiletest.Join(snapshotFormat, snapshotVersion, chunks)
}

func FuzzRestore(f *testing.F) {
	good := snapshotOf(f, fullState())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(snapshotOf(f, newState()))
	m := newMachine(f, Options{})
	before := m.fsm.State().Hash()
	f.Fuzz(func(t *testing.T, b []byte) {
		fsm := New(Options{})
		if err := fsm.Restore(bytes.NewReader(b)); err != nil {
			if wasmatrix.CodeOf(err) == "" || fsm.State().Hash() != before {
				t.Fatalf("refused with %v, or touched", err)
			}
			return
		}
		if again := throughSnapshot(t, fsm.State(), Options{}); again.State().Hash() != fsm.State().Hash() {
			t.Fatal("a second snapshot differs")
		}
	})
}

// FuzzRecords goes past the sums that keep FuzzRestore out: records as they
// are when a chunk has been unpacked.
func FuzzRecords(f *testing.F) {
	enc := &instanceEncoder{specs: make(map[*wasmatrix.Spec]uint32)}
	i := fullState().instances.Values()[0]
	for kind, m := range map[snapfile.Kind]proto.Message{
		chunkModules:     &log.ModuleRecord{Module: encodeModule(fullState().modules.Values()[0].module), Names: []string{"a"}},
		chunkNodes:       encodeNode(fullState().nodes.Values()[0].node),
		chunkProviders:   encodeProvider(fullState().providers.Values()[0]),
		chunkInstances:   enc.encode(i),
		chunkAssignments: encodeAssignment(fullState().assignments.Values()[0][0]),
		chunkCrashes:     &log.CrashRecord{Instance: string(i.ID), Crash: encodeCrash(fullState().crashes.Values()[0][0])},
		chunkRequests:    encodeRemembered(remembered(fullState())[0]),
		chunkFacts:       encodeFact(fullState().facts.at(41)),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(kind), append(binary.AppendUvarint(nil, uint64(len(b))), b...))
	}
	f.Fuzz(func(t *testing.T, kind uint8, raw []byte) {
		b := newBuilder(&specInterner{})
		b.s = fullState().fork() // so that records find what they refer to
		for len(raw) > 0 {
			rec, n := protowire.ConsumeBytes(raw)
			if n < 0 || b.Record(snapfile.Kind(kind), rec) != nil {
				return
			}
			raw = raw[n:]
		}
		if again := throughSnapshot(t, b.s, Options{}); again.State().Hash() != b.s.Hash() {
			t.Fatal("what was read is not what is written")
		}
	})
}

// remembered are the requests in the window, oldest first.
func remembered(s *State) []*request {
	var all []*request
	for _, r := range s.window.byAge.from(0) {
		all = append(all, *r)
	}
	return all
}
