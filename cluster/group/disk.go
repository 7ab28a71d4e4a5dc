package group

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// deleteChunk is how many entries one call may delete from a store that deletes
// them one by one, so that a long compaction is not taken for a stalled disk.
const deleteChunk = 2048

var errClosed = errors.New("the log store is closed")

// disk watches every call to the log and stable store. The first that fails or
// takes too long ends the group: raft would retry, or go on sending heartbeats
// while nothing is written (raft#503, #614, #666).
//
// From then on no call returns. Raft panics on some errors and would answer its
// peers after others, so the goroutine that called ends instead.
type disk struct {
	logs       raft.LogStore
	stable     raft.StableStore
	failure    *failure
	progress   *atomic.Uint64
	stallAfter time.Duration
	armed      atomic.Bool // false until the group is open: errors are Open's then
	closed     atomic.Bool
}

var (
	_ raft.LogStore          = (*disk)(nil)
	_ raft.StableStore       = (*disk)(nil)
	_ raft.MonotonicLogStore = (*disk)(nil)
)

// expected reports the answers that are no failure of a disk. Raft knows the
// second by its text too.
func expected(err error) bool {
	return err == nil || errors.Is(err, raft.ErrLogNotFound) || err.Error() == "not found"
}

func (d *disk) call(what string, f func() error) error {
	if d.failure.failed() {
		return d.stop()
	}
	if d.closed.Load() {
		return errClosed
	}
	watch := newAwakeTimer(d.stallAfter, func() {
		d.failure.fail(wasmatrix.Errorf(wasmatrix.CodeStorage, "the disk has not managed to %s within %s", what, d.stallAfter))
	})
	err := guarded(f)
	if !watch.end() || d.failure.failed() { // late is failed, also when it worked in the end
		return d.stop()
	}
	if expected(err) || d.closed.Load() {
		d.progress.Add(1)
		return err
	}
	err = wasmatrix.Errorf(wasmatrix.CodeStorage, "the disk failed to %s: %w", what, err)
	if !d.armed.Load() {
		return err
	}
	d.failure.fail(err)
	return d.stop()
}

// guarded turns a panic of the store, as on a damaged page, into an error.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the store panicked: %v", p)
		}
	}()
	return f()
}

// stop ends the calling goroutine, which is one of raft's. While the group
// opens it is Open's caller, and gets the error.
func (d *disk) stop() error {
	if d.armed.Load() {
		runtime.Goexit()
	}
	return d.failure.cause()
}

// IsMonotonic implements [raft.MonotonicLogStore].
func (d *disk) IsMonotonic() bool {
	m, ok := d.logs.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// FirstIndex implements [raft.LogStore].
func (d *disk) FirstIndex() (index uint64, err error) {
	err = d.call("read the log", func() (err error) { index, err = d.logs.FirstIndex(); return err })
	return index, err
}

// LastIndex implements [raft.LogStore].
func (d *disk) LastIndex() (index uint64, err error) {
	err = d.call("read the log", func() (err error) { index, err = d.logs.LastIndex(); return err })
	return index, err
}

// GetLog implements [raft.LogStore].
func (d *disk) GetLog(index uint64, log *raft.Log) error {
	return d.call("read the log", func() error { return d.logs.GetLog(index, log) })
}

// StoreLog implements [raft.LogStore].
func (d *disk) StoreLog(log *raft.Log) error {
	return d.call("write the log", func() error { return d.logs.StoreLog(log) })
}

// StoreLogs implements [raft.LogStore].
func (d *disk) StoreLogs(logs []*raft.Log) error {
	return d.call("write the log", func() error { return d.logs.StoreLogs(logs) })
}

// DeleteRange implements [raft.LogStore].
func (d *disk) DeleteRange(low, high uint64) error {
	remove := func(low, high uint64) error {
		return d.call("shorten the log", func() error { return d.logs.DeleteRange(low, high) })
	}
	if d.IsMonotonic() || high < low || high-low < deleteChunk {
		return remove(low, high)
	}
	first, err := d.FirstIndex()
	if err != nil {
		return err
	}
	// A crash between two calls must leave no hole: the head of a log goes from
	// its front, the tail from its back.
	if low <= first {
		for low = max(low, first); low <= high; low += deleteChunk {
			if err := remove(low, min(high, low+deleteChunk-1)); err != nil {
				return err
			}
		}
		return nil
	}
	for {
		from := low
		if high-low >= deleteChunk {
			from = high - deleteChunk + 1
		}
		if err := remove(from, high); err != nil || from == low {
			return err
		}
		high = from - 1
	}
}

// Set implements [raft.StableStore].
func (d *disk) Set(key, val []byte) error {
	return d.call("write the vote", func() error { return d.stable.Set(key, val) })
}

// Get implements [raft.StableStore].
func (d *disk) Get(key []byte) (val []byte, err error) {
	err = d.call("read the vote", func() (err error) { val, err = d.stable.Get(key); return err })
	return val, err
}

// SetUint64 implements [raft.StableStore].
func (d *disk) SetUint64(key []byte, val uint64) error {
	return d.call("write the term", func() error { return d.stable.SetUint64(key, val) })
}

// GetUint64 implements [raft.StableStore].
func (d *disk) GetUint64(key []byte) (val uint64, err error) {
	err = d.call("read the term", func() (err error) { val, err = d.stable.GetUint64(key); return err })
	return val, err
}
