package fsm

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
)

// fullCommands has every command with every field set.
func fullCommands() []wasmatrix.Command {
	register := filled[wasmatrix.RegisterNode](100)
	register.Registration.Holding = nil // not replicated
	denials := filled[wasmatrix.RecordDenials](1700)
	for n := range denials.Denials {
		denials.Denials[n].At = 0 // not replicated
	}
	return []wasmatrix.Command{
		filled[wasmatrix.InitCluster](1),
		register,
		filled[wasmatrix.MarkNodeDown](200),
		filled[wasmatrix.DrainNode](300),
		filled[wasmatrix.ForgetNode](400),
		filled[wasmatrix.StartInstances](500),
		filled[wasmatrix.PlaceInstances](600),
		filled[wasmatrix.StopInstances](700),
		filled[wasmatrix.RestartInstance](800),
		filled[wasmatrix.ApplyReports](900),
		filled[wasmatrix.AssignCapability](1000),
		filled[wasmatrix.RevokeCapability](1100),
		filled[wasmatrix.PutProvider](1200),
		filled[wasmatrix.RemoveProvider](1300),
		filled[wasmatrix.AddModule](1400),
		filled[wasmatrix.RemoveModule](1500),
		filled[wasmatrix.CollectGarbage](1600),
		denials,
	}
}

func TestEncodeKeepsEveryField(t *testing.T) {
	all := fullCommands()
	kinds := (&log.Envelope{}).ProtoReflect().Descriptor().Oneofs().ByName("command").Fields().Len()
	if len(all) != kinds {
		t.Fatalf("the schema has %d commands, this test %d", kinds, len(all))
	}
	for _, c := range all {
		b, err := Encode(c)
		if err != nil {
			t.Fatalf("%T: %v", c, err)
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatalf("%T: %v", c, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%T came back as\n%+v, not\n%+v", c, got, c)
		}
	}
}

func TestP16_CommandsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var gen commandGen
		m := newMachine(t, smallOptions)
		gen.warm(m)
		for range 20 {
			c := gen.draw(t, m.fsm.State())
			b, err := Encode(c)
			if err != nil {
				t.Fatalf("encode: %v", err)
			}
			got, err := Decode(b)
			if err != nil || !reflect.DeepEqual(got, c) {
				t.Fatalf("%+v came back as %+v, %v", c, got, err)
			}
			again, err := Encode(got)
			if err != nil || !bytes.Equal(b, again) {
				t.Fatalf("%T has two encodings: %v", c, err)
			}
			m.apply(b)
		}
	})
}

func TestEnumerationsMatchTheSchema(t *testing.T) {
	check := func(prefix, ours, schema string) {
		t.Helper()
		if want := prefix + strings.ToUpper(ours); schema != want {
			t.Errorf("the schema says %s, we say %s", schema, want)
		}
	}
	for s := wasmatrix.StatusPending; s <= wasmatrix.StatusCrashed; s++ {
		check("STATUS_", s.String(), log.Status(s).String())
	}
	for m := wasmatrix.RestartNever; m <= wasmatrix.RestartAlways; m++ {
		check("RESTART_MODE_", m.String(), log.RestartMode(m+1).String())
	}
	for k := wasmatrix.ModuleCommand; k <= wasmatrix.ModuleReactor; k++ {
		check("MODULE_KIND_", k.String(), log.ModuleKind(k).String())
	}
	for s := wasmatrix.NodeUp; s <= wasmatrix.NodeDown; s++ {
		check("NODE_STATUS_", s.String(), log.NodeStatus(s).String())
	}
	for op, name := range map[wasmatrix.ConstraintOp]string{
		wasmatrix.ConstraintEquals: "equals", wasmatrix.ConstraintNotEquals: "not_equals", wasmatrix.ConstraintIn: "in",
		wasmatrix.ConstraintNotIn: "not_in", wasmatrix.ConstraintExists: "exists", wasmatrix.ConstraintAbsent: "absent",
	} {
		check("CONSTRAINT_OP_", name, log.ConstraintOp(op+1).String())
	}
}

