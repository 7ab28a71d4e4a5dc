package fsm

import (
	"bytes"
	"errors"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// fataler is what the helpers need of *testing.T, *testing.B and *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// machine feeds a state machine and keeps the log.
type machine struct {
	tb  fataler
	fsm *FSM
	log [][]byte
	now wasmatrix.Time
}

func newMachine(tb fataler, opts Options) *machine {
	return &machine{tb: tb, fsm: New(opts), now: wasmatrix.TimeOf(time.Unix(1_000_000, 0))}
}

// do applies a command under the next log index.
func (m *machine) do(c wasmatrix.Command) any {
	m.tb.Helper()
	b, err := Encode(c)
	if err != nil {
		m.tb.Fatalf("encode %#v: %v", c, err)
	}
	return m.apply(b)
}

func (m *machine) apply(b []byte) any {
	m.log = append(m.log, b)
	return m.fsm.Apply(uint64(len(m.log)), b)
}

// tick moves the leader's clock and returns it.
func (m *machine) tick(d time.Duration) wasmatrix.Time {
	m.now += wasmatrix.Time(d)
	return m.now
}

func (m *machine) instance(id wasmatrix.InstanceID) *wasmatrix.Instance {
	m.tb.Helper()
	i, ok := m.fsm.State().Instance(id)
	if !ok {
		m.tb.Fatalf("no instance %s", id)
	}
	return i
}

var testModule = digestOf("m")

func digestOf(name string) wasmatrix.Digest { return wasmatrix.DigestOf([]byte(name)) }

// seed gives the machine a cluster ID, a module and nodes with plenty of room.
func (m *machine) seed(nodes ...wasmatrix.NodeID) *machine {
	m.do(wasmatrix.InitCluster{At: m.now, Cluster: "test"})
	m.do(wasmatrix.AddModule{At: m.now, Module: &wasmatrix.Module{Digest: testModule, Size: 1, Kind: wasmatrix.ModuleCommand}, Name: "m"})
	for _, n := range nodes {
		m.register(n, "boot-1")
	}
	return m
}

func (m *machine) register(n wasmatrix.NodeID, boot wasmatrix.BootID) *wasmatrix.Node {
	m.tb.Helper()
	node, ok := m.do(wasmatrix.RegisterNode{At: m.now, Registration: wasmatrix.Registration{
		ID: n, Boot: boot, Addr: "127.0.0.1:1", Capacity: wasmatrix.Capacity{Memory: 1 << 50, Instances: 1 << 30},
	}}).(*wasmatrix.Node)
	if !ok {
		m.tb.Fatalf("node %s was not registered", n)
	}
	return node
}

func testSpec(mode wasmatrix.RestartMode) *wasmatrix.Spec {
	s := wasmatrix.Spec{Module: testModule, ModuleName: "m", Restart: wasmatrix.RestartPolicy{Mode: mode}}.WithDefaults()
	return &s
}

func (m *machine) start(id wasmatrix.InstanceID, node wasmatrix.NodeID, mode wasmatrix.RestartMode) {
	m.tb.Helper()
	r := m.do(wasmatrix.StartInstances{At: m.now, Items: []wasmatrix.StartItem{{
		Spec: testSpec(mode), Placements: []wasmatrix.Placement{{Instance: id, Node: node}},
	}}}).([]wasmatrix.StartResult)
	if r[0].Err != nil {
		m.tb.Fatalf("start %s: %v", id, r[0].Err)
	}
}

func (m *machine) report(node wasmatrix.NodeID, boot wasmatrix.BootID, reports ...wasmatrix.Report) []bool {
	return m.do(wasmatrix.ApplyReports{At: m.now, Node: node, Boot: boot, Reports: reports}).([]bool)
}

// throughSnapshot returns a new state machine with the state that s has after
// it was written and read.
func throughSnapshot(tb fataler, s *State, opts Options) *FSM {
	tb.Helper()
	var buf bytes.Buffer
	if err := s.WriteSnapshot(&buf); err != nil {
		tb.Fatalf("write snapshot: %v", err)
	}
	f := New(opts)
	if err := f.Restore(&buf); err != nil {
		tb.Fatalf("restore: %v", err)
	}
	return f
}

// wantCode fails unless an answer is an error of a code; "" stands for none.
func wantCode(tb fataler, answer any, code wasmatrix.Code) {
	tb.Helper()
	err, _ := answer.(error)
	if e, ok := errors.AsType[*wasmatrix.Error](err); ok && e == nil {
		tb.Fatalf("a typed nil leaked")
	}
	if got := wasmatrix.CodeOf(err); got != code {
		tb.Fatalf("answer %v, want code %q", answer, code)
	}
}
