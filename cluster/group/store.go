package group

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"go.etcd.io/bbolt"

	"github.com/wasmatrix/wasmatrix"
)

// In the directory of a group, beside the snapshots.
const (
	boltFile = "raft.db"
	walDir   = "wal"
)

// store is where raft's log and its vote are kept.
type store struct {
	logs   raft.LogStore
	stable raft.StableStore
	close  func() error
}

// openStore opens the log store of a kind, and refuses a directory that holds
// the other: the server would begin anew beside its own log.
func openStore(dir, kind string, log hclog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "create the directory of a Raft group: %w", err)
	}
	bolt, walPath := filepath.Join(dir, boltFile), filepath.Join(dir, walDir)
	other, has := walPath, LogStoreWAL
	if kind == LogStoreWAL {
		other, has = bolt, LogStoreBolt
	}
	if _, err := os.Stat(other); err == nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation,
			"%s keeps its log in a %s store, log_store says %s: a server cannot change it; remove the server and let it join anew with an empty directory", dir, has, kind).
			With(wasmatrix.DetailField, "log_store")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "open the log store: %w", err)
	}
	if kind == LogStoreWAL {
		return openWAL(walPath, log)
	}
	return openBolt(bolt)
}

func openBolt(path string) (*store, error) {
	db, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout:        time.Second, // another process may have it
			NoFreelistSync: true,        // rebuilt when opened, one write less each time
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "open the log store %s: %w", path, err)
	}
	return &store{logs: db, stable: db, close: db.Close}, nil
}

func openWAL(path string, log hclog.Logger) (*store, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "create the log store: %w", err)
	}
	// The WAL does not close the database of its metadata; we made it, we do.
	meta := &metadb.BoltMetaDB{}
	w, err := wal.Open(path, wal.WithLogger(log), wal.WithMetaStore(meta))
	if err != nil {
		return nil, errors.Join(wasmatrix.Errorf(wasmatrix.CodeStorage, "open the log store %s: %w", path, err), meta.Close())
	}
	return &store{logs: w, stable: w, close: func() error {
		return errors.Join(w.Close(), meta.Close())
	}}, nil
}
