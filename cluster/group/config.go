package group

import (
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/stream"
)

// StateMachine is what the log drives. Apply, Snapshot and Restore are never
// called at the same time; what Snapshot returned may run beside all of them.
// A panic stops the server.
type StateMachine interface {
	// Apply takes one command of the log. Index is that of its entry, which
	// several commands may share. The answer goes to the proposer, if it waits
	// here; an answer that is an error becomes Propose's error. The machine may
	// keep command but not write to it.
	Apply(index uint64, command []byte) any
	// Snapshot grabs the state without delay and returns what writes it.
	Snapshot() func(io.Writer) error
	// Restore replaces the whole state, also after a Restore that failed.
	Restore(io.Reader) error
}

// Timing is how fast a group notices and settles things. Lower values find a
// lost leader sooner and lose one more easily to a pause or a slow disk.
type Timing struct {
	Heartbeat   time.Duration // a follower that hears nothing for 1 to 2 of it stands for election
	Election    time.Duration // a candidate tries again after 1 to 2 of it
	LeaderLease time.Duration // a leader that reaches no majority for as long steps down
	Commit      time.Duration // an idle leader tells followers what is committed at least this often
}

// DefaultTiming is for servers in one region: about 0.6 s from a lost leader
// to the next commit. The lease is as long as may be: a follower answers no
// heartbeat while it writes to its disk.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat:   300 * time.Millisecond,
		Election:    300 * time.Millisecond,
		LeaderLease: 300 * time.Millisecond,
		Commit:      50 * time.Millisecond,
	}
}

// The kinds of log store.
const (
	LogStoreBolt = "boltdb"
	LogStoreWAL  = "wal"
)

// Config describes a group on this server. Zero values take the defaults said.
type Config struct {
	Name    string // of the group, the same on all its servers
	Dir     string // of this group alone
	ID      wasmatrix.ServerID
	Stream  *stream.Listener
	Machine StateMachine
	// Verify reads a snapshot to its end and says whether Machine could restore
	// it, without touching Machine. RestoreSnapshot needs it, because a snapshot
	// that fails to restore stops every server.
	Verify func(io.Reader) error
	// Founders, where this server is a voter among them, begin the group when it
	// is opened with an empty log. Each of them may do so, with the same list: the
	// first entry of their logs is then the same. See also [Group.Bootstrap].
	Founders []Server
	LogStore string // LogStoreBolt by default
	Timing   Timing // DefaultTiming where all zero

	SnapshotThreshold uint64        // entries since the last snapshot that make the next due; 8192
	SnapshotInterval  time.Duration // how often that is checked, up to twice as long; 30 s
	TrailingLogs      uint64        // entries kept behind a snapshot for slow followers; 4096
	SnapshotsKept     int           // 2, and no fewer

	MaxCommandBytes  int // 4 MiB
	MaxBatchBytes    int // commands in one entry, unless one alone is larger; 256 KiB
	MaxBatchCommands int // 1024
	MaxInFlight      int // entries proposed and not yet answered; 4
	QueueLimit       int // commands waiting to be proposed; 16384
	QueueBytes       int // and their sum; 64 MiB

	// Resolve says where a server is now; where it does not know, the address
	// in the group's configuration serves. It must not block.
	Resolve func(wasmatrix.ServerID) (addr string, ok bool)
	// Fatal is told once, on a goroutine of its own, why this server must not go
	// on. It must end the process; the group is dead already.
	Fatal func(error)

	RPCTimeout    time.Duration // one request to a peer; 3 s
	StallAfter    time.Duration // one call to the disk; 2 s
	WatchdogAfter time.Duration // raft standing still; 15 s
	Logger        hclog.Logger
}

