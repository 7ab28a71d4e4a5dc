package store

import (
	"github.com/wasmatrix/wasmatrix"
	kvpb "github.com/wasmatrix/wasmatrix/gen/kv"
)

// admit refuses a caller whose epoch was superseded. One that is exclusive and
// comes through has superseded those before it.
func (t *tx) admit(c *kvpb.Caller) *wasmatrix.Error {
	f := Fence{wasmatrix.InstanceID(c.GetInstance()), c.GetIncarnation(), c.GetEpoch()}
	if err := t.fenced(f); err != nil {
		return err
	}
	if c.GetExclusive() {
		t.raise(f)
	}
	return nil
}

// fenced reports PERMISSION_DENIED where the epoch of a caller was superseded.
func (s *state) fenced(caller Fence) *wasmatrix.Error {
	if s.fences.Len() == 0 {
		return nil
	}
	f, ok := s.fences.Get(caller)
	if !ok || caller.Epoch >= f.Epoch {
		return nil
	}
	return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "epoch %d of instance %s was superseded: calls are taken from epoch %d on", caller.Epoch, caller.Instance, f.Epoch)
}

// raise returns the fence in force after it.
func (s *state) raise(f Fence) Fence {
	if old, ok := s.fences.Get(f); ok && old.Epoch >= f.Epoch {
		return old
	}
	s.fences.Set(f)
	return f
}

func (t *tx) raiseFences(c *kvpb.RaiseFences) any {
	fences := fencesOf(c.GetFences())
	for _, f := range fences {
		if badText(string(f.Instance)) {
			return malformed("fence")
		}
	}
	for i, f := range fences {
		fences[i] = t.raise(f)
	}
	return fences
}

func (t *tx) drop(c *kvpb.Drop) any {
	for _, f := range fencesOf(c.GetFences()) {
		t.fences.Delete(f)
	}
	limit := int(c.GetLimit())
	var answer Removed
	for _, n := range c.GetNamespaces() {
		id := namespaceOf(n)
		for ; answer.Entries < limit; answer.Entries++ {
			ns := t.find(id)
			if ns == nil {
				break
			}
			key, _, _ := ns.keys.Min()
			t.remove(ns, key)
		}
		if t.find(id) != nil {
			answer.More = true
			break
		}
	}
	return answer
}

func fencesOf(m []*kvpb.Fence) []Fence {
	all := make([]Fence, len(m))
	for i, f := range m {
		all[i] = Fence{wasmatrix.InstanceID(f.GetInstance()), f.GetIncarnation(), f.GetEpoch()}
	}
	return all
}
