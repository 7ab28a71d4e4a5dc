package wasmatrix

// FactKind says what happened.
type FactKind string

// The kinds of fact (R9).
const (
	FactRequested        FactKind = "requested" // accepted without a place
	FactPlaced           FactKind = "placed"    // given a node, first epoch
	FactMoved            FactKind = "moved"     // given a node, later epoch
	FactStarted          FactKind = "started"   // reported running
	FactCrashed          FactKind = "crashed"   // an execution failed
	FactRestarting       FactKind = "restarting"
	FactExited           FactKind = "exited" // a command ended with 0
	FactStopRequested    FactKind = "stop_requested"
	FactRestartRequested FactKind = "restart_requested"
	FactStopped          FactKind = "stopped"
	FactFailed           FactKind = "failed" // crashed for good
	FactLost             FactKind = "lost"
	FactAssigned         FactKind = "assigned"
	FactRevoked          FactKind = "revoked"
	FactDenied           FactKind = "denied"
	FactNodeUp           FactKind = "node_up"
	FactNodeDown         FactKind = "node_down"
	FactNodeDrain        FactKind = "node_drain"
	FactNodeUndrain      FactKind = "node_undrain"
	FactNodeForgotten    FactKind = "node_forgotten"
	FactModuleAdded      FactKind = "module_added"
	FactModuleRemoved    FactKind = "module_removed"
	FactProviderChanged  FactKind = "provider_changed"
	FactProviderRemoved  FactKind = "provider_removed"
	FactClusterFormed    FactKind = "cluster_formed"
)

// Fact is something that happened, as the replicated state recorded it. It is
// immutable. Indexes are gapless: each fact has the index of the one before
// plus 1, from 1.
type Fact struct {
	Index    uint64
	At       Time
	Kind     FactKind
	Instance InstanceID // "" where it concerns none
	Node     NodeID     // "" where it concerns none
	Epoch    uint64
	Attempt  uint32
	Reason   string // bounded by MaxReason
}
