package group

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// faultyStore is a real store whose disk can break.
type faultyStore struct {
	raft.LogStore
	raft.StableStore
	storing atomic.Pointer[func() error] // what befalls a write before it is done
}

func (f *faultyStore) befall(fault func() error) { f.storing.Store(&fault) }

func (f *faultyStore) fault() error {
	if fault := f.storing.Load(); fault != nil {
		return (*fault)()
	}
	return nil
}

func (f *faultyStore) StoreLogs(logs []*raft.Log) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.LogStore.StoreLogs(logs)
}

func (f *faultyStore) SetUint64(key []byte, val uint64) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.StableStore.SetUint64(key, val)
}

func (f *faultyStore) IsMonotonic() bool {
	m, ok := f.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// faulty gives every peer a store that can break.
func faulty(t *testing.T, tune func(*Config)) (*cluster, map[*peer]*faultyStore) {
	t.Helper()
	c := newPeers(t, 3, tune)
	faults := make(map[*peer]*faultyStore)
	for _, p := range c.peers {
		p.stop()
		p.wrap = func(s *store) {
			f := &faultyStore{LogStore: s.logs, StableStore: s.stable}
			s.logs, s.stable = f, f
			faults[p] = f
		}
		p.open()
	}
	c.bootstrap()
	return c, faults
}

func (p *peer) wantFatal(code wasmatrix.Code, part string) {
	p.tb.Helper()
	select {
	case err := <-p.fatal:
		if wasmatrix.CodeOf(err) != code || !strings.Contains(err.Error(), part) {
			p.tb.Fatalf("fatal: %v, want %s with %q", err, code, part)
		}
	case <-within30(p.tb).Done():
		p.tb.Fatal("nothing was fatal")
	}
}

// deaf checks that a failed server refuses everything, and that the others go
// on without it.
func (c *cluster) deaf(p *peer) {
	c.tb.Helper()
	_, _, err := p.Propose(within30(c.tb), []byte("too late"))
	wantCode(c.tb, err, wasmatrix.CodeStorage, wasmatrix.OutcomeNone)
	_, err = p.Read(within30(c.tb))
	wantCode(c.tb, err, wasmatrix.CodeStorage, wasmatrix.OutcomeNone)
	if p.Leader().Self {
		c.tb.Fatal("it still takes itself for the leader")
	}
	next := c.leader(c.others(p)...)
	if _, _, err := next.Propose(within30(c.tb), []byte("without it")); err != nil {
		c.tb.Fatal(err)
	}
	if slices.Contains(p.machine.all(), "without it") {
		c.tb.Fatal("a failed server still takes part")
	}
}

// I11.
func TestI11_FailedDiskTakesTheLeaderOut(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		c, faults := faulty(t, func(conf *Config) { conf.LogStore = kind })
		c.must("before")
		l := c.leader()
		faults[l].befall(func() error { return errors.New("input/output error") })
		_, _, err := l.Propose(within30(t), []byte("lost"))
		wantCode(t, err, wasmatrix.CodeStorage, wasmatrix.OutcomeUnknown)
		l.wantFatal(wasmatrix.CodeStorage, "input/output error")
		faults[l].befall(func() error { return nil }) // also where the disk recovers
		c.deaf(l)
	})
}

func TestI11_FailedDiskTakesAFollowerOut(t *testing.T) {
	c, faults := faulty(t, nil)
	c.must("before")
	l := c.leader()
	f := c.others(l)[0]
	faults[f].befall(func() error { return errors.New("no space left on device") })
	c.must("after")
	f.wantFatal(wasmatrix.CodeStorage, "no space left on device")
	_, err := f.Read(t.Context())
	wantCode(t, err, wasmatrix.CodeStorage, wasmatrix.OutcomeNone)
	// The others are a majority, and the failed one has confirmed nothing.
	if match, err := f.store.logs.LastIndex(); err != nil || match >= l.Stats().Commit {
		t.Fatalf("the failed log ends at %d, %v", match, err)
	}
	c.must("without it")
}

// A disk that hangs is not a disk that fails: nothing returns. The write that
// hung may even work in the end, and must not count.
func TestI11_StalledDiskTakesTheLeaderOut(t *testing.T) {
	c, faults := faulty(t, func(conf *Config) { conf.StallAfter = 300 * time.Millisecond })
	c.must("before")
	l := c.leader()
	release, hung := make(chan struct{}), make(chan struct{}, 64)
	faults[l].befall(func() error {
		hung <- struct{}{}
		<-release
		return nil
	})
	answer := make(chan error, 1)
	go func() {
		_, _, err := l.Propose(within30(t), []byte("hung"))
		answer <- err
	}()
	<-hung
	l.wantFatal(wasmatrix.CodeStorage, "within 300ms")
	wantCode(t, <-answer, wasmatrix.CodeStorage, wasmatrix.OutcomeUnknown)
	c.deaf(l)
	close(release)
	c.must("later")
	if got := l.machine.all(); slices.Contains(got, "later") || slices.Contains(got, "hung") {
		t.Fatalf("the failed server went on: %v", got)
	}
}

