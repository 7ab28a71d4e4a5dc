// Package config reads the configuration of an agent.
//
// It comes from four sources, each overriding the ones before: the defaults,
// HCL files in the order given, environment variables, and flags. Every value
// remembers its source, so that a complaint about it names the file and line,
// the variable or the flag that it came from.
package config

import (
	"runtime"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Config is the configuration of an agent. A field's tag is its key in HCL; the
// option "block" marks a block, "size" a number of bytes that may be written
// as 64MiB. The fields survive a round trip through JSON; the sources of their
// values do not.
type Config struct {
	Name          string `hcl:"name"`
	DataDir       string `hcl:"data_dir"`
	BindAddr      string `hcl:"bind_addr"`      // an IP address
	AdvertiseAddr string `hcl:"advertise_addr"` // host or IP address; "" is BindAddr

	Ports  Ports  `hcl:"ports,block"`
	Log    Log    `hcl:"log,block"`
	Server Server `hcl:"server,block"`
	Node   Node   `hcl:"node,block"`
	Gossip Gossip `hcl:"gossip,block"`
	Limits Limits `hcl:"limits,block"`
	Lease  Lease  `hcl:"lease,block"`

	sources map[string]source // by key; absent for a default
}

// Ports are those that an agent listens on: a server on all but those that are
// named for nodes, a node on those two.
type Ports struct {
	API             int `hcl:"api"`
	Raft            int `hcl:"raft"`
	Gossip          int `hcl:"gossip"`
	Node            int `hcl:"node"`
	NodeGossip      int `hcl:"node_gossip"`
	Messaging       int `hcl:"messaging"`        // nodes to the embedded messaging
	MessagingRoutes int `hcl:"messaging_routes"` // between servers
}

// Log says what is logged, and how.
type Log struct {
	Level  string `hcl:"level"`  // trace, debug, info, warn or error
	Format string `hcl:"format"` // text or json
}

// Server configures the role of a Raft voter that serves the API.
type Server struct {
	Enabled bool `hcl:"enabled"`
	// BootstrapExpect is how many servers must have found each other before
	// they form a cluster; 0 never forms one.
	BootstrapExpect int    `hcl:"bootstrap_expect"`
	LogStore        string `hcl:"log_store"` // boltdb or wal
	Placement       string `hcl:"placement"` // spread or binpack
	MaxModule       uint64 `hcl:"max_module,size"`

	KV        KV        `hcl:"kv,block"`
	Messaging Messaging `hcl:"messaging,block"`
	Raft      Raft      `hcl:"raft,block"`
	Autopilot Autopilot `hcl:"autopilot,block"`
	Retention Retention `hcl:"retention,block"`
}

// KV configures the key-value store that servers embed.
type KV struct {
	MaxBytes uint64 `hcl:"max_bytes,size"` // of all namespaces together
}

// Messaging configures the messaging system that servers embed.
type Messaging struct {
	Enabled bool `hcl:"enabled"`
}

// Raft holds the timing of elections and the thrift of the log.
type Raft struct {
	Heartbeat         time.Duration `hcl:"heartbeat"`
	Election          time.Duration `hcl:"election"`
	LeaderLease       time.Duration `hcl:"leader_lease"`
	SnapshotThreshold uint64        `hcl:"snapshot_threshold"` // log entries
	SnapshotInterval  time.Duration `hcl:"snapshot_interval"`
	SnapshotRetain    int           `hcl:"snapshot_retain"`
	TrailingLogs      uint64        `hcl:"trailing_logs"` // log entries
	DiskStall         time.Duration `hcl:"disk_stall"`
}

// Autopilot says when servers become voters and when dead ones are removed.
type Autopilot struct {
	CleanupDeadServers bool          `hcl:"cleanup_dead_servers"`
	DeadServerGrace    time.Duration `hcl:"dead_server_grace"`
	Stabilization      time.Duration `hcl:"stabilization"`
	MinQuorum          int           `hcl:"min_quorum"`
}

// Retention bounds what the replicated state remembers of what is over.
type Retention struct {
	Instances    time.Duration `hcl:"instances"`     // that are final
	MaxInstances int           `hcl:"max_instances"` // that are final
	Modules      time.Duration `hcl:"modules"`       // without a name or user
}

// Node configures the role that runs guests.
type Node struct {
	Enabled          bool              `hcl:"enabled"`
	Memory           uint64            `hcl:"memory,size"` // for all instances' memory limits together
	Instances        int               `hcl:"instances"`
	Labels           map[string]string `hcl:"labels"`
	StartParallelism int               `hcl:"start_parallelism"`
	InvokeQueue      int               `hcl:"invoke_queue"`       // invocations that wait for one instance
	CallStack        uint64            `hcl:"call_stack,size"`    // of each instance at most, as it is estimated
	ModuleCache      uint64            `hcl:"module_cache,size"`  // on disk, of the modules as they were pushed
	ModuleMemory     uint64            `hcl:"module_memory,size"` // for all compiled modules in memory
	IdleModules      int               `hcl:"idle_modules"`       // compiled, without an instance, in memory
	LogRing          uint64            `hcl:"log_ring,size"`      // of each instance
	LogRate          uint64            `hcl:"log_rate,size"`      // of each instance, per second
	LogTotal         uint64            `hcl:"log_total,size"`     // of all instances
	LogEnded         int               `hcl:"log_ended"`          // ended instances whose output is kept

	Capabilities Capabilities `hcl:"capabilities,block"`
	Compile      Compile      `hcl:"compile,block"`
	ModuleLimits ModuleLimits `hcl:"module_limits,block"`
}

// Capabilities bound what each instance may ask of capability providers.
type Capabilities struct {
	Calls      int           `hcl:"calls"`      // a second
	Concurrent int           `hcl:"concurrent"` // under way
	Bytes      uint64        `hcl:"bytes,size"` // a second
	Deadline   time.Duration `hcl:"deadline"`   // of one call
}

// Gossip says how agents find each other.
type Gossip struct {
	RetryJoin []string `hcl:"retry_join"` // host:port
	Key       string   `hcl:"key"`        // must be empty: not supported yet
}

// Limits bound what one client may do to a server.
type Limits struct {
	MaxRequest    uint64        `hcl:"max_request,size"`
	HeaderTimeout time.Duration `hcl:"header_timeout"`
	IdleTimeout   time.Duration `hcl:"idle_timeout"`
}

// Lease is what nodes hold from the leader.
type Lease struct {
	TTL time.Duration `hcl:"ttl"` // renewed each third of it
}

// Default returns the configuration without any file, variable or flag. It
// asks the machine for its name and memory.
func Default() *Config {
	return &Config{
		Name:     defaultName(),
		BindAddr: "127.0.0.1",
		Ports:    Ports{API: 7480, Raft: 7481, Gossip: 7482, Node: 7483, NodeGossip: 7484, Messaging: 7485, MessagingRoutes: 7486},
		Log:      Log{Level: "info", Format: "text"},
		Server: Server{
			LogStore:  "boltdb",
			Placement: "spread",
			MaxModule: wasmatrix.DefaultMaxModule,
			KV:        KV{MaxBytes: 2 << 30},
			Messaging: Messaging{Enabled: true},
			Raft: Raft{
				Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, LeaderLease: 300 * time.Millisecond,
				SnapshotThreshold: 8192, SnapshotInterval: 30 * time.Second, SnapshotRetain: 2,
				TrailingLogs: 4096, DiskStall: 2 * time.Second,
			},
			Autopilot: Autopilot{
				CleanupDeadServers: true, DeadServerGrace: 5 * time.Minute, Stabilization: 2 * time.Second, MinQuorum: 3,
			},
			Retention: Retention{Instances: 24 * time.Hour, MaxInstances: 100_000, Modules: 7 * 24 * time.Hour},
		},
		Node: Node{
			Memory: defaultMemory(), Instances: 100_000,
			StartParallelism: 2 * runtime.GOMAXPROCS(0), InvokeQueue: 128, CallStack: 4 << 20,
			ModuleCache: 2 << 30, ModuleMemory: defaultModuleMemory(), IdleModules: 64,
			LogRing: 64 << 10, LogRate: 1 << 20, LogTotal: defaultLogTotal(), LogEnded: 1024,
			Capabilities: Capabilities{Calls: 10_000, Concurrent: 128, Bytes: 64 << 20, Deadline: 30 * time.Second},
			Compile:      defaultCompile(), ModuleLimits: defaultModuleLimits(),
		},
		Limits: Limits{MaxRequest: 4 << 20, HeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute},
		Lease:  Lease{TTL: 3 * time.Second},
	}
}
