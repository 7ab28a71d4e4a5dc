package group

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

func TestProposeAndRead(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		c := newCluster(t, 3, func(conf *Config) { conf.LogStore = kind })
		l := c.leader()
		answer, index, err := l.Propose(t.Context(), []byte("x"))
		if err != nil || answer != "did x" || index == 0 {
			t.Fatalf("answered %v at %d, %v", answer, index, err)
		}
		at, err := l.Read(t.Context())
		if err != nil || at < index {
			t.Fatalf("read at %d, %v; the write is at %d", at, err, index)
		}
		for _, p := range c.peers {
			eventually(t, "x everywhere", func() bool { return slices.Equal(p.machine.all(), []string{"x"}) })
		}
		// The machine's error is the caller's, and nothing is wrong with the group.
		_, _, err = l.Propose(t.Context(), []byte("refuse"))
		wantCode(t, err, wasmatrix.CodeValidation, "")
		if _, _, err := l.Propose(t.Context(), []byte("y")); err != nil {
			t.Fatal(err)
		}
		s := l.Stats()
		if s.State != "Leader" || s.Voters != 3 || s.Applied < index || s.Commit < s.Applied || s.Commands != 3 {
			t.Fatalf("stats %+v", s)
		}
	})
}

func TestFollowerRefuses(t *testing.T) {
	c := newCluster(t, 3, nil)
	l := c.leader()
	for _, f := range c.others(l) {
		eventually(t, "followers knowing the leader", func() bool { return f.Leader().ID == l.conf.ID })
		if got := f.Leader(); got.Self || !got.Known || got.Addr != l.stream.Addr().String() || got.Term != l.Leader().Term {
			t.Fatalf("the follower knows %+v", got)
		}
		_, _, err := f.Propose(t.Context(), []byte("x"))
		wantCode(t, err, wasmatrix.CodeNotLeader, wasmatrix.OutcomeNone)
		if id := wasmatrix.AsError(err).Details[DetailLeaderID]; id != string(l.conf.ID) {
			t.Fatalf("it points to %q", id)
		}
		_, err = f.Read(t.Context())
		wantCode(t, err, wasmatrix.CodeNotLeader, wasmatrix.OutcomeNone)
		err = f.AddNonvoter(t.Context(), "z.00000000", "127.0.0.1:1", 0)
		wantCode(t, err, wasmatrix.CodeNotLeader, wasmatrix.OutcomeNone)
		err = f.RestoreSnapshot(t.Context(), strings.NewReader(""))
		wantCode(t, err, wasmatrix.CodeNotLeader, wasmatrix.OutcomeNone)
	}
}

func TestManyProposalsShareEntries(t *testing.T) {
	c := newCluster(t, 3, nil)
	l := c.leader()
	before := l.Stats().LastIndex
	const workers, each = 64, 20
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range each {
				command := strings.Repeat("c", i+1)
				answer, _, err := l.Propose(t.Context(), []byte(command))
				if err != nil || answer != "did "+command { // each its own answer
					t.Errorf("%s answered %v, %v", command, answer, err)
					return
				}
			}
		})
	}
	wg.Wait()
	s := l.Stats()
	if got := len(l.machine.all()); got != workers*each {
		t.Fatalf("%d commands applied, %d proposed", got, workers*each)
	}
	if s.Commands != workers*each || s.Entries*4 > s.Commands || s.LastIndex-before < s.Entries {
		t.Fatalf("%d commands in %d entries, the log grew by %d", s.Commands, s.Entries, s.LastIndex-before)
	}
	// Nobody's commands overtake each other in an entry or between them.
	if !slices.IsSorted(l.machine.indexes) {
		t.Fatal("entries were applied out of order")
	}
}

func TestAnotherLeads(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.must("before")
	l := c.leader()
	term := l.Leader().Term
	l.stop()
	c.must("after")
	next := c.leader()
	if next.Leader().Term <= term {
		t.Fatalf("term %d after term %d", next.Leader().Term, term)
	}
	l.open()
	eventually(t, "the old leader catching up", func() bool {
		all := l.machine.all()
		return slices.Contains(all, "before") && slices.Contains(all, "after")
	})
}

