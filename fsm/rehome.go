package fsm

import (
	"io"

	"github.com/wasmatrix/wasmatrix"
)

// Rehome copies a snapshot as one of another cluster, and returns the hash of
// its state, which is the same in both. It checks the snapshot as [FSM.Restore]
// would, and fails before it has written anything if that does.
func Rehome(to io.Writer, from io.Reader, cluster wasmatrix.ClusterID) ([32]byte, error) {
	var specs specInterner
	s, _, err := readSnapshot(from, &specs)
	if err != nil {
		return [32]byte{}, err
	}
	s.cluster = cluster
	if err := s.WriteSnapshot(to); err != nil {
		return [32]byte{}, wasmatrix.Errorf(wasmatrix.CodeStorage, "writing the snapshot: %w", err)
	}
	return s.Hash(), nil
}
