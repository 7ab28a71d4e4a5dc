package store

import (
	"io"

	"github.com/wasmatrix/wasmatrix/snapfile"
)

// snapshotFormat is that of the store's snapshots; its version is that of the
// schema. Their trailer has the state's hash besides the sums of the file.
var snapshotFormat = &snapfile.Format{
	Name: "kv snapshot", Magic: "WMXKVSN\n", Newest: SchemaVersion,
	Sections: []string{"entries", "fences", "writes"},
	MaxChunk: snapfile.ChunkTarget + maxValue + 2*maxText + 1024,
}

// The kinds of records, in the order of the sections.
const (
	chunkEntries = snapfile.FirstSection + iota
	chunkFences
	chunkWrites
)

// Info is what [Inspect] finds.
type Info struct {
	SchemaVersion  uint32
	ProductVersion string // of the release that wrote it
	Stats
	Hash  [32]byte // of the state, computed from the records
	Bytes int64    // length of the snapshot
}

// Verify reads a whole snapshot and checks it as [Store.Restore] would.
func Verify(r io.Reader) error {
	_, _, err := read(r)
	return err
}

// Inspect reads a whole snapshot, checks it as [Store.Restore] would, and says
// what it holds.
func Inspect(r io.Reader) (Info, error) {
	_, info, err := read(r)
	return info, err
}
