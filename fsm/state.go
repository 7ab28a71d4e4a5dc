package fsm

import (
	"cmp"
	"iter"
	"slices"

	"github.com/tidwall/btree"

	"github.com/wasmatrix/wasmatrix"
)

// treeDegree is a compromise: a command that follows a copy copies one node of
// this many items at each level of each tree that it touches.
const treeDegree = 16

// State is the replicated state at one moment. What [FSM.State] returns is
// immutable and may be read on any goroutine for as long as it is held.
//
// The trees are copied in O(1) and share nodes with their copies until one of
// them is changed. Copying writes a number into the original that only changes
// read, never reads; so the copies are read while the original goes on, and all
// copying and changing happens under the FSM's lock.
type State struct {
	cluster wasmatrix.ClusterID
	index   uint64
	now     wasmatrix.Time

	instances *btree.Map[wasmatrix.InstanceID, *wasmatrix.Instance]
	nodes     *btree.Map[wasmatrix.NodeID, *nodeEntry]
	modules   *btree.Map[string, *moduleEntry] // by the digest's raw bytes
	names     *btree.Map[string, wasmatrix.Digest]
	providers *btree.Map[wasmatrix.ProviderID, *wasmatrix.Provider]
	// Slices in these two are replaced, never changed.
	assignments *btree.Map[wasmatrix.InstanceID, []*wasmatrix.Assignment] // sorted by ID, not empty
	crashes     *btree.Map[wasmatrix.InstanceID, []*wasmatrix.Crash]      // oldest first, not empty
	facts       ring[wasmatrix.Fact]                                      // numbered by their Index
	window      window

	// Indexes, derived from the records above.
	unplaced        *btree.BTreeG[*wasmatrix.Instance] // by (ModifyIndex, ID)
	final           *btree.BTreeG[*wasmatrix.Instance] // by (ModifyIndex, ID)
	statuses        [wasmatrix.StatusCrashed + 1]int
	assignmentCount int
	crashCount      int

	// owner tells what belongs to this copy alone: an entry with the same
	// number may be changed in place, any other must be cloned first.
	owner uint64
}

// nodeEntry is a node with what is derived from the instances placed on it.
type nodeEntry struct {
	node  *wasmatrix.Node
	usage wasmatrix.Capacity
	held  *btree.Map[wasmatrix.InstanceID, *wasmatrix.Instance]
	owner uint64
}

// moduleEntry is a module with its names and what is derived from its users.
type moduleEntry struct {
	module *wasmatrix.Module
	names  []string // sorted; replaced, never changed
	users  int      // instances that are not final
	owner  uint64
}

var _ wasmatrix.Snapshot = (*State)(nil)

func newState() *State {
	return &State{
		instances:   btree.NewMap[wasmatrix.InstanceID, *wasmatrix.Instance](treeDegree),
		nodes:       btree.NewMap[wasmatrix.NodeID, *nodeEntry](treeDegree),
		modules:     btree.NewMap[string, *moduleEntry](treeDegree),
		names:       btree.NewMap[string, wasmatrix.Digest](treeDegree),
		providers:   btree.NewMap[wasmatrix.ProviderID, *wasmatrix.Provider](treeDegree),
		assignments: btree.NewMap[wasmatrix.InstanceID, []*wasmatrix.Assignment](treeDegree),
		crashes:     btree.NewMap[wasmatrix.InstanceID, []*wasmatrix.Crash](treeDegree),
		facts:       newRing[wasmatrix.Fact](1),
		window:      newWindow(),
		unplaced:    newByModifyIndex(),
		final:       newByModifyIndex(),
	}
}

// newByModifyIndex orders instances by when they were last changed. It serves
// for statuses in which an instance is not changed without leaving them.
func newByModifyIndex() *btree.BTreeG[*wasmatrix.Instance] {
	return btree.NewBTreeGOptions(func(a, b *wasmatrix.Instance) bool {
		if a.ModifyIndex != b.ModifyIndex {
			return a.ModifyIndex < b.ModifyIndex
		}
		return a.ID < b.ID
	}, btree.Options{Degree: treeDegree, NoLocks: true})
}

// fork returns a copy of s for readers. From then on s clones what it shares
// with the copy before it changes it.
func (s *State) fork() *State {
	c := *s
	c.instances = s.instances.Copy()
	c.nodes = s.nodes.Copy()
	c.modules = s.modules.Copy()
	c.names = s.names.Copy()
	c.providers = s.providers.Copy()
	c.assignments = s.assignments.Copy()
	c.crashes = s.crashes.Copy()
	c.window.byID = s.window.byID.Copy()
	c.unplaced = s.unplaced.Copy()
	c.final = s.final.Copy()
	s.owner++
	return &c
}

// Cluster returns "" before the cluster has its identity.
func (s *State) Cluster() wasmatrix.ClusterID { return s.cluster }

// Index returns the log index of the last command in the state.
func (s *State) Index() uint64 { return s.index }

// Now returns the latest leader time of any command in the state.
func (s *State) Now() wasmatrix.Time { return s.now }

// Instance returns the record of an instance.
func (s *State) Instance(id wasmatrix.InstanceID) (*wasmatrix.Instance, bool) {
	return s.instances.Get(id)
}

// Instances yields the instances with an ID above after, by ID.
func (s *State) Instances(after wasmatrix.InstanceID) iter.Seq[*wasmatrix.Instance] {
	return func(yield func(*wasmatrix.Instance) bool) {
		s.instances.Ascend(after, func(id wasmatrix.InstanceID, i *wasmatrix.Instance) bool {
			return id == after || yield(i)
		})
	}
}

