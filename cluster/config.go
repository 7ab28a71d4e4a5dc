package cluster

import (
	"io"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

// Config describes one server.
type Config struct {
	Name    string // unique among the servers of the cluster
	DataDir string
	// BindAddr is the IP address to listen on. AdvertiseAddr is the host or IP
	// address that others dial, without a port; "" means BindAddr.
	BindAddr, AdvertiseAddr string
	// RaftPort and GossipPort are the ports to listen on; 0 picks free ones, see
	// [Cluster.Addrs].
	RaftPort, GossipPort int
	APIAddr              string // host:port of this server's API, told to others
	// MessagingPort and RoutePort are those of this server's messaging, told to
	// others; 0 where it has none.
	MessagingPort, RoutePort int
	// BootstrapExpect is how many servers make up a new cluster; 0 never
	// bootstraps. A server with a log ignores it.
	BootstrapExpect int
	RetryJoin       []string // gossip addresses, see [gossip.Config]
	// These are as in [group.Config], with its defaults for zero.
	LogStore          string
	Timing            group.Timing
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	SnapshotsKept     int
	TrailingLogs      uint64
	StallAfter        time.Duration

	GossipTiming gossip.Timing
	GossipKey    []byte // see [gossip.Config]
	Version      string // of this build, told to others
	Machine      group.StateMachine
	// Groups are hosted beside the control group, each on all servers whose Config
	// names it. They share the listener, LogStore, Timing and StallAfter.
	Groups []GroupConfig
	// Verify checks a snapshot before it is restored, see [group.Config].
	Verify func(io.Reader) error
	// OnFatal is called at most once, from a goroutine of its own, when this
	// server cannot go on: its disk failed, or the cluster refuses it for good.
	// The process should end with the error. nil logs it.
	OnFatal func(error)
	// OnRemoved is called at most once, from a goroutine of its own, when this
	// server finds that it was removed from the cluster by others. It asks for
	// admission again only after a restart. nil logs it.
	OnRemoved func()
	Autopilot Autopilot
	Logger    hclog.Logger
}

// GroupConfig describes a Raft group that the servers host beside the control
// group, with a log, a state and snapshots of its own. Its servers are those of
// the control group. Zero values are the defaults of [group.Config].
type GroupConfig struct {
	Name    string // the same on all servers, and for ever: it names a directory
	Machine group.StateMachine
	// Verify checks a snapshot before it is restored, see [group.Config].
	Verify func(io.Reader) error
	// These are as in [group.Config].
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	SnapshotsKept     int
	TrailingLogs      uint64
	MaxCommandBytes   int
	MaxBatchBytes     int
	MaxBatchCommands  int
	MaxInFlight       int
	QueueLimit        int
	QueueBytes        int
}

// control describes the control group as one more.
func (c *Config) control() GroupConfig {
	return GroupConfig{
		Name: controlGroup, Machine: c.Machine, Verify: c.Verify,
		SnapshotThreshold: c.SnapshotThreshold, SnapshotInterval: c.SnapshotInterval,
		SnapshotsKept: c.SnapshotsKept, TrailingLogs: c.TrailingLogs,
	}
}

// Autopilot says when the leader makes servers voters and when it removes them.
// Zero fields take the defaults.
type Autopilot struct {
	// UpdateInterval is how often each server is asked for its health; default 500 ms.
	UpdateInterval time.Duration
	// ReconcileInterval is how often servers are made voters or removed; default 1 s.
	ReconcileInterval time.Duration
	// StabilizationTime is how long a new server must have been healthy; default 2 s.
	StabilizationTime time.Duration
	// LastContactThreshold is how long a healthy server may have been without
	// contact to the leader; default 1 s.
	LastContactThreshold time.Duration
	// MaxTrailingLogs is how many entries a healthy server may be behind; default 1000.
	MaxTrailingLogs uint64
	// KeepDeadServers turns the removal of dead servers off.
	KeepDeadServers bool
	// DeadServerGrace is how long a server must have answered nobody before it is
	// removed; default 5 minutes, enough for a reboot. A server removed so comes
	// back as a new one when it returns.
	DeadServerGrace time.Duration
	// MinQuorum is the least number of servers that removals leave; default 3.
	MinQuorum uint
	// AdmissionInterval is how often a server that is not in the configuration
	// asks to be; default 1 s.
	AdmissionInterval time.Duration
}

func (a Autopilot) withDefaults() Autopilot {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&a.UpdateInterval, 500*time.Millisecond)
	set(&a.ReconcileInterval, time.Second)
	set(&a.StabilizationTime, 2*time.Second)
	set(&a.LastContactThreshold, time.Second)
	set(&a.DeadServerGrace, 5*time.Minute)
	set(&a.AdmissionInterval, time.Second)
	if a.MaxTrailingLogs == 0 {
		a.MaxTrailingLogs = 1000
	}
	if a.MinQuorum == 0 {
		a.MinQuorum = 3
	}
	return a
}

func (c *Config) validate() error {
	if err := wasmatrix.ValidateName("server name", c.Name); err != nil {
		return err
	}
	switch {
	case c.DataDir == "":
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "no data directory").With(wasmatrix.DetailField, "data_dir")
	case c.BootstrapExpect < 0:
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "bootstrap_expect is %d", c.BootstrapExpect).With(wasmatrix.DetailField, "bootstrap_expect")
	}
	names := make(map[string]bool)
	for _, g := range append([]GroupConfig{c.control()}, c.Groups...) {
		if err := wasmatrix.ValidateName("group name", g.Name); err != nil {
			return err
		}
		switch {
		case names[g.Name]:
			return wasmatrix.Errorf(wasmatrix.CodeInternal, "two groups are named %s", g.Name)
		case g.Machine == nil:
			return wasmatrix.Errorf(wasmatrix.CodeInternal, "group %s has no state machine", g.Name)
		}
		names[g.Name] = true
	}
	return nil
}
