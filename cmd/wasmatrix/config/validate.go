package config

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Validate reports the first thing that keeps an agent from running with c, as
// E6 with the key in [wasmatrix.DetailField] and its file and line, variable or
// flag in the message.
func (c *Config) Validate() error { return first(append(c.checkValues(), c.checkTogether()...)) }

// checker gathers problems.
type checker struct {
	c        *Config
	problems []*wasmatrix.Error
}

func (k *checker) fail(key, format string, args ...any) {
	k.problems = append(k.problems, k.c.sources[key].errorf(key, format, args...))
}

func (k *checker) require(ok bool, key, format string, args ...any) {
	if !ok {
		k.fail(key, format, args...)
	}
}

func (k *checker) oneOf(key, value string, allowed ...string) {
	k.require(slices.Contains(allowed, value), key, "%q is not one of %s", value, strings.Join(allowed, ", "))
}

func (k *checker) duration(key string, d, least, most time.Duration) {
	k.require(least <= d && d <= most, key, "%s is not between %s and %s", d, least, most)
}

func (k *checker) size(key string, n, least, most uint64) {
	k.require(least <= n && n <= most, key, "%s is not between %s and %s",
		wasmatrix.FormatBytes(n), wasmatrix.FormatBytes(least), wasmatrix.FormatBytes(most))
}

func (k *checker) count(key string, n, least, most int) {
	k.require(least <= n && n <= most, key, "%d is not between %d and %d", n, least, most)
}

// checkValues checks each value by itself.
func (c *Config) checkValues() []*wasmatrix.Error {
	k := &checker{c: c}
	if err := wasmatrix.ValidateName("name", c.Name); err != nil {
		k.fail("name", "%s", wasmatrix.AsError(err).Message)
	}
	k.addresses()
	for f := range children("ports", reflect.ValueOf(c.Ports)) {
		k.count(f.key, int(f.value.Int()), 1, 65535)
	}
	k.oneOf("log.level", c.Log.Level, "trace", "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "text", "json")
	k.server()
	k.node()
	k.require(c.Gossip.Key == "", "gossip.key", "encryption of gossip is not supported yet: remove the key, and keep the gossip ports inside a network that you trust")
	k.size("limits.max_request", c.Limits.MaxRequest, 64<<10, 1<<30)
	k.duration("limits.header_timeout", c.Limits.HeaderTimeout, 100*time.Millisecond, time.Hour)
	k.duration("limits.idle_timeout", c.Limits.IdleTimeout, time.Second, 24*time.Hour)
	k.duration("lease.ttl", c.Lease.TTL, 300*time.Millisecond, time.Hour)
	return k.problems
}

func (k *checker) addresses() {
	c := k.c
	if _, err := netip.ParseAddr(c.BindAddr); err != nil {
		k.fail("bind_addr", "%q is not an IP address", c.BindAddr)
	}
	if c.AdvertiseAddr != "" {
		ip, err := netip.ParseAddr(c.AdvertiseAddr)
		switch {
		case err == nil && ip.IsUnspecified():
			k.fail("advertise_addr", "others cannot reach %s: name an address of this machine", ip)
		case err != nil && !isHost(c.AdvertiseAddr):
			k.fail("advertise_addr", "%q is not an IP address or host name (without a port)", c.AdvertiseAddr)
		}
	}
	for _, addr := range c.Gossip.RetryJoin {
		if err := CheckJoinAddr(addr); err != nil {
			k.fail("gossip.retry_join", "%s", err)
		}
	}
}

// CheckJoinAddr reports what keeps addr from being a gossip address, that is an
// IP address or host name, with or without a port.
func CheckJoinAddr(addr string) error {
	if _, err := netip.ParseAddr(addr); err == nil || isHost(addr) {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not of the form host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: %q is not a port", addr, port)
	}
	if _, err := netip.ParseAddr(host); err != nil && !isHost(host) {
		return fmt.Errorf("%q: %q is not an IP address or host name", addr, host)
	}
	return nil
}

const hostChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func isHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, hostChars) != "" {
			return false
		}
	}
	return true
}

