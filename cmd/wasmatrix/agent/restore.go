package agent

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/fsm"
)

func hexHash(h [32]byte) string { return hex.EncodeToString(h[:]) }

// RestoreSnapshot replaces the state of a group by that of a snapshot.
func (v clusterView) RestoreSnapshot(ctx context.Context, group string, r io.Reader) (stateHash string, index uint64, err error) {
	switch group {
	case "":
		return v.restoreControl(ctx, r)
	case kvGroup:
		return v.restoreKV(ctx, r)
	default:
		return "", 0, errNoGroup(group)
	}
}

// restoreKV replaces what the embedded kv holds. The snapshot is verified before
// anything changes.
func (v clusterView) restoreKV(ctx context.Context, r io.Reader) (stateHash string, index uint64, err error) {
	g := v.cluster.Group(kvGroup)
	if err := g.Read(ctx); err != nil { // only its leader can
		return "", 0, err
	}
	if err := g.RestoreSnapshot(ctx, r); err != nil {
		return "", 0, err
	}
	hash, index := v.store.HashAt()
	v.log.Warn("the data of kv was replaced by a user's snapshot", "state_hash", hexHash(hash))
	return hexHash(hash), index, nil
}

// restoreControl replaces the state of the control plane by that of a snapshot,
// which may be another cluster's: all but the identity, which stays this
// cluster's own, so that servers of the other are still told apart. The file is
// read and verified whole before anything changes.
func (v clusterView) restoreControl(ctx context.Context, r io.Reader) (stateHash string, index uint64, err error) {
	if err := v.cluster.Read(ctx); err != nil { // only the leader can, and only in a cluster that works
		return "", 0, err
	}
	tmp, err := os.CreateTemp(v.cfg.DataDir, "restore-*.snap")
	if err != nil {
		return "", 0, storageError(err)
	}
	defer func() { _ = tmp.Close() }()
	// Open, it needs no name, and without one it does not outlive a crash.
	if err := os.Remove(tmp.Name()); err != nil {
		return "", 0, storageError(err)
	}
	cluster := v.machine.State().Cluster()
	if cluster == "" {
		return "", 0, wasmatrix.Errorf(wasmatrix.CodeNoLeader, "the cluster is so young that it has no identity yet").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	hash, err := fsm.Rehome(tmp, r, cluster)
	if err != nil {
		return "", 0, err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return "", 0, storageError(err)
	}
	if err := v.cluster.RestoreSnapshot(ctx, tmp); err != nil {
		return "", 0, err
	}
	v.log.Warn("the state was replaced by a user's snapshot", "state_hash", hexHash(hash))
	return hexHash(hash), v.cluster.Status().Applied, nil
}

func storageError(err error) error {
	return wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", fmt.Errorf("keeping the snapshot: %w", err))
}
