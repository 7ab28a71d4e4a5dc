package group

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestLogStoreCannotBeSwitched(t *testing.T) {
	for _, kinds := range [][2]string{{LogStoreBolt, LogStoreWAL}, {LogStoreWAL, LogStoreBolt}} {
		c := newCluster(t, 1, func(conf *Config) { conf.LogStore = kinds[0] })
		c.must("x")
		p := c.peers[0]
		p.stop()
		p.conf.LogStore = kinds[1]
		err := p.tryOpen()
		wantCode(t, err, wasmatrix.CodeValidation, "")
		if field := wasmatrix.AsError(err).Details[wasmatrix.DetailField]; field != "log_store" {
			t.Fatalf("%v names field %q", err, field)
		}
		p.conf.LogStore = kinds[0]
		p.open()
		eventually(t, "x again", func() bool { return slices.Contains(p.machine.all(), "x") })
	}
}

func TestStoreInUse(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir, LogStoreBolt, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	_, err = openStore(dir, LogStoreBolt, hclog.NewNullLogger())
	wantCode(t, err, wasmatrix.CodeStorage, "")
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// testDisk is a disk over a real store, as it is while a group opens.
func testDisk(t *testing.T, kind string) *disk {
	t.Helper()
	s, err := openStore(t.TempDir(), kind, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	f := newFailure(hclog.NewNullLogger(), func(error) {})
	return &disk{logs: s.logs, stable: s.stable, failure: f, progress: &atomic.Uint64{}, stallAfter: time.Minute}
}

func (d *disk) fill(t *testing.T, from, to, term uint64) {
	t.Helper()
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: term, Data: []byte{1, 1, 1, 'x'}})
	}
	if err := d.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

func (d *disk) span(t *testing.T) (first, last uint64) {
	t.Helper()
	first, err := d.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	if last, err = d.LastIndex(); err != nil {
		t.Fatal(err)
	}
	return first, last
}

// rangeStore notes what is deleted from a log that is nothing but a span, and
// fails where that would leave a hole.
type rangeStore struct {
	raft.LogStore
	first, last uint64
	largest     uint64
}

func (r *rangeStore) FirstIndex() (uint64, error) { return r.first, nil }
func (r *rangeStore) LastIndex() (uint64, error)  { return r.last, nil }
func (r *rangeStore) DeleteRange(low, high uint64) error {
	r.largest = max(r.largest, high-low+1)
	switch {
	case low <= r.first:
		r.first = min(high, r.last) + 1
	case high >= r.last:
		r.last = low - 1
	default:
		return fmt.Errorf("a hole from %d to %d in a log from %d to %d", low, high, r.first, r.last)
	}
	return nil
}

func TestLongDeletionsAreDoneInParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Range(1, 100).Draw(t, "first")
		n := rapid.Uint64Range(1, 4*deleteChunk).Draw(t, "entries")
		log := &rangeStore{first: first, last: first + n - 1}
		d := &disk{logs: log, failure: newFailure(hclog.NewNullLogger(), func(error) {}), progress: &atomic.Uint64{}, stallAfter: time.Minute}
		cut := rapid.Uint64Range(first, log.last).Draw(t, "cut")
		var err error
		wantFirst, wantLast := first, log.last
		if rapid.Bool().Draw(t, "head") {
			wantFirst = cut + 1
			err = d.DeleteRange(first, cut)
		} else if cut > first {
			wantLast = cut - 1
			err = d.DeleteRange(cut, log.last)
		}
		if err != nil || log.first != wantFirst || log.last != wantLast {
			t.Fatalf("%v; from %d to %d is left, want %d to %d", err, log.first, log.last, wantFirst, wantLast)
		}
		if log.largest > deleteChunk {
			t.Fatalf("%d entries were deleted in one call", log.largest)
		}
	})
}

func TestDeleteRange(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		d := testDisk(t, kind)
		const n = 2*deleteChunk + 500
		d.fill(t, 1, n, 1)
		if err := d.DeleteRange(1, deleteChunk+100); err != nil {
			t.Fatal(err)
		}
		if err := d.DeleteRange(n-deleteChunk-100, n); err != nil {
			t.Fatal(err)
		}
		if first, last := d.span(t); first != deleteChunk+101 || last != n-deleteChunk-101 {
			t.Fatalf("from %d to %d is left", first, last)
		}
	})
}

