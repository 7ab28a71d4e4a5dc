package group

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// restoreSpool is where RestoreSnapshot keeps what it reads.
const restoreSpool = "restore-*.tmp"

// sameSnapshotLimit is how often a server may receive one snapshot in a row
// before it is taken to be in the loop of raft#697.
const sameSnapshotLimit = 5

// snapshots is raft's snapshot store, which also tells the machine where the
// snapshot that it restores was taken, and notices when installing one cannot
// bring this server on.
type snapshots struct {
	raft.SnapshotStore
	disk     *disk
	failure  *failure
	progress *atomic.Uint64

	mu    sync.Mutex
	last  SnapshotMeta // the last one received from a leader
	times int          // how often in a row
}

func openSnapshots(dir string, keep int, d *disk, f *failure, progress *atomic.Uint64, log hclog.Logger) (*snapshots, error) {
	// What a crash left half written would stay for ever.
	leftovers, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "open the snapshots: %w", err)
	}
	for _, e := range leftovers {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.RemoveAll(filepath.Join(dir, "snapshots", e.Name())); err != nil {
				return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "open the snapshots: %w", err)
			}
		}
	}
	spools, _ := filepath.Glob(filepath.Join(dir, restoreSpool)) // the pattern is sound
	for _, path := range spools {
		if err := os.Remove(path); err != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "open the snapshots: %w", err)
		}
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, keep, log)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "open the snapshots: %w", err)
	}
	return &snapshots{SnapshotStore: files, disk: d, failure: f, progress: progress}, nil
}

// Create implements [raft.SnapshotStore].
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	inner, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &sink{SnapshotSink: inner, store: s, at: SnapshotMeta{Index: index, Term: term}}, nil
}

// Open implements [raft.SnapshotStore].
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, source, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, &snapshotSource{ReadCloser: source, meta: meta}, nil
}

// snapshotSource is a snapshot being read that knows where it was taken.
type snapshotSource struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

func metaOf(source io.ReadCloser) *raft.SnapshotMeta {
	for {
		switch s := source.(type) {
		case *snapshotSource:
			return s.meta
		case raft.ReadCloserWrapper:
			source = s.WrappedReadCloser()
		default:
			return nil
		}
	}
}

// sink is a snapshot being written.
type sink struct {
	raft.SnapshotSink
	store *snapshots
	at    SnapshotMeta
	own   bool // taken here, rather than received
}

// Write implements [io.Writer].
func (s *sink) Write(b []byte) (int, error) {
	n, err := s.SnapshotSink.Write(b)
	s.store.progress.Add(1)
	return n, err
}

// Close finishes the snapshot.
func (s *sink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	if s.own {
		return nil
	}
	if err := s.store.received(s.at); err != nil {
		s.store.failure.fail(err)
		return err
	}
	return nil
}

// received checks that raft can go on from a snapshot that a leader sent or an
// operator restored, and is now on disk. Where our log contradicts it, raft
// keeps the log, refuses what follows, and is sent the snapshot again, for ever
// (raft#697). After a restart [repair] drops the log.
func (s *snapshots) received(at SnapshotMeta) error {
	last, err := s.disk.LastIndex()
	if err != nil {
		return err
	}
	if last >= at.Index {
		var entry raft.Log
		err := s.disk.GetLog(at.Index, &entry)
		if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
			return err
		}
		if err == nil && entry.Term != at.Term || s.disk.IsMonotonic() {
			return wasmatrix.Errorf(wasmatrix.CodeStorage,
				"the log contradicts the snapshot of index %d and term %d that was received: it is dropped when this server starts again", at.Index, at.Term)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != at {
		s.last, s.times = at, 0
	}
	s.times++
	if s.times >= sameSnapshotLimit {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "the snapshot of index %d was received %d times in a row and does not bring this server on", at.Index, s.times)
	}
	return nil
}

