package fsm

import (
	"io"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
	"github.com/wasmatrix/wasmatrix/snapfile"
)

// snapshotVersion is the newest format version. Each snapshot is written with
// the lowest that covers it, which is [State.schema].
const snapshotVersion = 3

// snapshotFormat is that of the control plane's snapshots. Their trailer has the
// state's hash besides the sums of the file.
var snapshotFormat = &snapfile.Format{
	Name: "snapshot", Magic: "WMXSNAP\n", Newest: snapshotVersion, MaxChunk: 64 << 20,
	Sections: []string{"modules", "nodes", "providers", "instances", "assignments", "crashes", "requests", "facts"},
}

// The kinds of records, in the order of the sections.
const (
	chunkModules = snapfile.FirstSection + iota
	chunkNodes
	chunkProviders
	chunkInstances
	chunkAssignments
	chunkCrashes
	chunkRequests
	chunkFacts
)

// Header is what a snapshot says of itself.
type Header struct {
	FormatVersion  uint32
	ProductVersion string // of the release that wrote it
	Index          uint64 // log index of the last command in it
	Cluster        wasmatrix.ClusterID
	Now            wasmatrix.Time // leader time of the last command in it
	Counts         Counts
}

// Counts are the numbers of records in a snapshot.
type Counts struct {
	Instances, Nodes, Modules, Providers, Assignments, Crashes, Requests, Facts uint64
}

// SnapshotInfo is what [InspectSnapshot] finds.
type SnapshotInfo struct {
	Header
	Hash  [32]byte // of the state, computed from the records
	Bytes int64    // length of the snapshot
}

// InspectSnapshot reads a whole snapshot and checks it as [FSM.Restore] would.
func InspectSnapshot(r io.Reader) (SnapshotInfo, error) {
	var specs specInterner
	s, info, err := readSnapshot(r, &specs)
	if err != nil {
		return SnapshotInfo{}, err
	}
	info.Hash = s.Hash()
	return info, nil
}

func (s *State) counts() Counts {
	return Counts{
		Instances: uint64(s.instances.Len()), Nodes: uint64(s.nodes.Len()), Modules: uint64(s.modules.Len()),
		Providers: uint64(s.providers.Len()), Assignments: uint64(s.assignmentCount), Crashes: uint64(s.crashCount),
		Requests: uint64(s.window.byAge.len()), Facts: uint64(s.facts.len()),
	}
}

func encodeCounts(c Counts) *log.SnapshotCounts {
	return &log.SnapshotCounts{
		Instances: c.Instances, Nodes: c.Nodes, Modules: c.Modules, Providers: c.Providers,
		Assignments: c.Assignments, Crashes: c.Crashes, Requests: c.Requests, Facts: c.Facts,
	}
}

func decodeCounts(c *log.SnapshotCounts) Counts {
	return Counts{
		Instances: c.GetInstances(), Nodes: c.GetNodes(), Modules: c.GetModules(), Providers: c.GetProviders(),
		Assignments: c.GetAssignments(), Crashes: c.GetCrashes(), Requests: c.GetRequests(), Facts: c.GetFacts(),
	}
}
