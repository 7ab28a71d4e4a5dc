package fsm

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// seesAll fails for each field of T that the canonical form leaves out.
func seesAll[T any](t *testing.T, form func(*T) []byte) {
	t.Helper()
	v := filled[T](1)
	before := form(&v)
	eachMutation(reflect.TypeFor[T]().Name(), reflect.ValueOf(&v).Elem(), func(path string) {
		if bytes.Equal(form(&v), before) {
			t.Errorf("the hash does not depend on %s", path)
		}
	})
	if !bytes.Equal(form(&v), before) {
		t.Error("the form of one value differs from call to call")
	}
}

func TestHashSeesEveryField(t *testing.T) {
	seesAll(t, func(s *wasmatrix.Spec) []byte { return appendSpec(nil, s, hashVersion) })
	seesAll(t, func(i *wasmatrix.Instance) []byte {
		if i.Spec == nil {
			return appendInstance(nil, i, nil, hashVersion)
		}
		sum := sha256.Sum256(appendSpec(nil, i.Spec, hashVersion))
		return appendInstance(nil, i, sum[:], hashVersion)
	})
	seesAll(t, func(n *wasmatrix.Node) []byte { return appendNode(nil, n) })
	seesAll(t, func(m *wasmatrix.Module) []byte { return appendModule(nil, m) })
	seesAll(t, func(p *wasmatrix.Provider) []byte { return appendProvider(nil, p) })
	seesAll(t, func(a *wasmatrix.Assignment) []byte { return appendAssignment(nil, a, hashVersion) })
	seesAll(t, func(c *wasmatrix.Crash) []byte { return appendCrash(nil, c, hashVersion) })
	// A fact's index is its place, which Hash writes once for all.
	seesAll(t, func(f *wasmatrix.Fact) []byte { return appendUint(appendFact(nil, f), f.Index) })
}

// fullState has one record of every kind with every field set.
func fullState() *State {
	s := newState()
	s.cluster, s.index, s.now = "cluster", 10_000, 20_000
	m := filled[wasmatrix.Module](1)
	s.putModule(&m)
	s.putName("one", m.Digest)
	s.putName("two", m.Digest)
	n := filled[wasmatrix.Node](2)
	s.putNode(&n)
	p := filled[wasmatrix.Provider](3)
	s.providers.Set(p.ID, &p)
	i := filled[wasmatrix.Instance](4)
	i.Spec.Module, i.Node, i.Status = m.Digest, n.ID, wasmatrix.StatusRunning
	s.putInstance(nil, &i)
	a := filled[wasmatrix.Assignment](5)
	a.Instance = i.ID
	s.putAssignments(i.ID, []*wasmatrix.Assignment{&a})
	c := filled[wasmatrix.Crash](6)
	s.putCrashes(i.ID, []*wasmatrix.Crash{&c})
	s.window.add(&request{id: "r", body: [16]byte{1, 2}, at: 7, instances: []wasmatrix.InstanceID{"a", "b"}})
	s.facts = newRing[wasmatrix.Fact](41)
	f := filled[wasmatrix.Fact](7)
	f.Index = 41
	s.facts.push(f)
	return s
}

func TestHashSeesEverySection(t *testing.T) {
	seen := map[[32]byte]string{fullState().Hash(): "untouched"}
	for name, change := range map[string]func(*State){
		"index":       func(s *State) { s.index++ },
		"now":         func(s *State) { s.now++ },
		"instance":    func(s *State) { i := s.instances.Values()[0]; j := *i; j.Seq++; s.putInstance(i, &j) },
		"node":        func(s *State) { n := *s.nodes.Values()[0].node; n.Draining = false; s.putNode(&n) },
		"module":      func(s *State) { m := *s.modules.Values()[0].module; m.Size++; s.putModule(&m) },
		"name":        func(s *State) { s.putName("three", s.modules.Values()[0].module.Digest) },
		"provider":    func(s *State) { p := *s.providers.Values()[0]; p.Revision++; s.providers.Set(p.ID, &p) },
		"assignments": func(s *State) { s.putAssignments(s.instances.Keys()[0], nil) },
		"crashes":     func(s *State) { s.putCrashes(s.instances.Keys()[0], nil) },
		"request":     func(s *State) { s.window.add(&request{id: "r2"}) },
		"request instances": func(s *State) {
			(*s.window.byAge.at(0)).instances = []wasmatrix.InstanceID{"ab"}
		},
		"fact":       func(s *State) { s.facts.push(wasmatrix.Fact{}) },
		"fact index": func(s *State) { f := *s.facts.at(41); s.facts = newRing[wasmatrix.Fact](42); s.facts.push(f) },
	} {
		s := fullState()
		change(s)
		h := s.Hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%s has the hash of %s", name, other)
		}
		seen[h] = name
	}
	moved := fullState()
	moved.cluster = "other"
	if moved.Hash() != fullState().Hash() {
		t.Error("the hash depends on the cluster's ID, so a state that is moved to another cluster cannot be compared")
	}
}

// TestHashIgnoresSharing: equal specs hash alike whether they are one or two.
func TestHashIgnoresSharing(t *testing.T) {
	one, two := fullState(), fullState()
	i := one.instances.Values()[0]
	other := *i
	other.ID = "other"
	one.putInstance(nil, &other)
	spec := *i.Spec
	alone := other
	alone.Spec = &spec
	two.putInstance(nil, &alone)
	if one.Hash() != two.Hash() {
		t.Error("the hash depends on whether specs are shared")
	}
}
