package fsm

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
	"github.com/wasmatrix/wasmatrix/snapfile/snapfiletest"
)

// later has a command for each field that a version after the first added,
// with that field alone.
func later() map[string]laterCommand {
	start := func(change func(*wasmatrix.Spec)) wasmatrix.Command {
		plain, changed := testSpec(wasmatrix.RestartNever), testSpec(wasmatrix.RestartNever)
		change(changed)
		return wasmatrix.StartInstances{Items: []wasmatrix.StartItem{
			{Spec: plain, Placements: []wasmatrix.Placement{{Instance: "plain", Node: "n1"}}},
			{Spec: changed, Placements: []wasmatrix.Placement{{Instance: "i", Node: "n1"}}},
		}}
	}
	crash := func(c wasmatrix.Crash) wasmatrix.Command {
		c.Kind = wasmatrix.CrashTrap
		return wasmatrix.ApplyReports{Node: "n1", Boot: "boot-1", Reports: []wasmatrix.Report{
			{Instance: "plain", Epoch: 1, Attempt: 1, Seq: 1, Status: wasmatrix.StatusRunning},
			{Instance: "i", Epoch: 1, Attempt: 1, Seq: 1, Status: wasmatrix.StatusCrashed, Crash: &c},
		}}
	}
	assign := wasmatrix.AssignCapability{Assignment: kvGrant("c")}
	return map[string]laterCommand{
		"stdin":       {2, 2, start(func(s *wasmatrix.Spec) { s.Stdin = []byte("x") })},
		"fuel budget": {2, 2, start(func(s *wasmatrix.Spec) { s.Limits.Fuel = 1 })},
		"fuel":        {2, 2, crash(wasmatrix.Crash{Fuel: 1})},
		"memory peak": {2, 2, crash(wasmatrix.Crash{MemoryPeak: 1})},
		"started with an assignment": {3, 3, wasmatrix.StartInstances{Items: []wasmatrix.StartItem{
			{Spec: testSpec(wasmatrix.RestartNever), Placements: []wasmatrix.Placement{{Instance: "plain", Node: "n1"}}},
			{Spec: testSpec(wasmatrix.RestartNever), Placements: []wasmatrix.Placement{{Instance: "i", Node: "n1"}}, Assignments: []*wasmatrix.Assignment{kvGrant("c")}},
		}}},
		"assign": {3, 3, assign},
		// These are new in what they do and leave nothing that is new.
		"least epoch": {3, 1, wasmatrix.RestartInstance{Instance: "i", MinEpoch: 2}},
		"provider":    {3, 1, wasmatrix.PutProvider{Provider: &wasmatrix.Provider{ID: "p", Type: wasmatrix.ProviderKV}}},
		"denials":     {3, 1, wasmatrix.RecordDenials{Node: "n1", Boot: "boot-1", Denials: []wasmatrix.Denial{{Instance: "i", Capability: "c"}}}},
	}
}

// laterCommand is a command that needs a version, and leaves a state that does.
type laterCommand struct {
	version, state uint32
	cmd            wasmatrix.Command
}

func versionOf(t *testing.T, c wasmatrix.Command) uint32 {
	t.Helper()
	b, err := Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	var env log.Envelope
	if err := proto.Unmarshal(b, &env); err != nil {
		t.Fatal(err)
	}
	return env.GetVersion()
}

func snapshotVersions(t *testing.T, b []byte) (format, rules uint32) {
	t.Helper()
	format, chunks := snapfiletest.Split(t, snapshotFormat, b)
	var tr log.SnapshotTrailer
	if err := proto.Unmarshal(chunks[len(chunks)-1].Payload, &tr); err != nil {
		t.Fatal(err)
	}
	return format, tr.GetHashVersion()
}