// InstancesOn yields the instances that hold a place on a node, by ID.
func (s *State) InstancesOn(node wasmatrix.NodeID) iter.Seq[*wasmatrix.Instance] {
	return func(yield func(*wasmatrix.Instance) bool) {
		if e, ok := s.nodes.Get(node); ok {
			e.held.Scan(func(_ wasmatrix.InstanceID, i *wasmatrix.Instance) bool { return yield(i) })
		}
	}
}

// Unplaced yields the pending and lost instances by the log index at which they
// became so.
func (s *State) Unplaced() iter.Seq[*wasmatrix.Instance] {
	return func(yield func(*wasmatrix.Instance) bool) { s.unplaced.Scan(yield) }
}

// InstanceCount returns the number of instances of any status.
func (s *State) InstanceCount() int { return s.instances.Len() }

// StatusCount returns the number of instances of a status.
func (s *State) StatusCount(st wasmatrix.Status) int {
	if int(st) >= len(s.statuses) {
		return 0
	}
	return s.statuses[st]
}

// Crashes returns the newest crashes of an instance, oldest first.
func (s *State) Crashes(id wasmatrix.InstanceID) []*wasmatrix.Crash {
	c, _ := s.crashes.Get(id)
	return slices.Clip(c)
}

// Node returns the record of a node.
func (s *State) Node(id wasmatrix.NodeID) (*wasmatrix.Node, bool) {
	e, ok := s.nodes.Get(id)
	if !ok {
		return nil, false
	}
	return e.node, true
}

// Nodes yields the nodes by ID.
func (s *State) Nodes() iter.Seq[*wasmatrix.Node] {
	return func(yield func(*wasmatrix.Node) bool) {
		s.nodes.Scan(func(_ wasmatrix.NodeID, e *nodeEntry) bool { return yield(e.node) })
	}
}

// Usage returns what the instances placed on a node take of it.
func (s *State) Usage(id wasmatrix.NodeID) wasmatrix.Capacity {
	if e, ok := s.nodes.Get(id); ok {
		return e.usage
	}
	return wasmatrix.Capacity{}
}

// Assignments yields the assignments of an instance by ID.
func (s *State) Assignments(id wasmatrix.InstanceID) iter.Seq[*wasmatrix.Assignment] {
	all, _ := s.assignments.Get(id)
	return slices.Values(all)
}

// Assignment returns one assignment of an instance.
func (s *State) Assignment(id wasmatrix.InstanceID, c wasmatrix.CapabilityID) (*wasmatrix.Assignment, bool) {
	all, _ := s.assignments.Get(id)
	at, ok := findAssignment(all, c)
	if !ok {
		return nil, false
	}
	return all[at], true
}

func findAssignment(all []*wasmatrix.Assignment, id wasmatrix.CapabilityID) (int, bool) {
	return slices.BinarySearchFunc(all, id, func(a *wasmatrix.Assignment, id wasmatrix.CapabilityID) int {
		return cmp.Compare(a.ID, id)
	})
}

// Provider returns the record of a provider.
func (s *State) Provider(id wasmatrix.ProviderID) (*wasmatrix.Provider, bool) {
	return s.providers.Get(id)
}

// Providers yields the providers by ID.
func (s *State) Providers() iter.Seq[*wasmatrix.Provider] {
	return func(yield func(*wasmatrix.Provider) bool) {
		s.providers.Scan(func(_ wasmatrix.ProviderID, p *wasmatrix.Provider) bool { return yield(p) })
	}
}

// Module returns the record of a module.
func (s *State) Module(d wasmatrix.Digest) (*wasmatrix.Module, bool) {
	e, ok := s.modules.Get(string(d[:]))
	if !ok {
		return nil, false
	}
	return e.module, true
}

// ModuleNamed returns the module that a name points at.
func (s *State) ModuleNamed(name string) (*wasmatrix.Module, bool) {
	d, ok := s.names.Get(name)
	if !ok {
		return nil, false
	}
	return s.Module(d)
}

// ModuleNames returns the names that point at a module, sorted.
func (s *State) ModuleNames(d wasmatrix.Digest) []string {
	if e, ok := s.modules.Get(string(d[:])); ok {
		return slices.Clip(e.names)
	}
	return nil
}

// Modules yields the modules by digest.
func (s *State) Modules() iter.Seq[*wasmatrix.Module] {
	return func(yield func(*wasmatrix.Module) bool) {
		s.modules.Scan(func(_ string, e *moduleEntry) bool { return yield(e.module) })
	}
}

// ModuleUsers returns the number of instances that are not final and run a module.
func (s *State) ModuleUsers(d wasmatrix.Digest) int {
	if e, ok := s.modules.Get(string(d[:])); ok {
		return e.users
	}
	return 0
}

// FactRange returns the indexes of the oldest fact kept and the newest; (1, 0)
// when there is none yet.
func (s *State) FactRange() (first, last uint64) { return s.facts.first, s.facts.next - 1 }

// Facts yields the facts kept from an index on.
func (s *State) Facts(from uint64) iter.Seq[*wasmatrix.Fact] {
	return func(yield func(*wasmatrix.Fact) bool) {
		for _, f := range s.facts.from(from) {
			if !yield(f) {
				return
			}
		}
	}
}

// Answered returns what an earlier command with this request ID created or
// concerned, and whether there was one within the window. A request with
// another body is CONFLICT.
func (s *State) Answered(r wasmatrix.Request) (instances []wasmatrix.InstanceID, ok bool, err error) {
	e, conflict := s.window.find(r)
	switch {
	case conflict != nil:
		return nil, false, conflict
	case e == nil:
		return nil, false, nil
	default:
		return slices.Clip(e.instances), true, nil
	}
}