func TestI11_StalledDiskTakesAFollowerOut(t *testing.T) {
	c, faults := faulty(t, func(conf *Config) { conf.StallAfter = 300 * time.Millisecond })
	c.must("before")
	l := c.leader()
	a, b := c.others(l)[0], c.others(l)[1]
	b.stop() // so that the leader needs a
	release := make(chan struct{})
	faults[a].befall(func() error { <-release; return nil })
	answer := make(chan error, 1)
	go func() {
		_, _, err := l.Propose(within30(t), []byte("hung"))
		answer <- err
	}()
	a.wantFatal(wasmatrix.CodeStorage, "within 300ms")
	close(release) // the entry is on a's disk now, and a is not to say so
	if err := <-answer; err == nil {
		t.Fatal("a write was acknowledged on the word of a server that had failed")
	}
}

func TestPanicOfTheMachineTakesTheServerOut(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must("before")
	l := c.leader()
	_, _, err := l.Propose(within30(t), []byte("panic"))
	if wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown {
		t.Fatalf("got %v", err)
	}
	l.wantFatal(wasmatrix.CodeInternal, "as asked")
	_, _, err = l.Propose(within30(t), []byte("too late"))
	wantCode(t, err, wasmatrix.CodeStorage, wasmatrix.OutcomeNone)
	if got := l.machine.all(); !slices.Equal(got, []string{"before"}) {
		t.Fatalf("the machine went on: %v", got)
	}
}

// raft#696: a handover that never ends leaves the leader refusing everything.
func TestWatchdogEndsAStuckHandover(t *testing.T) {
	c := newCluster(t, 3, func(conf *Config) { conf.WatchdogAfter = time.Second })
	l := c.leader()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	l.transport.timeoutNow = func() error { <-release; return errors.New("released") }
	err := l.TransferLeadership(within30(t), "")
	if err == nil {
		t.Fatal("the handover worked")
	}
	_, _, err = l.Propose(within30(t), []byte("refused"))
	if err == nil {
		t.Fatal("raft accepts writes during a handover: this test has lost its ground")
	}
	l.wantFatal(wasmatrix.CodeInternal, "handing over leadership")
}

func TestWatchdogEndsAStandstill(t *testing.T) {
	c, faults := faulty(t, func(conf *Config) {
		conf.WatchdogAfter, conf.StallAfter = time.Second, time.Hour
	})
	l := c.leader()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	faults[l].befall(func() error { <-release; return nil })
	go func() { _, _, _ = l.Propose(within30(t), []byte("hung")) }()
	l.wantFatal(wasmatrix.CodeInternal, "has not moved")
}

// Long quiet, and long work, are no standstill.
func TestWatchdogLetsAHealthyGroupBe(t *testing.T) {
	c := newCluster(t, 3, func(conf *Config) { conf.WatchdogAfter = 150 * time.Millisecond })
	l := c.leader()
	time.Sleep(time.Second) // several times what the watchdog allows
	for _, p := range c.peers {
		select {
		case err := <-p.fatal:
			t.Fatalf("fatal: %v", err)
		default:
		}
	}
	if err := l.TransferLeadership(within30(t), ""); err != nil {
		t.Fatal(err)
	}
	c.must("x")
}

func TestFailureWhileOpeningIsAnError(t *testing.T) {
	c := newPeers(t, 1, nil)
	p := c.peers[0]
	p.stop()
	p.wrap = func(s *store) {
		f := &faultyStore{LogStore: s.logs, StableStore: s.stable}
		f.befall(func() error { return errors.New("read-only file system") })
		s.logs, s.stable = f, f
	}
	err := p.tryOpen()
	wantCode(t, err, wasmatrix.CodeStorage, "")
	if !strings.Contains(err.Error(), "read-only file system") {
		t.Fatal(err)
	}
	p.wrap = nil
	p.open()
}

// Nothing comes back from a disk that has failed, not even what worked late:
// the goroutine that asked is raft's, and must not go on.
func TestNothingReturnsFromAFailedDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan error, 1)
		log := &faultyStore{LogStore: raft.NewInmemStore()}
		d := &disk{logs: log, failure: newFailure(hclog.NewNullLogger(), func(err error) { told <- err }), progress: &atomic.Uint64{}, stallAfter: 2 * time.Second}
		d.armed.Store(true)
		var returned atomic.Int32
		store := func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = d.StoreLogs([]*raft.Log{{Index: 1, Term: 1}})
				returned.Add(1)
			}()
			<-done
		}
		log.befall(func() error { time.Sleep(1999 * time.Millisecond); return nil })
		if store(); returned.Load() != 1 || d.failure.failed() {
			t.Fatalf("a slow disk: %v", d.failure.cause())
		}
		log.befall(func() error { time.Sleep(2001 * time.Millisecond); return nil })
		store()
		if err := <-told; wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
			t.Fatal(err)
		}
		log.befall(func() error { return nil })
		store()
		if returned.Load() != 1 {
			t.Fatal("a call to a failed disk returned")
		}
	})
}
