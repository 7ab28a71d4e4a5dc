package wasmatrix

import "fmt"

// Status is where an instance is in its life (DESIGN §5).
type Status uint8

// The life of an instance. Stopped and Crashed are final.
const (
	StatusUnknown  Status = iota
	StatusPending         // accepted, not placed: waits for capacity
	StatusStarting        // placed on a node that has not reported it running
	StatusRunning         // reported running by its node
	StatusBackoff         // crashed; its node will start it again
	StatusLost            // its node is down; not yet placed anew
	StatusStopped         // asked to stop, or a command that exited 0
	StatusCrashed         // crashed, and its policy allows no restart
)

var statusNames = [...]string{
	"unknown", "pending", "starting", "running", "backoff", "lost", "stopped", "crashed",
}

// String returns the lower-case name.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// ParseStatus reads what [Status.String] writes. Errors are E1.
func ParseStatus(s string) (Status, error) {
	for i, n := range statusNames {
		if n == s && i > 0 {
			return Status(i), nil
		}
	}
	return StatusUnknown, Errorf(CodeInvalidRequest, "unknown status %q", s)
}

// Final reports whether no further change of status can follow.
func (s Status) Final() bool { return s == StatusStopped || s == StatusCrashed }

// OnNode reports whether an instance of this status holds a place on a node.
func (s Status) OnNode() bool {
	return s == StatusStarting || s == StatusRunning || s == StatusBackoff
}

// Unplaced reports whether an instance of this status waits for a node.
func (s Status) Unplaced() bool { return s == StatusPending || s == StatusLost }

// Instance is the replicated record of one instance. It is immutable.
type Instance struct {
	ID     InstanceID
	Spec   *Spec // shared between instances that were started alike
	Status Status
	Node   NodeID // where it is placed, or was last; empty while never placed
	// Epoch counts placements from 1; 0 while never placed. A node acts for
	// one epoch only, and reports of an older one change nothing (I4).
	Epoch   uint64
	Attempt uint32 // starts within this epoch, from 1; 0 before the first
	Seq     uint64 // of the last accepted report within (Epoch, Attempt)
	// StopRequested is set once a stop was committed; Status becomes final
	// when the node has confirmed it, or at once where no node holds it.
	StopRequested bool
	Reason        string // why it has this status, for people; bounded
	LastError     Code   // of the last crash or failed start; "" for none
	ExitCode      *int32 // of the last execution, where it had one
	Restarts      uint32 // restarts and moves so far
	Crashes       uint32 // crashes so far, all epochs
	CreatedAt     Time
	StartedAt     Time   // when the current execution began running; 0 if it has not
	ChangedAt     Time   // of the last change of Status
	CreateIndex   uint64 // log index that created it
	ModifyIndex   uint64 // log index that last changed it
	GrantsIndex   uint64 // log index that last changed its assignments; 0 if none did
}

// After reports whether (epoch, attempt, seq) is newer than what the instance
// has accepted so far.
func (i *Instance) After(epoch uint64, attempt uint32, seq uint64) bool {
	if epoch != i.Epoch {
		return epoch > i.Epoch
	}
	if attempt != i.Attempt {
		return attempt > i.Attempt
	}
	return seq > i.Seq
}

// Report is a node's statement about one instance. Reports of an instance are
// ordered by (Epoch, Attempt, Seq); sending one twice, late or out of order
// changes nothing.
type Report struct {
	Instance InstanceID
	Epoch    uint64
	Attempt  uint32 // from 1
	Seq      uint64 // counts the reports of one (Instance, Epoch), from 1
	Status   Status // Starting, Running, Backoff, Stopped or Crashed
	Reason   string
	Error    Code   // with Backoff and Crashed
	ExitCode *int32 // where the execution had one
	Crash    *Crash // with Backoff and Crashed
	At       Time   // node clock
}

// CrashKind is the way in which an execution failed.
type CrashKind string

// The kinds of crash.
const (
	CrashTrap      CrashKind = "trap"      // the guest trapped
	CrashExit      CrashKind = "exit"      // a non-zero exit code
	CrashMemory    CrashKind = "memory"    // the memory limit
	CrashDeadline  CrashKind = "deadline"  // the wall-clock deadline, of an execution or of an invocation
	CrashCPU       CrashKind = "cpu"       // the fuel budget was used up
	CrashStack     CrashKind = "stack"     // calls were nested too deeply
	CrashStart     CrashKind = "start"     // could not be loaded, compiled, linked or instantiated
	CrashHost      CrashKind = "host"      // the node failed the guest
	CrashNodeLost  CrashKind = "node_lost" // its node went down and the policy forbids moving it
	CrashCancelled CrashKind = "cancelled" // the node was shut down under it
)

// Crash is one failed execution, as kept in the replicated state: bounded, and
// without the guest's output (R6).
type Crash struct {
	Kind     CrashKind
	Message  string // at most MaxCrashMessage bytes
	ExitCode *int32
	Stack    []string // Wasm stack trace, innermost first; at most MaxCrashFrames
	Node     NodeID
	Epoch    uint64
	Attempt  uint32
	Uptime   int64 // nanoseconds from running to crash
	At       Time
	// Fuel is what the execution used, in units of about one instruction.
	Fuel uint64
	// MemoryPeak is the largest size of its linear memory, in bytes.
	MemoryPeak uint64
}

// CrashDetail is what the node of an instance remembers of one crash beyond the
// replicated record: it has output of the guest, which stays on the node (R6).
// It belongs to the [Crash] of the same epoch and attempt.
type CrashDetail struct {
	Epoch   uint64
	Attempt uint32
	Stack   []string // innermost first; at most MaxDetailFrames
	Stderr  []byte   // the last that the execution wrote; at most MaxDetailStderr
}

// Bounds of what the replicated state keeps of one crash and of one instance.
const (
	MaxCrashMessage = 512 // bytes
	MaxCrashFrames  = 16  // frames
	MaxCrashFrame   = 160 // bytes each
	MaxReason       = 256 // bytes
	MaxCrashes      = 16  // crashes kept of one instance, the newest
	MaxDetailFrames = 64
	MaxDetailStderr = 4 << 10 // bytes
)