func TestRestartKeepsEverything(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		c := newCluster(t, 3, func(conf *Config) { conf.LogStore = kind })
		for _, x := range numbered(20) {
			if _, _, err := c.leader().Propose(t.Context(), []byte(x)); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range c.peers {
			p.stop()
		}
		for _, p := range c.peers {
			p.open()
		}
		l := c.leader()
		if got := l.machine.all(); !slices.Equal(got, numbered(20)) {
			t.Fatalf("after the restart there is %v", got)
		}
		wantCode(t, c.peers[0].Bootstrap(c.servers()), wasmatrix.CodeConflict, wasmatrix.OutcomeNone)
	})
}

func TestBootstrapIsExplicitAndOnce(t *testing.T) {
	c := newPeers(t, 3, nil)
	p := c.peers[0]
	if p.HasState() {
		t.Fatal("a new server has state")
	}
	err := p.Bootstrap(c.servers()[1:])
	wantCode(t, err, wasmatrix.CodeValidation, "")
	c.bootstrap()
	if !p.HasState() {
		t.Fatal("a bootstrapped server has no state")
	}
	wantCode(t, p.Bootstrap(c.servers()), wasmatrix.CodeConflict, wasmatrix.OutcomeNone)
	c.must("x")
	for _, q := range c.peers {
		eventually(t, "state everywhere", q.HasState)
		wantCode(t, q.Bootstrap(c.servers()), wasmatrix.CodeConflict, wasmatrix.OutcomeNone)
	}
}

// I12.
func TestI12_MinorityAcknowledgesNothing(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.must("before")
	l := c.leader()
	rest := c.others(l)
	l.valve.close()
	// It takes itself for the leader until its lease ends: what it took meanwhile
	// may yet come about, and it may not say that it did.
	ctx, cancel := context.WithTimeout(t.Context(), quick.LeaderLease/2)
	_, _, err := l.Propose(ctx, []byte("cut off"))
	cancel()
	wantCode(t, err, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown)
	_, _, err = l.Propose(within30(t), []byte("cut off too"))
	if err == nil {
		t.Fatal("a leader without a majority acknowledged a write")
	}
	eventually(t, "the lease running out", func() bool { return !l.Leader().Known })
	_, _, err = l.Propose(t.Context(), []byte("refused"))
	wantCode(t, err, wasmatrix.CodeNoLeader, wasmatrix.OutcomeNone)
	_, err = l.Read(t.Context())
	wantCode(t, err, wasmatrix.CodeNoLeader, wasmatrix.OutcomeNone)

	next := c.leader(rest...)
	if _, _, err := next.Propose(t.Context(), []byte("majority")); err != nil {
		t.Fatal(err)
	}
	l.valve.open()
	eventually(t, "the old leader following", func() bool { return slices.Contains(l.machine.all(), "majority") })
	for _, x := range []string{"cut off", "cut off too", "refused"} {
		if slices.Contains(next.machine.all(), x) {
			t.Errorf("%q came about although the majority went on without it", x)
		}
	}
}

func TestSnapshotsAtAThreshold(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		few := func(conf *Config) {
			conf.LogStore = kind
			conf.SnapshotThreshold, conf.SnapshotInterval, conf.TrailingLogs = 20, 5e6, 5
		}
		c := newCluster(t, 3, few)
		l := c.leader()
		want := numbered(100)
		for _, x := range want {
			if _, _, err := l.Propose(t.Context(), []byte(x)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "a snapshot", func() bool { return l.Stats().Snapshot >= 80 })
		first, err := l.store.logs.FirstIndex()
		if err != nil {
			t.Fatal(err)
		}
		if first < 10 {
			t.Fatalf("the log still begins at %d", first)
		}
		// A server that joins now can only get there by a snapshot.
		n := c.add("n.00000000", few)
		if err := l.AddNonvoter(t.Context(), n.conf.ID, n.stream.Addr().String(), 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the newcomer catching up", func() bool { return slices.Equal(n.machine.all(), want) })
		for _, p := range c.peers {
			p.stop()
		}
		for _, p := range c.peers {
			p.open()
		}
		if got := c.leader().machine.all(); !slices.Equal(got, want) {
			t.Fatalf("after the restart there is %v", got)
		}
	})
}