// TestNewFieldsNeedANewerServer: an older server stops at a command or a
// snapshot that has what it would drop, and at no other.
func TestNewFieldsNeedANewerServer(t *testing.T) {
	base := func() *machine { return newMachine(t, Options{}).seed("n1") }
	plain := wasmatrix.StartInstances{Items: []wasmatrix.StartItem{
		{Spec: testSpec(wasmatrix.RestartNever), Placements: []wasmatrix.Placement{{Instance: "plain", Node: "n1"}, {Instance: "i", Node: "n1"}}},
	}}
	for _, c := range []wasmatrix.Command{
		plain,
		wasmatrix.ApplyReports{Node: "n1", Boot: "boot-1", Reports: []wasmatrix.Report{{Instance: "i", Crash: &wasmatrix.Crash{Message: "m", Uptime: 1}}}},
		wasmatrix.MarkNodeDown{Node: "n1"},
	} {
		if v := versionOf(t, c); v != 1 {
			t.Errorf("%T, with nothing new in it, has version %d", c, v)
		}
	}
	old := base()
	old.do(plain)
	if format, rules := snapshotVersions(t, snapshotOf(t, old.fsm.State())); format != 1 || rules != 1 {
		t.Errorf("a state with nothing new in it makes a snapshot of format version %d and hash version %d", format, rules)
	}
	for name, c := range later() {
		t.Run(name, func(t *testing.T) {
			if v := versionOf(t, c.cmd); v != c.version {
				t.Errorf("the command has version %d", v)
			}
			m := base()
			if _, ok := c.cmd.(wasmatrix.StartInstances); !ok {
				m.do(plain)
			}
			before := m.fsm.State().Hash()
			m.do(c.cmd)
			s := m.fsm.State()
			if s.Hash() == before {
				t.Fatal("the command changed nothing")
			}
			b := snapshotOf(t, s)
			if format, rules := snapshotVersions(t, b); format != c.state || rules != c.state {
				t.Errorf("the snapshot has format version %d and hash version %d", format, rules)
			}
			if throughSnapshot(t, s, Options{}).State().Hash() != s.Hash() {
				t.Error("the snapshot lost something")
			}
		})
	}
}

// TestSnapshotIsHashedByTheRulesOfItsState: a snapshot that says it was hashed
// by older rules than its state needs was not written by any release.
func TestSnapshotIsHashedByTheRulesOfItsState(t *testing.T) {
	chunks := splitSnapshot(t, snapshotOf(t, fullState()))
	last := &chunks[len(chunks)-1]
	var tr log.SnapshotTrailer
	if err := proto.Unmarshal(last.Payload, &tr); err != nil {
		t.Fatal(err)
	}
	tr.HashVersion = 1
	b, err := proto.Marshal(&tr)
	if err != nil {
		t.Fatal(err)
	}
	*last = snapfiletest.Message(last.Kind, b)
	wantCode(t, New(Options{}).Restore(bytes.NewReader(joinSnapshot(chunks))), wasmatrix.CodeStorage)
}

// TestInternerIsBounded: specs with much in them are shared too, and what the
// interner holds of them is bounded.
func TestInternerIsBounded(t *testing.T) {
	var in specInterner
	spec := func(n byte) *wasmatrix.Spec {
		s := testSpec(wasmatrix.RestartNever)
		s.Stdin = bytes.Repeat([]byte{n}, wasmatrix.MaxStdin)
		s.Args = []string{strings.Repeat("x", wasmatrix.MaxSpecText)}
		return s
	}
	first := in.intern(spec(0))
	if in.intern(spec(0)) != first {
		t.Error("two equal specs with standard input are not shared")
	}
	if in.intern(spec(1)) == first {
		t.Error("specs that differ in standard input only are shared")
	}
	for n := range 200 {
		in.intern(spec(byte(n)))
		held := 0
		for text := range in.byText {
			held += len(text)
		}
		if held > maxInternedBytes || held != in.bytes {
			t.Fatalf("the interner holds %d bytes and counts %d", held, in.bytes)
		}
	}
}

// TestEveryNewFieldOfAnAssignmentIsSeen: also where nothing else of the state is
// new, as no release writes it.
func TestEveryNewFieldOfAnAssignmentIsSeen(t *testing.T) {
	for name, change := range map[string]func(*wasmatrix.Assignment){
		"provider":  func(a *wasmatrix.Assignment) { a.Provider = "p" },
		"namespace": func(a *wasmatrix.Assignment) { a.Namespace = "n" },
		"stale":     func(a *wasmatrix.Assignment) { a.Stale = true },
	} {
		s := newState()
		a := kvGrant("c")
		s.putAssignments("i", []*wasmatrix.Assignment{a})
		if v := s.schema(); v != 1 {
			t.Errorf("without a %s the state has version %d", name, v)
		}
		changed := *a
		change(&changed)
		s.putAssignments("i", []*wasmatrix.Assignment{&changed})
		if v := s.schema(); v != 3 {
			t.Errorf("with a %s the state has version %d", name, v)
		}
	}
}
