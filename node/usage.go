package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/wasmatrix/wasmatrix"
)

// Usage tells what this process takes of its machine. With collect it collects
// garbage first, which takes a while and some CPU.
func (n *Node) Usage(collect bool) wasmatrix.NodeUsage {
	if collect {
		runtime.GC()
		debug.FreeOSMemory()
	}
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	e, stats := n.cfg.guests.Usage(), n.gate.Stats()
	n.mu.Lock()
	used := n.room.used
	n.mu.Unlock()
	return wasmatrix.NodeUsage{
		Instances: used.Instances, Reserved: used.Memory, GuestMemory: e.GuestMemory,
		Heap: samples[0].Value.Uint64(), Goroutines: uint32(samples[1].Value.Uint64()),
		Threads: entries("/proc/self/task"), Descriptors: entries("/proc/self/fd"),
		Calls: stats.Calls, Denials: stats.Denied, CallsOpen: stats.Open,
		Compiling: uint32(e.Compiling), Runnable: uint32(e.Runnable), Cores: uint32(e.Cores), CPU: e.CPU,
	}
}

// entries counts those of a directory; 0 where it cannot be read, as on other
// systems than Linux.
func entries(dir string) uint32 {
	d, err := os.Open(dir)
	if err != nil {
		return 0
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0
	}
	return uint32(len(names))
}

// Prepare offers a module that this node may soon be asked to run, to be fetched
// and compiled ahead. It reports whether that is done or will be, and does not
// wait for it.
func (n *Node) Prepare(digest wasmatrix.Digest) bool {
	n.mu.Lock()
	closing := n.closing
	n.mu.Unlock()
	return !closing && n.cfg.guests.Prepare(digest, n.fetch(digest))
}
