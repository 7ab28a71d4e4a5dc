package fsm

import (
	"slices"

	"github.com/tidwall/btree"

	"github.com/wasmatrix/wasmatrix"
)

// The functions of this file are the only ones that write the trees. They keep
// the derived indexes as the records are.

// putInstance records i in place of old, which is the present record, or nil
// for a new instance.
func (s *State) putInstance(old, i *wasmatrix.Instance) {
	if old != nil && old.Status.OnNode() && i.Status.OnNode() && old.Node == i.Node {
		// The common case, a report: the place stays taken.
		s.statuses[old.Status]--
		s.statuses[i.Status]++
		s.instances.Set(i.ID, i)
		s.ownNode(i.Node).held.Set(i.ID, i)
		return
	}
	if old != nil {
		s.unindex(old)
	}
	s.instances.Set(i.ID, i)
	s.statuses[i.Status]++
	if !i.Status.Final() {
		s.addUser(i.Spec.Module, +1)
	}
	switch {
	case i.Status.OnNode():
		n := s.ownNode(i.Node)
		n.held.Set(i.ID, i)
		n.usage = n.usage.Plus(i.Spec.Demand())
	case i.Status.Unplaced():
		s.unplaced.Set(i)
	case i.Status.Final():
		s.final.Set(i)
	}
}

// unindex undoes what putInstance did for i, but for the record itself.
func (s *State) unindex(i *wasmatrix.Instance) {
	s.statuses[i.Status]--
	if !i.Status.Final() {
		s.addUser(i.Spec.Module, -1)
	}
	switch {
	case i.Status.OnNode():
		n := s.ownNode(i.Node)
		n.held.Delete(i.ID)
		n.usage = n.usage.Minus(i.Spec.Demand())
	case i.Status.Unplaced():
		s.unplaced.Delete(i)
	case i.Status.Final():
		s.final.Delete(i)
	}
}

// dropInstance removes every record of an instance.
func (s *State) dropInstance(i *wasmatrix.Instance) {
	s.unindex(i)
	s.instances.Delete(i.ID)
	s.putAssignments(i.ID, nil)
	s.putCrashes(i.ID, nil)
}

func (s *State) putAssignments(id wasmatrix.InstanceID, all []*wasmatrix.Assignment) {
	var old []*wasmatrix.Assignment
	if len(all) == 0 {
		if s.assignments.Len() == 0 {
			return
		}
		old, _ = s.assignments.Delete(id)
	} else {
		old, _ = s.assignments.Set(id, all)
	}
	s.assignmentCount += len(all) - len(old)
}

func (s *State) putCrashes(id wasmatrix.InstanceID, all []*wasmatrix.Crash) {
	var old []*wasmatrix.Crash
	if len(all) == 0 {
		if s.crashes.Len() == 0 {
			return
		}
		old, _ = s.crashes.Delete(id)
	} else {
		old, _ = s.crashes.Set(id, all)
	}
	s.crashCount += len(all) - len(old)
}

// addCrash appends to the bounded history of an instance.
func (s *State) addCrash(id wasmatrix.InstanceID, c *wasmatrix.Crash) {
	old, _ := s.crashes.Get(id)
	if len(old) >= wasmatrix.MaxCrashes {
		old = old[len(old)-wasmatrix.MaxCrashes+1:]
	}
	s.putCrashes(id, append(slices.Clone(old), c))
}

// putNode records a node, new or known.
func (s *State) putNode(n *wasmatrix.Node) {
	if _, ok := s.nodes.Get(n.ID); ok {
		s.ownNode(n.ID).node = n
		return
	}
	s.nodes.Set(n.ID, &nodeEntry{
		node:  n,
		held:  btree.NewMap[wasmatrix.InstanceID, *wasmatrix.Instance](treeDegree),
		owner: s.owner,
	})
}

// ownNode returns the entry of a node that is known, to be changed in place.
func (s *State) ownNode(id wasmatrix.NodeID) *nodeEntry {
	e, ok := s.nodes.Get(id)
	if !ok {
		panic("fsm: an instance is placed on unknown node " + string(id))
	}
	if e.owner != s.owner {
		c := *e
		c.held = e.held.Copy()
		c.owner = s.owner
		e = &c
		s.nodes.Set(id, e)
	}
	return e
}

// putModule records a module, new or known.
func (s *State) putModule(m *wasmatrix.Module) {
	key := string(m.Digest[:])
	if _, ok := s.modules.Get(key); ok {
		s.ownModule(m.Digest).module = m
		return
	}
	s.modules.Set(key, &moduleEntry{module: m, owner: s.owner})
}

// ownModule returns the entry of a module to be changed in place, or nil.
func (s *State) ownModule(d wasmatrix.Digest) *moduleEntry {
	key := string(d[:])
	e, ok := s.modules.Get(key)
	if !ok {
		return nil
	}
	if e.owner != s.owner {
		c := *e
		c.owner = s.owner
		e = &c
		s.modules.Set(key, e)
	}
	return e
}

// addUser counts n more users of a module. Instances that are not final keep
// their module from being removed, so it is known.
func (s *State) addUser(d wasmatrix.Digest, n int) { s.ownModule(d).users += n }

// putName points a name at a module that is known.
func (s *State) putName(name string, d wasmatrix.Digest) {
	if old, ok := s.names.Get(name); ok {
		if old == d {
			return
		}
		e := s.ownModule(old)
		e.names = slices.DeleteFunc(slices.Clone(e.names), func(n string) bool { return n == name })
	}
	s.names.Set(name, d)
	e := s.ownModule(d)
	at, _ := slices.BinarySearch(e.names, name)
	e.names = slices.Insert(slices.Clone(e.names), at, name)
}

// dropModule removes a module's record and names.
func (s *State) dropModule(d wasmatrix.Digest) {
	e, ok := s.modules.Delete(string(d[:]))
	if !ok {
		return
	}
	for _, name := range e.names {
		s.names.Delete(name)
	}
}