func TestSnapshotIntoAnotherCluster(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		tune := func(conf *Config) { conf.LogStore = kind }
		a := newCluster(t, 1, tune)
		for _, x := range numbered(10) {
			a.must(x)
		}
		var saved bytes.Buffer
		meta, err := a.leader().SaveSnapshot(t.Context(), &saved)
		if err != nil || meta.Index == 0 || meta.Term == 0 {
			t.Fatalf("saved %+v, %v", meta, err)
		}

		b := newCluster(t, 3, tune)
		b.must("to be replaced")
		l := b.leader()
		err = l.RestoreSnapshot(t.Context(), strings.NewReader("no snapshot"))
		wantCode(t, err, wasmatrix.CodeInvalidRequest, wasmatrix.OutcomeNone)
		if got := l.machine.all(); !slices.Contains(got, "to be replaced") {
			t.Fatalf("the refused snapshot left %v", got)
		}
		if err := l.RestoreSnapshot(t.Context(), &saved); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Propose(t.Context(), []byte("new")); err != nil {
			t.Fatal(err)
		}
		want := append(numbered(10), "new")
		for _, p := range b.peers {
			eventually(t, "the restored state everywhere", func() bool { return slices.Equal(p.machine.all(), want) })
		}
		for _, p := range b.peers {
			p.stop()
		}
		for _, p := range b.peers {
			p.open()
		}
		if got := b.leader().machine.all(); !slices.Equal(got, want) {
			t.Fatalf("after the restart there is %v", got)
		}
	})
}

func TestMembers(t *testing.T) {
	c := newCluster(t, 1, nil)
	l := c.leader()
	tune := func(conf *Config) { conf.WatchdogAfter = 3e9 }
	b, d := c.add("b.00000000", tune), c.add("d.00000000", tune)
	if err := l.AddNonvoter(t.Context(), b.conf.ID, b.stream.Addr().String(), 0); err != nil {
		t.Fatal(err)
	}
	servers, index := l.Servers()
	if len(servers) != 2 || servers[1] != (Server{ID: b.conf.ID, Addr: b.stream.Addr().String()}) || index == 0 {
		t.Fatalf("servers %+v at %d", servers, index)
	}
	if err := l.AddVoter(t.Context(), b.conf.ID, b.stream.Addr().String(), index); err != nil {
		t.Fatal(err)
	}
	err := l.AddVoter(t.Context(), d.conf.ID, d.stream.Addr().String(), index)
	wantCode(t, err, wasmatrix.CodeConflict, wasmatrix.OutcomeNone)
	if err := l.AddVoter(t.Context(), d.conf.ID, d.stream.Addr().String(), 0); err != nil {
		t.Fatal(err)
	}
	c.must("x")
	eventually(t, "x everywhere", func() bool { return slices.Contains(d.machine.all(), "x") })
	if err := l.DemoteVoter(t.Context(), d.conf.ID, 0); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Voters != 2 {
		t.Fatalf("%d voters", s.Voters)
	}
	if err := l.RemoveServer(t.Context(), d.conf.ID, 0); err != nil {
		t.Fatal(err)
	}
	err = l.TransferLeadership(t.Context(), d.conf.ID)
	wantCode(t, err, wasmatrix.CodeValidation, "")
	if err := l.TransferLeadership(t.Context(), b.conf.ID); err != nil {
		t.Fatal(err)
	}
	if next := c.leader(); next != b {
		t.Fatalf("%s leads", next.conf.ID)
	}
	// A leader that removes itself steps down, and is still a working process.
	if err := b.RemoveServer(t.Context(), b.conf.ID, 0); err != nil {
		t.Fatal(err)
	}
	if next := c.leader(); next != l {
		t.Fatalf("%s leads", next.conf.ID)
	}
	if _, _, err := b.Propose(t.Context(), []byte("y")); err == nil {
		t.Fatal("a removed leader acknowledged a write")
	}
	select {
	case err := <-b.fatal:
		t.Fatalf("removal was fatal: %v", err)
	default:
	}
}
