package fsm

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
)

func kvGrant(id wasmatrix.CapabilityID) *wasmatrix.Assignment {
	return &wasmatrix.Assignment{Instance: "i", ID: id, Grant: wasmatrix.Grant{Type: wasmatrix.ProviderKV, Permissions: []wasmatrix.Permission{"kv:read"}}}
}

// TestGrantsIndexMovesWithEveryChange: whoever has a set of assignments can tell
// by the index whether another is newer, also where changes share a log index.
func TestGrantsIndexMovesWithEveryChange(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	m.do(wasmatrix.StartInstances{Items: []wasmatrix.StartItem{{
		Spec: testSpec(wasmatrix.RestartAlways), Placements: []wasmatrix.Placement{{Instance: "i", Node: "n1"}}, Assignments: []*wasmatrix.Assignment{kvGrant("a")},
	}}})
	started := m.instance("i")
	if started.GrantsIndex != m.fsm.State().Index() {
		t.Fatalf("started at index %d with assignments of index %d", m.fsm.State().Index(), started.GrantsIndex)
	}
	at := started.GrantsIndex + 10
	last := started.GrantsIndex
	for _, c := range []wasmatrix.Command{
		wasmatrix.AssignCapability{Assignment: kvGrant("b")},
		wasmatrix.AssignCapability{Assignment: kvGrant("b")}, // replaces it
		wasmatrix.RevokeCapability{Instance: "i", Capability: "a"},
		wasmatrix.RevokeCapability{Instance: "i", Capability: "b"},
	} {
		b, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if err, ok := m.fsm.Apply(at, b).(*wasmatrix.Error); ok && err != nil {
			t.Fatal(err)
		}
		i := m.instance("i")
		if i.GrantsIndex <= last || i.GrantsIndex < at || i.ModifyIndex != started.ModifyIndex {
			t.Errorf("after %T the assignments have index %d, and had %d; the instance was changed at %d", c, i.GrantsIndex, last, i.ModifyIndex)
		}
		last = i.GrantsIndex
	}
	if got := wasmatrix.GrantsOf(m.fsm.State(), m.instance("i")); got.Index != last || got.Incarnation != started.CreateIndex || len(got.Assignments) != 0 {
		t.Errorf("the set is %+v", got)
	}
	for _, c := range []wasmatrix.Command{
		wasmatrix.RevokeCapability{Instance: "i", Capability: "a"},
		wasmatrix.RestartInstance{Instance: "i"},
		wasmatrix.AssignCapability{Assignment: &wasmatrix.Assignment{Instance: "i", ID: "c", Grant: wasmatrix.Grant{Type: "disk"}}},
	} {
		m.do(c)
		if got := m.instance("i").GrantsIndex; got != last {
			t.Errorf("%T, which changed no assignment, moved their index to %d", c, got)
		}
	}
	m.start("bare", "n1", wasmatrix.RestartAlways)
	if got := m.instance("bare").GrantsIndex; got != 0 {
		t.Errorf("an instance without assignments has them of index %d", got)
	}
}

// TestOldCommandsGoByTheirOwnRules: a command that a release of schema 2 wrote
// does what it did there, or replaying its log would give another state.
func TestOldCommandsGoByTheirOwnRules(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	old := func(c wasmatrix.Command) any {
		b, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		var env log.Envelope
		if err := proto.Unmarshal(b, &env); err != nil {
			t.Fatal(err)
		}
		if env.GetVersion() != 3 {
			t.Errorf("%T is written with version %d", c, env.GetVersion())
		}
		env.Version = 2
		if b, err = proto.Marshal(&env); err != nil {
			t.Fatal(err)
		}
		return m.apply(b)
	}
	strange := kvGrant("strange")
	strange.Type = "disk"
	r := old(wasmatrix.StartInstances{Items: []wasmatrix.StartItem{{
		Spec: testSpec(wasmatrix.RestartAlways), Placements: []wasmatrix.Placement{{Instance: "i", Node: "n1"}}, Assignments: []*wasmatrix.Assignment{kvGrant("a"), strange},
	}}}).([]wasmatrix.StartResult)
	wantCode(t, orNil(r[0].Err), "")
	for _, c := range []wasmatrix.Command{
		wasmatrix.AssignCapability{Assignment: strange},
		wasmatrix.RevokeCapability{Instance: "i", Capability: "a"},
		wasmatrix.PutProvider{Provider: &wasmatrix.Provider{ID: "p", Type: wasmatrix.ProviderKV}},
		wasmatrix.PutProvider{Provider: &wasmatrix.Provider{ID: "p", Type: wasmatrix.ProviderHTTP}},
		wasmatrix.RemoveProvider{Provider: "p"},
	} {
		wantCode(t, old(c), "")
	}
	wantCode(t, old(wasmatrix.RemoveProvider{Provider: "kv"}), wasmatrix.CodeCapabilityNotFound)
	s := m.fsm.State()
	if i := m.instance("i"); i.GrantsIndex != 0 || s.schema() != 1 {
		t.Errorf("old commands left assignments of index %d and a state of version %d", i.GrantsIndex, s.schema())
	}
	// What changes them from here on can be told from what they were.
	wantCode(t, m.do(wasmatrix.RevokeCapability{Instance: "i", Capability: "strange"}), "")
	if i := m.instance("i"); i.GrantsIndex != m.fsm.State().Index() {
		t.Errorf("a new command left assignments of index %d", i.GrantsIndex)
	}
}

// TestDenialsAreBounded: in number, and each in length.
func TestDenialsAreBounded(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	m.start("i", "n1", wasmatrix.RestartAlways)
	many := make([]wasmatrix.Denial, maxDenials+1)
	for n := range many {
		many[n] = wasmatrix.Denial{Instance: "i", Epoch: 1, Capability: "c", Operation: "kv.get", Reason: string(make([]byte, 2*wasmatrix.MaxReason)), Count: 12}
	}
	wantCode(t, m.do(wasmatrix.RecordDenials{Node: "n1", Boot: "boot-1", Denials: many}), wasmatrix.CodeInvalidRequest)
	if n := m.do(wasmatrix.RecordDenials{Node: "n1", Boot: "boot-1", Denials: many[1:]}); n != maxDenials {
		t.Fatalf("%d denials made %v facts", maxDenials, n)
	}
	_, last := m.fsm.State().FactRange()
	for f := range m.fsm.State().Facts(last) {
		if len(f.Reason) != wasmatrix.MaxReason || f.Reason[len(f.Reason)-11:] != " (12 times)" {
			t.Errorf("the reason is %d bytes, %q", len(f.Reason), f.Reason)
		}
	}
}
