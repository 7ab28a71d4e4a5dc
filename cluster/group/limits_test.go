package group

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

func TestQueueIsBounded(t *testing.T) {
	release := make(chan struct{})
	c, faults := faulty(t, func(conf *Config) {
		conf.QueueLimit, conf.MaxInFlight, conf.StallAfter = 4, 1, time.Hour
	})
	l := c.leader()
	hung := make(chan struct{}, 64)
	faults[l].befall(func() error { hung <- struct{}{}; <-release; return nil })
	var wg sync.WaitGroup
	propose := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		wg.Go(func() {
			_, _, err := l.Propose(ctx, []byte("x"))
			done <- err
		})
		return done
	}
	first := propose(within30(t))
	<-hung // raft is writing it
	waiting := propose(within30(t))
	for range 3 {
		propose(within30(t))
	}
	eventually(t, "a full queue", func() bool { return l.Stats().Queued == 4 })
	_, _, err := l.Propose(within30(t), []byte("one too many"))
	wantCode(t, err, wasmatrix.CodeResourceExhausted, wasmatrix.OutcomeNone)

	close(release)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestWithdrawnWhileQueued(t *testing.T) {
	release := make(chan struct{})
	c, faults := faulty(t, func(conf *Config) { conf.MaxInFlight, conf.StallAfter = 1, time.Hour })
	l := c.leader()
	hung := make(chan struct{}, 64)
	faults[l].befall(func() error { hung <- struct{}{}; <-release; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, _, err := l.Propose(ctx, []byte("taken")); first <- err }()
	<-hung
	go func() { _, _, err := l.Propose(ctx, []byte("queued")); second <- err }()
	eventually(t, "the second waiting", func() bool { return l.Stats().Queued == 1 })
	cancel()
	wantCode(t, <-first, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown)
	wantCode(t, <-second, wasmatrix.CodeTimeout, wasmatrix.OutcomeNone)
	close(release)
	c.must("after")
	for _, x := range l.machine.all() {
		if x == "queued" {
			t.Fatal("a command whose outcome was said to be none came about")
		}
	}
}

func TestCommandSize(t *testing.T) {
	c := newCluster(t, 1, func(conf *Config) { conf.MaxCommandBytes, conf.MaxBatchBytes = 1000, 100 })
	l := c.leader()
	if _, _, err := l.Propose(t.Context(), []byte(strings.Repeat("x", 1000))); err != nil {
		t.Fatal(err) // larger than a batch, and alone in its entry
	}
	_, _, err := l.Propose(t.Context(), []byte(strings.Repeat("x", 1001)))
	wantCode(t, err, wasmatrix.CodeResourceExhausted, wasmatrix.OutcomeNone)
}

func TestTakeKeepsToItsBounds(t *testing.T) {
	q := newQueue(100, 1000)
	put := func(size int) *proposal {
		p := &proposal{command: make([]byte, size), done: make(chan answered, 1)}
		if ok, _ := q.put(p); !ok {
			t.Fatalf("%d bytes were refused", size)
		}
		return p
	}
	put(40)
	put(40).withdraw()
	put(40)
	put(40)
	put(500)
	for i, want := range [][]int{{40, 40}, {40}, {500}, nil} {
		var got []int
		for _, p := range q.take(10, 100) {
			got = append(got, len(p.command))
		}
		if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
			t.Fatalf("batch %d is %v, want %v", i, got, want)
		}
	}
	for range 5 {
		put(1)
	}
	if got := len(q.take(3, 100)); got != 3 {
		t.Fatalf("%d commands, at most 3 were asked for", got)
	}
	put(990)
	if ok, _ := q.put(&proposal{command: make([]byte, 10)}); ok {
		t.Fatal("more bytes than the queue may hold")
	}
}

func TestConfigIsValidated(t *testing.T) {
	c := newPeers(t, 1, nil)
	good := c.peers[0].conf
	for name, spoil := range map[string]func(*Config){
		"no directory":           func(c *Config) { c.Dir = "" },
		"no name":                func(c *Config) { c.Name = "" },
		"no machine":             func(c *Config) { c.Machine = nil },
		"other server":           func(c *Config) { c.ID = "z.00000000" },
		"unknown log store":      func(c *Config) { c.LogStore = "sqlite" },
		"one snapshot":           func(c *Config) { c.SnapshotsKept = 1 },
		"negative limit":         func(c *Config) { c.QueueLimit = -1 },
		"lease above heartbeat":  func(c *Config) { c.Timing.LeaderLease = c.Timing.Heartbeat + 1 },
		"election too early":     func(c *Config) { c.Timing.Election = c.Timing.Heartbeat - 1 },
		"heartbeat too short":    func(c *Config) { c.Timing.Heartbeat = time.Millisecond },
		"lease missing":          func(c *Config) { c.Timing.LeaderLease = 0 },
		"commit timeout missing": func(c *Config) { c.Timing.Commit = 0 },
	} {
		conf := good
		spoil(&conf)
		_, err := Open(conf)
		if code := wasmatrix.CodeOf(err); code != wasmatrix.CodeValidation && code != wasmatrix.CodeInvalidRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same group twice on one listener.
	conf := good
	conf.Dir = t.TempDir()
	_, err := Open(conf)
	wantCode(t, err, wasmatrix.CodeConflict, "")
	if _, err := Open(Config{}); err == nil {
		t.Error("an empty configuration opens")
	}
}

func TestOutcomes(t *testing.T) {
	c := newPeers(t, 1, nil)
	g := c.peers[0].Group
	for _, x := range []struct {
		err     error
		code    wasmatrix.Code
		outcome string
	}{
		{raft.ErrNotLeader, wasmatrix.CodeNoLeader, wasmatrix.OutcomeNone},
		{raft.ErrLeadershipTransferInProgress, wasmatrix.CodeNoLeader, wasmatrix.OutcomeNone},
		{raft.ErrEnqueueTimeout, wasmatrix.CodeNoLeader, wasmatrix.OutcomeNone},
		{raft.ErrLeadershipLost, wasmatrix.CodeCommunication, wasmatrix.OutcomeUnknown},
		{raft.ErrAbortedByRestore, wasmatrix.CodeCommunication, wasmatrix.OutcomeUnknown},
		{raft.ErrRaftShutdown, wasmatrix.CodeCommunication, wasmatrix.OutcomeUnknown},
		{context.DeadlineExceeded, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown},
		{raft.ErrCantBootstrap, wasmatrix.CodeConflict, wasmatrix.OutcomeNone},
		{errors.New("configuration changed since 3 (latest is 4)"), wasmatrix.CodeConflict, wasmatrix.OutcomeNone},
		{errors.New("something else"), wasmatrix.CodeStorage, wasmatrix.OutcomeUnknown},
	} {
		wantCode(t, g.translate(x.err), x.code, x.outcome)
	}
	if err := g.translate(nil); err != nil {
		t.Fatalf("no error became %v", err)
	}
}
