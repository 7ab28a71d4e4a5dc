package rpc

import (
	"context"
	"io"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// State is the replicated state of this server.
type State interface {
	// Snapshot is the newest view. It does not block.
	Snapshot() wasmatrix.Snapshot
	// Changed is closed when the next command has been applied: take it, then
	// the snapshot, then wait.
	Changed() <-chan struct{}
	// Restored is closed when the whole state is replaced the next time, by a
	// snapshot: what follows need not follow from what was before.
	Restored() <-chan struct{}
}

// Log is the replicated log.
type Log interface {
	// Propose replicates a command and returns what the state machine answered,
	// as documented at the command. It fails with NOT_LEADER, NO_LEADER,
	// TIMEOUT, STORAGE_ERROR or the command's own *wasmatrix.Error.
	Propose(context.Context, wasmatrix.Command) (any, error)
	// Read returns once the state includes every command that was acknowledged
	// before the call, on the leader; elsewhere it fails with NOT_LEADER.
	Read(context.Context) error
}

// Scheduler is the leader's dispatch loop. On other servers every method fails
// with NOT_LEADER or NO_LEADER.
type Scheduler interface {
	// Start places and creates the instances of one request. The placements of
	// the item name the instances and leave their nodes empty.
	Start(context.Context, wasmatrix.StartItem) (wasmatrix.StartResult, error)
	Stop(context.Context, wasmatrix.Request, wasmatrix.InstanceID) error
	Restart(context.Context, wasmatrix.Request, wasmatrix.InstanceID) (*wasmatrix.Instance, error)
	// Assign commits an assignment and has the node of the instance told. It
	// returns the assignment as it was recorded.
	Assign(context.Context, wasmatrix.Request, *wasmatrix.Assignment) (*wasmatrix.Assignment, error)
	// Revoke commits a revocation and returns nil when no call under it can succeed
	// any more: the node has said so, or has lost its lease. Where ctx ends before
	// that it fails with TIMEOUT, outcome committed, and the node in the details.
	Revoke(context.Context, wasmatrix.Request, wasmatrix.InstanceID, wasmatrix.CapabilityID) error

	Register(context.Context, wasmatrix.Registration) (wasmatrix.Lease, error)
	Renew(context.Context, wasmatrix.NodeID, wasmatrix.BootID) (wasmatrix.Lease, error)
	Report(context.Context, wasmatrix.NodeID, wasmatrix.BootID, []wasmatrix.Report) ([]bool, error)
	// ReportDenials makes facts of capability calls that a node has refused. Seq
	// counts its reports of a boot, from 1: one that is repeated has its effect once.
	ReportDenials(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, seq uint64, denials []wasmatrix.Denial) error
}

// Leadership tells who leads.
type Leadership interface {
	// Leader returns the host:port of the leader's API, "" where that is not
	// known. Self is true on the leader, once its state has all that earlier
	// leaders committed; known is false while this server knows of no leader. It
	// is called with every request, and does not block.
	Leader() (apiAddr string, self, known bool)
	// LeaderChanged is closed at the next change of what Leader returns: take it
	// before Leader. It may be closed without a change.
	LeaderChanged() <-chan struct{}
}

// Cluster is the Raft group and the gossip members, as far as users see and
// change them.
type Cluster interface {
	// Status answers for this server, without asking others.
	Status(context.Context) (ClusterStatus, error)
	// Members is what gossip knows at this server.
	Members(context.Context) ([]Member, error)
	// Peers is the Raft configuration and, on the leader, each server's health;
	// elsewhere it fails with NOT_LEADER.
	Peers(context.Context) ([]Peer, uint64, error)
	// Join contacts gossip addresses, and returns how many answered.
	Join(ctx context.Context, addrs []string) (int, error)
	// Leave makes this agent leave the cluster and then end. It returns when
	// that has begun and the Raft group no longer counts on this server.
	Leave(context.Context) error
	// RemovePeer takes a ServerID or the name of a server.
	RemovePeer(ctx context.Context, server string) (wasmatrix.ServerID, error)
	// TransferLeadership takes a ServerID or name, or "" to let Raft choose.
	TransferLeadership(ctx context.Context, server string) (wasmatrix.ServerID, error)
	// SaveSnapshot writes a snapshot of a Raft group's state in the format that
	// RestoreSnapshot reads. The group is "" for that of the control plane, or the
	// name of a hosted one; there is no other: E6. Where this server does not lead
	// the group it fails with NOT_LEADER, with [wasmatrix.DetailLeader] if that is
	// known, or NO_LEADER, before it writes anything.
	SaveSnapshot(ctx context.Context, group string, w io.Writer) error
	// RestoreSnapshot replaces the state of a group on all its servers, or nothing.
	// It fails as SaveSnapshot does where this server does not lead the group, before
	// it reads anything.
	RestoreSnapshot(ctx context.Context, group string, r io.Reader) (stateHash string, index uint64, err error)
}

// ClusterStatus is what one server knows of itself and its group. What the
// snapshot of the state tells (instances, nodes) is not in it.
type ClusterStatus struct {
	Server           wasmatrix.ServerID
	Name             string
	State            string // leader, follower, candidate
	Term             uint64
	Leader           wasmatrix.ServerID
	LeaderAddr       string // of its API
	CommitIndex      uint64
	AppliedIndex     uint64
	LastIndex        uint64
	LastContact      time.Duration // since the leader was last heard of; 0 on the leader
	StateHash        string        // hexadecimal
	StateIndex       uint64        // at which StateHash was taken
	Voters           int
	FailureTolerance int
	StartedAt        time.Time
	Groups           []HostedGroup
}

// HostedGroup is a server's part in a Raft group beside that of the control plane.
type HostedGroup struct {
	Name         string
	State        string // leader, follower, candidate
	Term         uint64
	Leader       wasmatrix.ServerID
	CommitIndex  uint64
	AppliedIndex uint64
	StateHash    string // hexadecimal
	StateIndex   uint64 // at which StateHash was taken
	Voters       int
	Namespaces   uint64 // that it holds
	Keys         uint64
	Bytes        uint64
}

// detailGroup is in the details of an error that says that this server does not
// lead a hosted group: the group's name. The edge then goes to that group's leader.
const detailGroup = "group"

// Member is an agent as gossip knows it.
type Member struct {
	Name       string
	Role       string // server or node
	GossipAddr string
	APIAddr    string
	Status     string // alive, suspect, dead or left
	Version    string
}

// Peer is a server of the Raft group.
type Peer struct {
	Server      wasmatrix.ServerID
	Name        string
	RaftAddr    string
	APIAddr     string
	Voter       bool
	Leader      bool
	Healthy     bool
	LastIndex   uint64
	LastContact time.Duration
	Version     string
}

// ModuleHeader announces the bytes of a module.
type ModuleHeader struct {
	Request wasmatrix.Request
	Digest  wasmatrix.Digest
	Size    int64  // bytes, within the limit
	Name    string // "" leaves names alone
}

// Modules is the replicated store of module bytes.
type Modules interface {
	// Push reads the module to its end, checks it, has a majority of servers
	// store it and then records it. Existed says that it was recorded already.
	// On other servers than the leader it fails with NOT_LEADER.
	Push(context.Context, ModuleHeader, io.Reader) (m *wasmatrix.Module, existed bool, err error)
	// Open returns the bytes. Unless local, they are fetched from another
	// server where this one lacks them. The caller closes the reader.
	Open(ctx context.Context, d wasmatrix.Digest, local bool) (r io.ReadCloser, size int64, err error)
	// Store puts bytes on this server's disk, synchronised, and nothing else.
	Store(ctx context.Context, d wasmatrix.Digest, size int64, r io.Reader) error
	Remove(context.Context, wasmatrix.Request, wasmatrix.Digest) error
}

// Agent is a node process, as servers see it.
type Agent interface {
	// Execute takes orders of the leader of a term, which were read from the state
	// at a log index. It refuses with CONFLICT a term below the highest it has seen,
	// another boot than its own, and an index below that of the last SetGrants.
	Execute(ctx context.Context, term uint64, boot wasmatrix.BootID, index uint64, orders []wasmatrix.Order) error
	// SetGrants replaces what instances were given, by the state at a log index, and
	// returns when every call under way that is not allowed any more has ended. Its
	// errors are those of Execute, and TIMEOUT.
	SetGrants(ctx context.Context, term uint64, boot wasmatrix.BootID, index uint64, sets []*wasmatrix.GrantSet) error
	// SetProviders tells all providers that there are, by the state at a log index.
	// Its errors are those of Execute.
	SetProviders(ctx context.Context, term uint64, boot wasmatrix.BootID, index uint64, providers []wasmatrix.PlacedProvider) error
	Ping() (wasmatrix.NodeID, wasmatrix.BootID)
	// Holding lists what the process has: what runs, and what has ended and is
	// not acknowledged.
	Holding() []wasmatrix.Holding
	// Attached is told that a leader attached. Ctx ends when it is gone. An
	// error refuses it; Attached does not wait for ctx.
	Attached(ctx context.Context, term uint64) error
	// Logs emits what is kept of the output of an instance, oldest first, and
	// with Follow what is written until the execution is over for good. It
	// returns the error of emit, of ctx, or INSTANCE_NOT_FOUND.
	Logs(ctx context.Context, q LogQuery, emit func(LogPiece) error) error
	// Invoke calls a function of an instance and waits for its result. Its errors
	// are INSTANCE_NOT_FOUND where the node does not have it, CONFLICT where it is
	// final, VALIDATION_ERROR and INVALID_REQUEST for what cannot be called so,
	// RESOURCE_EXHAUSTED where too many wait, CRASH_DETECTED, and TIMEOUT, with
	// outcome unknown where it had begun.
	Invoke(context.Context, wasmatrix.Invocation) (wasmatrix.InvocationResult, error)
	// CrashDetails is what the node remembers of the crashes of an instance,
	// oldest first; nothing of one that it does not know.
	CrashDetails(wasmatrix.InstanceID) []wasmatrix.CrashDetail
	// Usage is what the process takes, after a garbage collection if collect.
	Usage(collect bool) wasmatrix.NodeUsage
	// Prepare offers a module to be fetched and compiled ahead, and does not wait
	// for that. It returns false where the node declines.
	Prepare(wasmatrix.Digest) bool
}

// LogStream is one of the two outputs of a guest, or both.
type LogStream uint8

// The outputs.
const (
	LogBoth LogStream = iota // in queries only
	LogStdout
	LogStderr
)

// LogQuery selects output of one instance.
type LogQuery struct {
	Instance wasmatrix.InstanceID
	Stream   LogStream
	Follow   bool
	Tail     int // only the last lines of what there is; 0 is all
}

// LogPiece is a piece of output. Data is the callee's only until it returns.
type LogPiece struct {
	Stream  LogStream
	Data    []byte
	Time    time.Time
	Dropped uint64 // bytes lost from the ring before this piece
}
