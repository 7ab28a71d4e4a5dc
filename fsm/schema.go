package fsm

import "github.com/wasmatrix/wasmatrix"

// What each version of the schema added. One number serves the commands, the
// snapshots and the rules of hashing: whatever a command may bring into the
// state, a snapshot must carry and the hash must see.
//
//	1  the first release
//	2  Spec.Stdin, Limits.Fuel, Crash.Fuel, Crash.MemoryPeak
//	3  Assignment.Provider, Namespace and Stale; Instance.GrantsIndex, which all that
//	   changes an instance's assignments moves on; RecordDenials;
//	   RestartInstance.MinEpoch; PutProvider.Create; assignments must name a provider that there is, and a
//	   provider's type and removal have rules. What was written before goes by the
//	   rules of its time: it left no GrantsIndex, and such an instance's assignments
//	   came to its node with the order to start it.
//
// Commands and snapshots are written with the lowest version that covers them,
// so that a cluster may run two releases while nothing new is used; an older
// server that meets a higher version stops, where it would otherwise drop the
// new fields and go on with another state.

// lowestVersion is the version of the schema that understands a command.
func lowestVersion(cmd wasmatrix.Command) uint32 {
	switch c := cmd.(type) {
	case wasmatrix.StartInstances:
		version := uint32(1)
		for n := range c.Items {
			if len(c.Items[n].Assignments) > 0 {
				return 3
			}
			version = max(version, specVersion(c.Items[n].Spec))
		}
		return version
	case wasmatrix.ApplyReports:
		for n := range c.Reports {
			if v := crashVersion(c.Reports[n].Crash); v > 1 {
				return v
			}
		}
	case wasmatrix.RestartInstance:
		if c.MinEpoch != 0 {
			return 3
		}
	case wasmatrix.AssignCapability, wasmatrix.RevokeCapability, wasmatrix.PutProvider, wasmatrix.RemoveProvider, wasmatrix.RecordDenials:
		return 3
	}
	return 1
}

// schema is the lowest version of the schema that covers the state. It looks at
// every instance, assignment and crash.
func (s *State) schema() uint32 {
	version := uint32(1)
	var last *wasmatrix.Spec // neighbours often share one
	for i := range s.Instances("") {
		if i.GrantsIndex != 0 {
			return 3
		}
		if i.Spec == last {
			continue
		}
		last = i.Spec
		if version = max(version, specVersion(last)); version == SchemaVersion {
			return version
		}
	}
	s.assignments.Scan(func(_ wasmatrix.InstanceID, all []*wasmatrix.Assignment) bool {
		for _, a := range all {
			if a.Provider != "" || a.Namespace != "" || a.Stale {
				version = 3
			}
		}
		return version < SchemaVersion
	})
	s.crashes.Scan(func(_ wasmatrix.InstanceID, all []*wasmatrix.Crash) bool {
		for _, c := range all {
			version = max(version, crashVersion(c))
		}
		return version < SchemaVersion
	})
	return version
}

func specVersion(s *wasmatrix.Spec) uint32 {
	if s != nil && (len(s.Stdin) > 0 || s.Limits.Fuel != 0) {
		return 2
	}
	return 1
}

func crashVersion(c *wasmatrix.Crash) uint32 {
	if c != nil && (c.Fuel != 0 || c.MemoryPeak != 0) {
		return 2
	}
	return 1
}