func TestUnknownCommands(t *testing.T) {
	future := func(ignorable bool, version uint32) []byte {
		b, err := proto.Marshal(&log.Envelope{Version: version, Ignorable: ignorable, At: 5})
		if err != nil {
			t.Fatal(err)
		}
		b = protowire.AppendTag(b, 4711, protowire.BytesType)
		return protowire.AppendBytes(b, []byte("whatever"))
	}
	newer, err := proto.Marshal(&log.Envelope{Version: SchemaVersion + 1, Command: &log.Envelope_InitCluster{InitCluster: &log.InitCluster{Cluster: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	retyped := protowire.AppendTag(nil, 16, protowire.BytesType) // init_cluster with another inside
	retyped = protowire.AppendBytes(retyped, []byte{0xff})
	retyped = protowire.AppendVarint(protowire.AppendTag(retyped, 1, protowire.VarintType), SchemaVersion+1)

	for name, b := range map[string][]byte{
		"command": future(false, 1), "version": newer, "command and version": future(false, 9), "other types": retyped,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, Options{}).seed()
			before := m.fsm.State().Hash()
			func() {
				defer func() {
					e, ok := recover().(*UnknownCommandError)
					if !ok || !strings.Contains(e.Error(), "newer release") {
						t.Errorf("panicked with %v", e)
					}
				}()
				m.apply(b)
				t.Error("an unknown command did not stop the peer")
			}()
			if m.fsm.State().Hash() != before {
				t.Error("an unknown command changed the state")
			}
		})
	}
	m := newMachine(t, Options{}).seed("n1")
	facts := m.fsm.State().facts.len()
	if answer := m.apply(future(true, 9)); answer != nil {
		t.Errorf("an ignorable command was answered with %v", answer)
	}
	if s := m.fsm.State(); s.Index() != uint64(len(m.log)) || s.facts.len() != facts {
		t.Error("an ignorable command must move the index and nothing else")
	}
}

func TestMalformedCommands(t *testing.T) {
	body := make([]byte, 15)
	for name, env := range map[string]*log.Envelope{
		"empty":           {Version: 1},
		"status":          {Version: 1, Command: &log.Envelope_ApplyReports{ApplyReports: &log.ApplyReports{Reports: []*log.Report{{Status: 99}}}}},
		"restart mode":    {Version: 1, Command: &log.Envelope_StartInstances{StartInstances: &log.StartInstances{Items: []*log.StartItem{{Spec: &log.Spec{Module: make([]byte, 32)}}}}}},
		"digest":          {Version: 1, Command: &log.Envelope_RemoveModule{RemoveModule: &log.RemoveModule{Digest: []byte("short")}}},
		"request body":    {Version: 1, Command: &log.Envelope_RestartInstance{RestartInstance: &log.RestartInstance{Request: &log.Request{Id: "r", Body: body}}}},
		"constraint":      {Version: 1, Command: &log.Envelope_PutProvider{PutProvider: &log.PutProvider{Provider: &log.Provider{Id: "p", Constraints: []*log.Constraint{{Op: 77}}}}}},
		"module kind":     {Version: 1, Command: &log.Envelope_AddModule{AddModule: &log.AddModule{Module: &log.Module{Digest: make([]byte, 32), Kind: 9}}}},
		"no module":       {Version: 1, Command: &log.Envelope_AddModule{AddModule: &log.AddModule{}}},
		"no provider":     {Version: 1, Command: &log.Envelope_PutProvider{PutProvider: &log.PutProvider{}}},
		"no assignment":   {Version: 1, Command: &log.Envelope_AssignCapability{AssignCapability: &log.AssignCapability{}}},
		"no registration": {Version: 1, Command: &log.Envelope_RegisterNode{RegisterNode: &log.RegisterNode{}}},
		"endless ID":      {Version: 1, Command: &log.Envelope_DrainNode{DrainNode: &log.DrainNode{Request: &log.Request{Id: strings.Repeat("x", 300), Body: make([]byte, 16)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := proto.Marshal(env)
			if err != nil {
				t.Fatal(err)
			}
			m := newMachine(t, Options{}).seed()
			facts := m.fsm.State().facts.len()
			wantCode(t, m.apply(b), wasmatrix.CodeInvalidRequest)
			if s := m.fsm.State(); s.facts.len() != facts || s.Index() != uint64(len(m.log)) {
				t.Error("a malformed command must move the index and nothing else")
			}
		})
	}
	t.Run("garbage", func(t *testing.T) {
		m := newMachine(t, Options{})
		wantCode(t, m.apply([]byte("\xff\xff\xff")), wasmatrix.CodeInvalidRequest)
	})
	for name, it := range map[string]wasmatrix.StartItem{
		"no spec":       {Placements: []wasmatrix.Placement{{Instance: "i"}}},
		"no placements": {Spec: testSpec(0)},
		"no ID":         {Spec: testSpec(0), Placements: []wasmatrix.Placement{{}}},
		"overflow":      {Spec: &wasmatrix.Spec{Module: testModule, Limits: wasmatrix.Limits{Memory: 1 << 63}}, Placements: []wasmatrix.Placement{{Instance: "i"}}},
		"twice the same assignment": {
			Spec: testSpec(0), Placements: []wasmatrix.Placement{{Instance: "i"}},
			Assignments: []*wasmatrix.Assignment{{ID: "c", Grant: wasmatrix.Grant{Type: wasmatrix.ProviderKV}}, {ID: "c", Grant: wasmatrix.Grant{Type: wasmatrix.ProviderKV}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, Options{}).seed("n1")
			r := m.do(wasmatrix.StartInstances{Items: []wasmatrix.StartItem{it}}).([]wasmatrix.StartResult)
			wantCode(t, r[0].Err, wasmatrix.CodeInvalidRequest)
			if m.fsm.State().InstanceCount() != 0 {
				t.Error("something was started")
			}
		})
	}
}

type foreignCommand struct{ wasmatrix.Command }

func TestEncodeRefuses(t *testing.T) {
	_, err := Encode(foreignCommand{})
	wantCode(t, err, wasmatrix.CodeInternal)
	_, err = Encode(wasmatrix.MarkNodeDown{Node: "n", Reason: "\xff"})
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
	if _, err := Decode(nil); errors.As(err, new(*UnknownCommandError)) || err == nil {
		t.Errorf("nothing decodes as %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range fullCommands() {
		b, err := Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if (c == nil) == (err == nil) {
			t.Fatalf("decoded %v, %v", c, err)
		}
		if err != nil {
			return
		}
		// Whatever decodes is applied alike by two peers, and leaves a sound state.
		one, two := newMachine(t, smallOptions).seed("n1"), newMachine(t, smallOptions).seed("n1")
		one.apply(b)
		two.fsm = throughSnapshot(t, two.fsm.State(), smallOptions)
		two.apply(b)
		checkInvariants(t, one.fsm.State(), smallOptions)
		if one.fsm.State().Hash() != two.fsm.State().Hash() {
			t.Fatal("two peers differ")
		}
		again, err := Encode(c)
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		if c2, err := Decode(again); err != nil || reflect.TypeOf(c2) != reflect.TypeOf(c) {
			t.Fatalf("decoded again: %v, %v", c2, err)
		}
	})
}
