package wasmatrix

// Command is a change of the replicated state: one of the types below. Each
// says what the state machine answers. At is the leader's clock when it
// proposed; the state machine knows no other time.
type Command interface{ isCommand() }

// Request identifies a client's request, so that a retry has its effect once.
// The zero Request is not remembered.
type Request struct {
	ID   RequestID
	Body [16]byte // first half of the SHA-256 of the request without its ID
}

// InitCluster gives the cluster its identity; only the first one counts.
// Answer: ClusterID, the one in force.
type InitCluster struct {
	At      Time
	Cluster ClusterID
}

// RegisterNode records a node as up. A BootID other than the recorded one
// means that the process restarted: everything it held is lost. Answer: *Node.
type RegisterNode struct {
	At           Time
	Registration Registration // Holding is not replicated
}

// MarkNodeDown records a node as down, if Boot is still its boot, and its
// instances as lost, or as crashed where their policy forbids moving them.
// Answer: int, the number of instances lost.
type MarkNodeDown struct {
	At     Time
	Node   NodeID
	Boot   BootID
	Reason string
}

// DrainNode makes a node take no new instances, or take them again.
// Answer: *Node or NODE_NOT_FOUND.
type DrainNode struct {
	At      Time
	Request Request
	Node    NodeID
	Drain   bool
}

// ForgetNode removes the record of a node that is down and holds nothing.
// Answer: nil or an error.
type ForgetNode struct {
	At      Time
	Request Request
	Node    NodeID
}

// StartInstances creates instances, placed or pending. Items succeed or fail
// each by itself. Answer: []StartResult, one for each item.
type StartInstances struct {
	At    Time
	Items []StartItem
}

// StartItem is one start request. All its instances are created, or none.
type StartItem struct {
	Request     Request
	Spec        *Spec
	Placements  []Placement
	Assignments []*Assignment // given to every instance; their Instance is ignored
}

// Placement is an instance and the node chosen for it; "" leaves it pending.
type Placement struct {
	Instance InstanceID
	Node     NodeID
}

// StartResult answers a StartItem.
type StartResult struct {
	Instances []InstanceID
	Duplicate bool   // an earlier command had this request ID; Instances are its
	Err       *Error // CONFLICT, RESOURCE_EXHAUSTED, MODULE_NOT_FOUND; nothing was created
}

// PlaceInstances gives unplaced instances a node under the next epoch.
// Answer: []*Error, one for each item, nil where it was placed.
type PlaceInstances struct {
	At    Time
	Items []PlaceItem
}

// PlaceItem is one decision, void unless the instance is still unplaced in
// Epoch, and the node still has room.
type PlaceItem struct {
	Instance InstanceID
	Epoch    uint64
	Node     NodeID
}

// StopInstances asks for instances to stop. Those that no node holds stop at
// once. Answer: []*Error, one for each item; stopping what is final is no error.
type StopInstances struct {
	At    Time
	Items []StopItem
}

// StopItem is one request to stop.
type StopItem struct {
	Request  Request
	Instance InstanceID
}

// RestartInstance begins a new epoch of a placed instance on the node that has
// it. Answer: *Instance, or INSTANCE_NOT_FOUND, or RESTART_POLICY_VIOLATION
// where the instance is final or asked to stop, or INVALID_REQUEST where
// MinEpoch is above [MaxMinEpoch].
type RestartInstance struct {
	At       Time
	Request  Request
	Instance InstanceID
	// MinEpoch is the least that the new epoch may be; 0 and whatever is not above
	// the old epoch leave it at the next one.
	MinEpoch uint64
}

// MaxMinEpoch bounds [RestartInstance.MinEpoch], so that there is always another
// epoch after.
const MaxMinEpoch = 1 << 62

// ApplyReports takes the statements of a node. Those that are older than what
// is known, or not of the node's recorded boot, change nothing. Without any it
// serves a server to learn that it still leads.
// Answer: []bool, one for each report: whether it changed the state.
type ApplyReports struct {
	At      Time
	Node    NodeID
	Boot    BootID
	Reports []Report
}

// AssignCapability adds or replaces an assignment. Answer: *Assignment.
type AssignCapability struct {
	At         Time
	Request    Request
	Assignment *Assignment
}

// RevokeCapability removes an assignment. Answer: nil, INSTANCE_NOT_FOUND or
// CAPABILITY_NOT_FOUND.
type RevokeCapability struct {
	At         Time
	Request    Request
	Instance   InstanceID
	Capability CapabilityID
}

// PutProvider creates or updates a provider. Revision 0 creates or replaces, with
// Create only where there is no record yet; another value must be the current one
// (CONFLICT). Answer: *Provider.
type PutProvider struct {
	At       Time
	Request  Request
	Provider *Provider
	Create   bool
}

// RemoveProvider removes a provider. Answer: nil or CAPABILITY_NOT_FOUND.
type RemoveProvider struct {
	At       Time
	Request  Request
	Provider ProviderID
}

// AddModule records a module that a majority of servers has on disk, and
// points Name at it unless that is "". Answer: *Module.
type AddModule struct {
	At      Time
	Request Request
	Module  *Module
	Name    string
}

// RemoveModule removes a module's record and names. Answer: nil,
// MODULE_NOT_FOUND, or CONFLICT while instances that are not final use it.
type RemoveModule struct {
	At      Time
	Request Request
	Digest  Digest
}

// CollectGarbage removes instances that have been final since before
// FinalBefore, the oldest final ones beyond MaxFinal, and modules without a
// name or user that were last used before ModulesBefore. At most Limit records
// of each kind go at a time. Answer: int, the number of records removed.
type CollectGarbage struct {
	At            Time
	FinalBefore   Time
	MaxFinal      int
	ModulesBefore Time
	Limit         int
}

// RecordDenials makes facts of capability calls that a node has refused. Those of
// another boot than the recorded one, and of instances that are gone, are left
// out. Answer: int, the number of facts.
type RecordDenials struct {
	At      Time
	Request Request
	Node    NodeID
	Boot    BootID
	Denials []Denial
}

func (InitCluster) isCommand()      {}
func (RegisterNode) isCommand()     {}
func (MarkNodeDown) isCommand()     {}
func (DrainNode) isCommand()        {}
func (ForgetNode) isCommand()       {}
func (StartInstances) isCommand()   {}
func (PlaceInstances) isCommand()   {}
func (StopInstances) isCommand()    {}
func (RestartInstance) isCommand()  {}
func (ApplyReports) isCommand()     {}
func (AssignCapability) isCommand() {}
func (RevokeCapability) isCommand() {}
func (PutProvider) isCommand()      {}
func (RemoveProvider) isCommand()   {}
func (AddModule) isCommand()        {}
func (RemoveModule) isCommand()     {}
func (CollectGarbage) isCommand()   {}
func (RecordDenials) isCommand()    {}
