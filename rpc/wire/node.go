package wire

import (
	"maps"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// NodeTo converts a node with its usage.
func NodeTo(n *wasmatrix.Node, used wasmatrix.Capacity) *api.Node {
	return &api.Node{
		NodeId:       string(n.ID),
		Status:       n.Status.String(),
		Draining:     n.Draining,
		Reason:       n.Reason,
		Address:      n.Addr,
		Version:      n.Version,
		Labels:       maps.Clone(n.Labels),
		Capacity:     CapacityTo(n.Capacity),
		Used:         CapacityTo(used),
		RegisteredAt: timeTo(n.RegisteredAt),
		ChangedAt:    timeTo(n.ChangedAt),
	}
}

// NodeFrom converts back.
func NodeFrom(m *api.Node) (n *wasmatrix.Node, used wasmatrix.Capacity) {
	n = &wasmatrix.Node{
		ID:           wasmatrix.NodeID(m.GetNodeId()),
		Draining:     m.GetDraining(),
		Reason:       m.GetReason(),
		Addr:         m.GetAddress(),
		Version:      m.GetVersion(),
		Labels:       maps.Clone(m.GetLabels()),
		Capacity:     CapacityFrom(m.GetCapacity()),
		RegisteredAt: timeFrom(m.GetRegisteredAt()),
		ChangedAt:    timeFrom(m.GetChangedAt()),
	}
	switch m.GetStatus() {
	case wasmatrix.NodeUp.String():
		n.Status = wasmatrix.NodeUp
	case wasmatrix.NodeDown.String():
		n.Status = wasmatrix.NodeDown
	}
	return n, CapacityFrom(m.GetUsed())
}

// UsageTo converts what a node process takes.
func UsageTo(u wasmatrix.NodeUsage) *api.NodeUsage {
	return &api.NodeUsage{
		Instances:        u.Instances,
		ReservedBytes:    u.Reserved,
		GuestMemoryBytes: u.GuestMemory,
		HeapBytes:        u.Heap,
		Goroutines:       u.Goroutines,
		Threads:          u.Threads,
		Descriptors:      u.Descriptors,
		Compiling:        u.Compiling,
		Runnable:         u.Runnable,
		Cores:            u.Cores,
		Cpu:              DurationTo(u.CPU),

		CapabilityCalls:     u.Calls,
		CapabilityDenials:   u.Denials,
		CapabilityCallsOpen: u.CallsOpen,
	}
}

// UsageFrom converts back.
func UsageFrom(m *api.NodeUsage) (wasmatrix.NodeUsage, error) {
	cpu, err := DurationFrom(m.GetCpu(), "usage.cpu")
	return wasmatrix.NodeUsage{
		Instances:   m.GetInstances(),
		Reserved:    m.GetReservedBytes(),
		GuestMemory: m.GetGuestMemoryBytes(),
		Heap:        m.GetHeapBytes(),
		Goroutines:  m.GetGoroutines(),
		Threads:     m.GetThreads(),
		Descriptors: m.GetDescriptors(),
		Compiling:   m.GetCompiling(),
		Runnable:    m.GetRunnable(),
		Cores:       m.GetCores(),
		CPU:         cpu,
		Calls:       m.GetCapabilityCalls(),
		Denials:     m.GetCapabilityDenials(),
		CallsOpen:   m.GetCapabilityCallsOpen(),
	}, err
}

// CapacityTo converts a capacity.
func CapacityTo(c wasmatrix.Capacity) *api.Capacity {
	return &api.Capacity{MemoryBytes: c.Memory, Instances: c.Instances}
}

// CapacityFrom converts back; absent is zero.
func CapacityFrom(m *api.Capacity) wasmatrix.Capacity {
	return wasmatrix.Capacity{Memory: m.GetMemoryBytes(), Instances: m.GetInstances()}
}
