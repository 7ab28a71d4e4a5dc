package store

import (
	"bytes"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// FuzzApply has any bytes for a command: it changes nothing, or the state is one
// that a snapshot can carry.
func FuzzApply(f *testing.F) {
	swap := setOf(2, "a", "v", 5)
	swap.Expect, swap.ID = new(uint64(0)), [16]byte{1}
	for _, c := range []command{
		setOf(1, "a", "v", 0), swap, &Delete{Caller: caller, Namespace: own, Key: "a", ID: [16]byte{2}},
		&RaiseFences{Fences: []Fence{{"i", 1, 2}}}, &Expire{At: 9, Limit: 3},
		&Drop{Namespaces: []Namespace{own}, Fences: []Fence{{Instance: "i"}}, Limit: 9},
	} {
		f.Add(must(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := full(t, 5, 3)
		func() {
			defer func() {
				if p := recover(); p != nil {
					if _, ok := p.(*UnknownCommandError); !ok {
						panic(p)
					}
				}
			}()
			if err, ok := s.Apply(2, b).(error); ok && wasmatrix.CodeOf(err) == wasmatrix.CodeInternal {
				t.Fatal(err)
			}
		}()
		r := New(Options{})
		if err := r.Restore(bytes.NewReader(saved(t, s))); err != nil {
			t.Fatal(err)
		}
		if r.Hash() != s.Hash() {
			t.Fatal("restored as another state")
		}
	})
}

// FuzzRestore has any bytes for a snapshot: what is accepted is written again as
// the same state.
func FuzzRestore(f *testing.F) {
	f.Add(saved(f, New(Options{})))
	f.Add(saved(f, full(f, 5, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New(Options{})
		if s.Restore(bytes.NewReader(b)) != nil {
			return
		}
		again := New(Options{})
		if err := again.Restore(bytes.NewReader(saved(t, s))); err != nil {
			t.Fatal(err)
		}
		if s.Hash() != again.Hash() {
			t.Fatal("written again as another state")
		}
	})
}