func (c Config) withDefaults() Config {
	if c.LogStore == "" {
		c.LogStore = LogStoreBolt
	}
	if c.Timing == (Timing{}) {
		c.Timing = DefaultTiming()
	}
	setDefault(&c.SnapshotThreshold, 8192)
	setDefault(&c.SnapshotInterval, 30*time.Second)
	setDefault(&c.TrailingLogs, 4096)
	setDefault(&c.SnapshotsKept, 2)
	setDefault(&c.MaxCommandBytes, 4<<20)
	setDefault(&c.MaxBatchBytes, 256<<10)
	setDefault(&c.MaxBatchCommands, 1024)
	setDefault(&c.MaxInFlight, 4)
	setDefault(&c.QueueLimit, 16384)
	setDefault(&c.QueueBytes, 64<<20)
	setDefault(&c.RPCTimeout, 3*time.Second)
	setDefault(&c.StallAfter, 2*time.Second)
	setDefault(&c.WatchdogAfter, 15*time.Second)
	if c.Resolve == nil {
		c.Resolve = func(wasmatrix.ServerID) (string, bool) { return "", false }
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

func setDefault[T int | uint64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// validate reports VALIDATION_ERROR, with the key of the timing at fault where
// there is one.
func (c Config) validate() error {
	invalid := func(field, format string, args ...any) error {
		return wasmatrix.Errorf(wasmatrix.CodeValidation, format, args...).With(wasmatrix.DetailField, field)
	}
	if err := wasmatrix.ValidateName("group name", c.Name); err != nil {
		return err
	}
	switch {
	case c.Dir == "":
		return invalid("dir", "group %s has no directory", c.Name)
	case c.Stream == nil || c.Machine == nil || c.Fatal == nil:
		return invalid("group", "group %s needs a listener, a state machine and somewhere to report a fatal error", c.Name)
	case c.ID == "" || c.ID != c.Stream.Self():
		return invalid("id", "group %s is of server %q, its listener of %q", c.Name, c.ID, c.Stream.Self())
	case c.LogStore != LogStoreBolt && c.LogStore != LogStoreWAL:
		return invalid("log_store", "log_store is %q; %q and %q are known", c.LogStore, LogStoreBolt, LogStoreWAL)
	case c.SnapshotsKept < 2:
		return invalid("snapshots_kept", "at least 2 snapshots must be kept, not %d", c.SnapshotsKept)
	case c.MaxBatchBytes < 0 || c.MaxBatchCommands < 0 || c.MaxInFlight < 0 || c.QueueLimit < 0 || c.QueueBytes < 0 || c.MaxCommandBytes < 0:
		return invalid("limits", "a limit of group %s is negative", c.Name)
	}
	t := c.Timing
	switch {
	case t.Heartbeat < 5*time.Millisecond:
		return invalid("heartbeat", "the heartbeat timeout %s is below 5ms", t.Heartbeat)
	case t.Election < t.Heartbeat:
		return invalid("election", "the election timeout %s is below the heartbeat timeout %s", t.Election, t.Heartbeat)
	case t.LeaderLease < 5*time.Millisecond:
		return invalid("leader_lease", "the leader lease %s is below 5ms", t.LeaderLease)
	case t.LeaderLease > t.Heartbeat:
		return invalid("leader_lease", "the leader lease %s is above the heartbeat timeout %s: two servers could take themselves for the leader", t.LeaderLease, t.Heartbeat)
	case t.Commit < time.Millisecond:
		return invalid("commit", "the commit timeout %s is below 1ms", t.Commit)
	}
	return nil
}

func (c Config) raft(notify chan<- bool) *raft.Config {
	r := raft.DefaultConfig()
	r.ProtocolVersion = raft.ProtocolVersionMax
	r.LocalID = raft.ServerID(c.ID)
	r.HeartbeatTimeout = c.Timing.Heartbeat
	r.ElectionTimeout = c.Timing.Election
	r.LeaderLeaseTimeout = c.Timing.LeaderLease
	r.CommitTimeout = c.Timing.Commit
	r.SnapshotThreshold = c.SnapshotThreshold
	r.SnapshotInterval = c.SnapshotInterval
	r.TrailingLogs = c.TrailingLogs
	// A raft that shuts itself down leaves the rest of the process believing it
	// lives, and does so at the sight of its own past too.
	r.ShutdownOnRemove = false
	r.NoLegacyTelemetry = true
	r.NotifyCh = notify
	r.Logger = c.Logger
	return r
}