func testSnapshots(t *testing.T, d *disk) *snapshots {
	t.Helper()
	dir := t.TempDir()
	leftover := filepath.Join(dir, "snapshots", "1-1-1.tmp")
	if err := os.MkdirAll(leftover, 0o700); err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(dir, "restore-1.tmp")
	if err := os.WriteFile(spool, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openSnapshots(dir, 2, d, d.failure, d.progress, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{leftover, spool} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Fatalf("%s is still there: %v", path, err)
		}
	}
	return s
}

// receive writes a snapshot as raft does when a leader sends one.
func (s *snapshots) receive(t *testing.T, index, term uint64) error {
	t.Helper()
	_, trans := raft.NewInmemTransport("")
	to, err := s.Create(raft.SnapshotVersionMax, index, term, raft.Configuration{}, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(to, "state"); err != nil {
		t.Fatal(err)
	}
	return to.Close()
}

// raft#697: raft keeps a log that contradicts the snapshot it has installed,
// refuses what follows, and gets the snapshot again, for ever.
func TestContradictedLogEndsTheServerAndIsDropped(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		d := testDisk(t, kind)
		s := testSnapshots(t, d)
		d.fill(t, 1, 10, 1)
		err := s.receive(t, 7, 2)
		if err == nil || !d.failure.failed() || !strings.Contains(err.Error(), "contradicts") {
			t.Fatalf("got %v", err)
		}
		d.failure = newFailure(hclog.NewNullLogger(), func(error) {}) // it starts again
		if err := repair(s, d, hclog.NewNullLogger()); err != nil {
			t.Fatal(err)
		}
		if first, last := d.span(t); first != 0 || last != 0 {
			t.Fatalf("the log still has %d to %d", first, last)
		}
	})
}

func TestSoundLogIsKept(t *testing.T) {
	d := testDisk(t, LogStoreBolt)
	s := testSnapshots(t, d)
	d.fill(t, 1, 10, 1)
	if err := s.receive(t, 7, 1); err != nil { // the same entry
		t.Fatal(err)
	}
	if err := repair(s, d, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	if err := s.receive(t, 20, 3); err != nil { // ahead of the log
		t.Fatal(err)
	}
	if err := repair(s, d, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	if first, last := d.span(t); first != 1 || last != 10 {
		t.Fatalf("from %d to %d is left of 1 to 10", first, last)
	}
	if d.failure.failed() {
		t.Fatal(d.failure.cause())
	}
}

func TestSameSnapshotAgainAndAgain(t *testing.T) {
	d := testDisk(t, LogStoreBolt)
	s := testSnapshots(t, d)
	for range sameSnapshotLimit - 1 {
		if err := s.receive(t, 7, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.receive(t, 8, 1); err != nil { // that is progress
		t.Fatal(err)
	}
	for range sameSnapshotLimit - 1 {
		if err := s.receive(t, 9, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.receive(t, 9, 1); err == nil || !d.failure.failed() {
		t.Fatalf("got %v", err)
	}
}

// The whole of raft#697 with real peers: the second has entries of a leader
// that nobody followed, and gets the first's snapshot.
func TestDivergedFollowerRecovers(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		tune := func(conf *Config) { conf.LogStore = kind; conf.SnapshotThreshold, conf.TrailingLogs = 1, 1 }
		c := newCluster(t, 1, tune)
		l := c.leader()
		f := c.add("f.00000000", tune)
		f.stop()
		s, err := openStore(f.conf.Dir, kind, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		// The bootstrap both have, and then what the follower alone has: term 1
		// never had a leader.
		var bootstrap raft.Log
		if err := l.store.logs.GetLog(1, &bootstrap); err != nil {
			t.Fatal(err)
		}
		if err := s.logs.StoreLog(&bootstrap); err != nil {
			t.Fatal(err)
		}
		(&disk{logs: s.logs, failure: newFailure(f.conf.Logger, func(error) {}), progress: &atomic.Uint64{}, stallAfter: time.Minute}).fill(t, 2, 60, 1)
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		for _, x := range numbered(20) {
			c.must(x)
		}
		if err := l.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		f.open()
		if err := l.AddNonvoter(within30(t), f.conf.ID, f.stream.Addr().String(), 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the follower catching up, with a restart if need be", func() bool {
			select {
			case err := <-f.fatal:
				t.Logf("restarting after: %v", err)
				f.stop()
				f.open()
			default:
			}
			return slices.Equal(f.machine.all(), numbered(20))
		})
		c.must("after")
		eventually(t, "the follower following", func() bool { return slices.Contains(f.machine.all(), "after") })
	})
}