func (k *checker) server() {
	s := k.c.Server
	k.count("server.bootstrap_expect", s.BootstrapExpect, 0, 31)
	k.oneOf("server.log_store", s.LogStore, "boltdb", "wal")
	k.oneOf("server.placement", s.Placement, "spread", "binpack")
	k.size("server.max_module", s.MaxModule, 64<<10, maxModule)
	k.size("server.kv.max_bytes", s.KV.MaxBytes, 1<<20, 1<<50)

	// The least values are those that hashicorp/raft accepts.
	const least = 5 * time.Millisecond
	k.duration("server.raft.heartbeat", s.Raft.Heartbeat, least, time.Minute)
	k.duration("server.raft.election", s.Raft.Election, least, time.Minute)
	k.duration("server.raft.leader_lease", s.Raft.LeaderLease, least, time.Minute)
	k.require(s.Raft.SnapshotThreshold > 0, "server.raft.snapshot_threshold", "must be at least 1")
	k.duration("server.raft.snapshot_interval", s.Raft.SnapshotInterval, least, 24*time.Hour)
	k.count("server.raft.snapshot_retain", s.Raft.SnapshotRetain, 2, 1000)
	k.require(s.Raft.TrailingLogs > 0, "server.raft.trailing_logs", "must be at least 1")
	k.duration("server.raft.disk_stall", s.Raft.DiskStall, 100*time.Millisecond, time.Hour)

	k.duration("server.autopilot.dead_server_grace", s.Autopilot.DeadServerGrace, time.Second, 24*time.Hour)
	k.duration("server.autopilot.stabilization", s.Autopilot.Stabilization, time.Millisecond, time.Hour)
	k.count("server.autopilot.min_quorum", s.Autopilot.MinQuorum, 1, 31)

	k.duration("server.retention.instances", s.Retention.Instances, time.Second, 10*365*24*time.Hour)
	k.duration("server.retention.modules", s.Retention.Modules, time.Minute, 10*365*24*time.Hour)
	k.count("server.retention.max_instances", s.Retention.MaxInstances, 1, 10_000_000)
}

func (k *checker) node() {
	n := k.c.Node
	k.size("node.memory", n.Memory, wasmatrix.WasmPage, 1<<50)
	k.count("node.instances", n.Instances, 1, 10_000_000)
	k.count("node.start_parallelism", n.StartParallelism, 1, 10_000)
	k.count("node.invoke_queue", n.InvokeQueue, 1, 100_000)
	// wazero 1.12.0 lets no stack grow that has more than 50 MB.
	k.size("node.call_stack", n.CallStack, 64<<10, 64<<20)
	k.size("node.module_cache", n.ModuleCache, 1<<20, 1<<50)
	k.size("node.module_memory", n.ModuleMemory, 1<<20, 1<<50)
	k.count("node.idle_modules", n.IdleModules, 1, 100_000)
	k.size("node.log_ring", n.LogRing, 1<<10, 1<<30)
	k.size("node.log_rate", n.LogRate, 1<<10, 1<<30)
	k.size("node.log_total", n.LogTotal, 1<<20, 1<<40)
	k.count("node.log_ended", n.LogEnded, 1, 1<<14) // a node remembers no more ended instances
	if err := wasmatrix.ValidateLabels(n.Labels); err != nil {
		k.fail("node.labels", "%s", wasmatrix.AsError(err).Message)
	}
	if _, taken := n.Labels[wasmatrix.LabelNode]; taken {
		k.fail("node.labels", "%q is the node's own name and cannot be set", wasmatrix.LabelNode)
	}
	k.capabilities()
	k.compile()
	k.moduleLimits()
}

// checkTogether checks what depends on more than one value.
func (c *Config) checkTogether() []*wasmatrix.Error {
	k := &checker{c: c}
	k.require(c.Server.Enabled || c.Node.Enabled, "server.enabled", "nothing to run: enable server, node or both")
	k.require(c.DataDir != "", "data_dir", "no data directory given")
	if ip, err := netip.ParseAddr(c.BindAddr); err == nil && ip.IsUnspecified() {
		k.require(c.AdvertiseAddr != "", "advertise_addr", "others cannot reach %s, the bind_addr: name an address of this machine", ip)
	}
	used := map[int64]string{}
	for f := range children("ports", reflect.ValueOf(c.Ports)) {
		if other, taken := used[f.value.Int()]; taken {
			k.fail(f.key, "%d is the port of %s too", f.value.Int(), other)
		}
		used[f.value.Int()] = f.key
	}
	r := c.Server.Raft
	k.require(r.Election >= r.Heartbeat, "server.raft.election", "%s is below server.raft.heartbeat, %s", r.Election, r.Heartbeat)
	k.require(r.LeaderLease <= r.Heartbeat, "server.raft.leader_lease", "%s is above server.raft.heartbeat, %s: two servers could lead at once", r.LeaderLease, r.Heartbeat)
	if c.Server.Enabled && c.Node.Enabled {
		k.moduleSizes()
	}
	return k.problems
}
