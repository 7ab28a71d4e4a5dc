package wasmatrix

import "time"

// NodeStatus says whether a node may be given instances.
type NodeStatus uint8

// The states of a node.
const (
	NodeUnknown NodeStatus = iota
	NodeUp
	NodeDown // its lease ran out or its process is known to be gone
)

// String returns the lower-case name.
func (s NodeStatus) String() string {
	switch s {
	case NodeUp:
		return "up"
	case NodeDown:
		return "down"
	default:
		return "unknown"
	}
}

// Capacity is what a node offers to instances, or what they take of it.
type Capacity struct {
	Memory    uint64 // bytes: the sum of the instances' memory limits
	Instances uint32
}

// Fits reports whether c and more together stay within limit.
func (c Capacity) Fits(more, limit Capacity) bool {
	return c.Memory <= limit.Memory && more.Memory <= limit.Memory-c.Memory &&
		c.Instances <= limit.Instances && more.Instances <= limit.Instances-c.Instances
}

// Plus returns the sum.
func (c Capacity) Plus(d Capacity) Capacity {
	return Capacity{Memory: c.Memory + d.Memory, Instances: c.Instances + d.Instances}
}

// Minus returns the difference; d is at most c.
func (c Capacity) Minus(d Capacity) Capacity {
	return Capacity{Memory: c.Memory - d.Memory, Instances: c.Instances - d.Instances}
}

// Demand is what one instance of this spec takes of a node's capacity.
func (s *Spec) Demand() Capacity { return Capacity{Memory: s.Limits.Memory, Instances: 1} }

// Node is the replicated record of a worker node. It is immutable.
type Node struct {
	ID       NodeID
	Boot     BootID // of the process that registered last
	Addr     string // host:port of its NodeAgentService
	Version  string
	Labels   map[string]string // includes LabelNode
	Capacity Capacity
	Status   NodeStatus
	Draining bool // takes no new instances
	Reason   string
	// RegisteredAt and ChangedAt are leader time.
	RegisteredAt, ChangedAt Time
	CreateIndex             uint64
	ModifyIndex             uint64
}

// Eligible reports whether new instances may be placed on the node.
func (n *Node) Eligible() bool { return n.Status == NodeUp && !n.Draining }

// Registration is what a node tells the leader when it starts, when it first
// meets a leader, and when the leader asks for it.
type Registration struct {
	ID       NodeID
	Boot     BootID
	Addr     string
	Version  string
	Labels   map[string]string
	Capacity Capacity
	// Holding lists every instance that the node runs or has ended without
	// the leader's acknowledgement.
	Holding []Holding
}

// Holding is one instance as its node knows it.
type Holding struct {
	Instance InstanceID
	Epoch    uint64
	Status   Status
	// GrantsIndex is the [GrantSet.Index] that the node has of it.
	GrantsIndex uint64
}

// Lease is the leader's answer to a registration or renewal.
type Lease struct {
	TTL    int64  // nanoseconds, counted by the node from when it sent the request
	Term   uint64 // Raft term of the leader that granted it
	Resync bool   // the node must register again before anything else
}

// OrderKind is what a leader tells a node to do with an instance.
type OrderKind uint8

// The kinds of order.
const (
	OrderStart OrderKind = iota + 1
	OrderStop
)

// Order is one instruction from the leader to a node. Orders may be repeated:
// starting an epoch that the node holds, or stopping one that it does not,
// changes nothing. An order of an epoch older than the node's is refused; a
// start of a newer one ends the older first.
type Order struct {
	Kind     OrderKind
	Instance InstanceID
	Epoch    uint64
	Spec     *Spec // with OrderStart
	// Forget, with OrderStop, says that the record of this epoch is settled
	// or superseded: the node ends it without reporting.
	Forget bool
	Grants *GrantSet // with OrderStart; nil is nothing
}

// Fence is the lowest epoch of an instance's record whose calls the embedded kv
// takes.
type Fence struct {
	Instance    InstanceID
	Incarnation uint64 // log index that created the record
	Epoch       uint64
}

// NodeUsage is what a node process takes of its machine, as it says itself.
type NodeUsage struct {
	Instances   uint32 // that hold a place
	Reserved    uint64 // bytes: the memory limits of those
	GuestMemory uint64 // bytes: the present linear memories of those
	Heap        uint64 // bytes of live objects after the last collection
	Goroutines  uint32
	Threads     uint32
	Descriptors uint32
	Compiling   uint32 // modules being compiled, or waiting for it
	Runnable    uint32 // guests on a core, or waiting for one
	Cores       uint32 // that guests may use at a time
	// CPU is the time that guests have spent on cores since the process began.
	CPU time.Duration
	// Calls and Denials count the capability calls of guests that were admitted,
	// and refused, since the process began; CallsOpen those under way.
	Calls, Denials uint64
	CallsOpen      uint32
}
