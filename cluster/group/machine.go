package group

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// machine stands between raft and the state machine: it unpacks entries, knows
// how far the state is, and stops the server when the machine breaks.
type machine struct {
	failure  *failure
	progress *atomic.Uint64
	armed    atomic.Bool // false until the group is open: errors are Open's then

	mu        sync.Mutex // held while the state machine is called
	machine   StateMachine
	applied   uint64 // index of the last entry in the state
	term      uint64 // and its term
	configIdx uint64 // index of the last configuration that is committed
	moved     chan struct{}
}

var _ raft.BatchingFSM = (*machine)(nil)

func newMachine(m StateMachine, f *failure, progress *atomic.Uint64) *machine {
	return &machine{machine: m, failure: f, progress: progress, moved: make(chan struct{})}
}

// Apply implements [raft.FSM]; raft prefers ApplyBatch.
func (m *machine) Apply(log *raft.Log) any { return m.ApplyBatch([]*raft.Log{log})[0] }

// ApplyBatch answers each entry of commands with their answers, []any, or with
// the error that stopped the server.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]any, len(logs))
	for i, log := range logs {
		if cause := m.failure.cause(); cause != nil {
			out[i] = cause
			continue
		}
		if log.Type == raft.LogConfiguration {
			m.configIdx = log.Index
		} else {
			out[i] = m.apply(log)
		}
		if !m.failure.failed() {
			m.applied, m.term = log.Index, log.Term
		}
		m.progress.Add(1)
	}
	m.announce()
	return out
}

func (m *machine) apply(log *raft.Log) (answers any) {
	defer func() {
		if p := recover(); p != nil {
			err := panicked(fmt.Sprintf("applying entry %d", log.Index), p)
			m.failure.fail(err)
			answers = err
		}
	}()
	commands, err := decodeFrame(log.Data)
	if err != nil {
		err = wasmatrix.Errorf(wasmatrix.CodeInternal, "entry %d: %w", log.Index, err)
		m.failure.fail(err)
		return err
	}
	all := make([]any, len(commands))
	for i, c := range commands {
		all[i] = m.machine.Apply(log.Index, c)
	}
	return all
}

func panicked(doing string, p any) error {
	return wasmatrix.Errorf(wasmatrix.CodeInternal, "the state machine panicked %s: %v\n%s", doing, p, debug.Stack())
}

// Snapshot implements [raft.FSM].
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	write, _, err := m.grab()
	if err != nil {
		return nil, err
	}
	return &grabbed{write: write, progress: m.progress}, nil
}

// grab returns what writes the state as it is now, and where that is.
func (m *machine) grab() (write func(io.Writer) error, at SnapshotMeta, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = panicked("taking a snapshot", p)
			m.failure.fail(err)
		}
	}()
	if cause := m.failure.cause(); cause != nil {
		return nil, SnapshotMeta{}, cause
	}
	return m.machine.Snapshot(), SnapshotMeta{Index: m.applied, Term: m.term}, nil
}

// Restore implements [raft.FSM].
func (m *machine) Restore(source io.ReadCloser) (err error) {
	meta := metaOf(source)
	if meta == nil {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "raft restores something that is not from our snapshot store")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = panicked("restoring a snapshot", p)
		}
		// Half restored, the state is no state; raft would go on with it.
		if err != nil && m.armed.Load() {
			m.failure.fail(err)
		}
	}()
	if cause := m.failure.cause(); cause != nil {
		return cause
	}
	if err := m.machine.Restore(&progressReader{source, m.progress}); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "restore the snapshot of index %d: %w", meta.Index, err)
	}
	m.applied, m.term = meta.Index, meta.Term
	m.configIdx = meta.ConfigurationIndex
	m.announce()
	return nil
}

// announce wakes those who wait for the state to move. m.mu is held.
func (m *machine) announce() {
	close(m.moved)
	m.moved = make(chan struct{})
}

// reached notes that nothing up to index is left to apply. Raft shows us
// neither the barriers nor the no-ops of the log.
func (m *machine) reached(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index > m.applied && !m.failure.failed() {
		m.applied = index
		m.announce()
	}
}

// wait returns when the state contains index, or ctx's error.
func (m *machine) wait(ctx context.Context, index uint64) error {
	for {
		m.mu.Lock()
		applied, moved := m.applied, m.moved
		m.mu.Unlock()
		if applied >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// position returns the last entry applied, and the last configuration.
func (m *machine) position() (applied, configIdx uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied, m.configIdx
}

// grabbed is a snapshot on its way to the disk.
type grabbed struct {
	write    func(io.Writer) error
	progress *atomic.Uint64
}

// Persist implements [raft.FSMSnapshot].
func (s *grabbed) Persist(to raft.SnapshotSink) (err error) {
	if ours, ok := to.(*sink); ok {
		ours.own = true
	}
	defer func() {
		// The state itself is sound: this is a snapshot less, not a server less.
		if p := recover(); p != nil {
			err = panicked("writing a snapshot", p)
		}
	}()
	return s.write(to)
}

// Release implements [raft.FSMSnapshot].
func (s *grabbed) Release() {}

type progressReader struct {
	io.Reader
	progress *atomic.Uint64
}

func (r *progressReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.progress.Add(1)
	return n, err
}
