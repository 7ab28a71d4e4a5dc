package wasmatrix

import "iter"

// Snapshot is an immutable view of the replicated state at one log index.
// Taking one costs a pointer; it may be held and read from any goroutine, and
// what it hands out must not be changed. Sequences are in the order said.
type Snapshot interface {
	// Cluster is "" before the cluster has its identity.
	Cluster() ClusterID
	// Index is the log index of the last command in the view.
	Index() uint64
	// Now is the latest leader time of any command in the view.
	Now() Time

	Instance(InstanceID) (*Instance, bool)
	// Instances yields all with an ID above after, by ID.
	Instances(after InstanceID) iter.Seq[*Instance]
	// InstancesOn yields those that hold a place on a node, by ID.
	InstancesOn(NodeID) iter.Seq[*Instance]
	// Unplaced yields pending and lost instances that are not asked to stop, by
	// the log index at which they became so.
	Unplaced() iter.Seq[*Instance]
	InstanceCount() int
	// StatusCount counts the instances of a status.
	StatusCount(Status) int
	// Crashes returns the newest crashes of an instance, oldest first.
	Crashes(InstanceID) []*Crash

	Node(NodeID) (*Node, bool)
	Nodes() iter.Seq[*Node] // by ID
	// Usage is what the instances placed on a node take of it.
	Usage(NodeID) Capacity

	Assignments(InstanceID) iter.Seq[*Assignment] // by ID
	Assignment(InstanceID, CapabilityID) (*Assignment, bool)
	Provider(ProviderID) (*Provider, bool)
	Providers() iter.Seq[*Provider] // by ID

	Module(Digest) (*Module, bool)
	ModuleNamed(name string) (*Module, bool)
	ModuleNames(Digest) []string // sorted
	Modules() iter.Seq[*Module]  // by digest
	// ModuleUsers counts the instances that are not final and run it.
	ModuleUsers(Digest) int

	// FactRange returns the indexes of the oldest fact kept and the newest;
	// (1, 0) when there is none yet.
	FactRange() (first, last uint64)
	// Facts yields the facts kept from an index on.
	Facts(from uint64) iter.Seq[*Fact]

	// Answered returns what an earlier command with this request ID created or
	// concerned, and whether there was one within the window that is remembered.
	// A request with another body is CONFLICT.
	Answered(Request) (instances []InstanceID, ok bool, err error)
}