// repair drops a log that contradicts the newest snapshot, before raft sees
// them: at the snapshot's index it has an entry of another term. That entry was
// never committed, and so nothing behind it was; what is before it is in the
// snapshot (the last rule of InstallSnapshot in the Raft paper, figure 13).
func repair(snaps raft.SnapshotStore, d *disk, log hclog.Logger) error {
	all, err := snaps.List()
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "list the snapshots: %w", err)
	}
	if len(all) == 0 {
		return nil
	}
	newest := all[0]
	var entry raft.Log
	if err := d.GetLog(newest.Index, &entry); err != nil {
		if errors.Is(err, raft.ErrLogNotFound) {
			return nil
		}
		return err
	}
	if entry.Term == newest.Term {
		return nil
	}
	first, err := d.FirstIndex()
	if err != nil {
		return err
	}
	last, err := d.LastIndex()
	if err != nil {
		return err
	}
	log.Warn("dropping a log that contradicts the newest snapshot", "snapshot", newest.ID, "entry-term", entry.Term, "first", first, "last", last)
	return d.DeleteRange(first, last)
}

// SnapshotMeta says where in the log a state was taken.
type SnapshotMeta struct {
	Index uint64 // of the last entry in it
	Term  uint64 // of that entry
}

// SaveSnapshot writes the state as this server has applied it, in the state
// machine's own format, without stopping anything. Call Read before it for a
// state that contains everything acknowledged so far.
func (g *Group) SaveSnapshot(ctx context.Context, to io.Writer) (SnapshotMeta, error) {
	write, at, err := g.machine.grab()
	if err != nil {
		return SnapshotMeta{}, g.translate(err)
	}
	if err := write(&contextWriter{ctx, to}); err != nil {
		if ctx.Err() != nil {
			return SnapshotMeta{}, timedOut(ctx.Err(), wasmatrix.OutcomeNone)
		}
		return SnapshotMeta{}, wasmatrix.Errorf(wasmatrix.CodeStorage, "save a snapshot: %w", err)
	}
	return at, nil
}

// RestoreSnapshot replaces the state of the whole group by one that
// SaveSnapshot wrote, on this group or another. It runs on the leader, and what
// is being proposed meanwhile may be lost with outcome unknown. When it returns
// without error a majority has the state.
//
// Errors: INVALID_REQUEST where Config.Verify finds the snapshot wrong, with
// nothing changed.
func (g *Group) RestoreSnapshot(ctx context.Context, from io.Reader) error {
	if g.conf.Verify == nil {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "group %s cannot tell a sound snapshot from another", g.conf.Name)
	}
	if !g.leads() {
		return g.notLeader()
	}
	// Raft wants the size first, and reads while the group waits.
	file, err := os.CreateTemp(g.conf.Dir, restoreSpool)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "restore a snapshot: %w", err)
	}
	discard := func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}
	size, err := io.Copy(file, &contextReader{ctx, from})
	if err == nil {
		err = rewind(file)
	}
	if err != nil {
		discard()
		if ctx.Err() != nil {
			return timedOut(ctx.Err(), wasmatrix.OutcomeNone)
		}
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeStorage, "restore a snapshot: %w", err), wasmatrix.OutcomeNone)
	}
	err = g.conf.Verify(&contextReader{ctx, file})
	if err == nil {
		err = rewind(file)
	}
	if err != nil {
		discard()
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "this is not a snapshot that can be restored: %w", err), wasmatrix.OutcomeNone)
	}
	err = g.await(ctx, func() error {
		defer discard()
		meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Size: size}
		return g.raft.Restore(meta, file, g.conf.RPCTimeout)
	})
	// The restore ends with a no-op that the machine does not see: the next
	// read needs a barrier again.
	g.reads.forget()
	return g.translate(err)
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

type contextWriter struct {
	ctx context.Context
	io.Writer
}

func (w *contextWriter) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.Writer.Write(b)
}
