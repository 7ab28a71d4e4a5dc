package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// hosting makes servers host a group named kv.
func hosting(c *Config) {
	c.Groups = []GroupConfig{{
		Name:   "kv",
		Verify: func(r io.Reader) error { return json.NewDecoder(r).Decode(new(image)) },
	}}
}

func (s *testServer) hostedKV() *HostedGroup { return s.Group("kv") }

// kvLeader waits until all servers know one leader of kv, which is one of them.
func kvLeader(t *testing.T, servers ...*testServer) *testServer {
	t.Helper()
	var leader *testServer
	eventually(t, "one leader of kv that all know", func() bool {
		leader = nil
		id := servers[0].hostedKV().Leader().ID
		for _, s := range servers {
			l := s.hostedKV().Leader()
			if !l.Known || l.ID != id {
				return false
			}
			if l.Self {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

// kvWrite proposes a word to whoever leads kv until it is acknowledged.
func kvWrite(t *testing.T, word string, servers ...*testServer) {
	t.Helper()
	eventually(t, "an acknowledged write to kv", func() bool {
		for _, s := range servers {
			if !s.hostedKV().Leader().Self {
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := s.hostedKV().Propose(ctx, []byte(word))
			cancel()
			return err == nil
		}
		return false
	})
}

// kvHolds waits until each server has applied the word to kv.
func kvHolds(t *testing.T, word string, servers ...*testServer) {
	t.Helper()
	for _, s := range servers {
		eventually(t, s.cfg.Name+" has "+word+" in kv", func() bool { return slices.Contains(s.kv.list(), word) })
	}
}

func TestAHostedGroupHasALogAndALeaderOfItsOwn(t *testing.T) {
	all := three(t, hosting)
	if all[0].Group("other") != nil {
		t.Error("a group that nobody configured is hosted")
	}
	kvWrite(t, "one", all...)
	kvHolds(t, "one", all...)
	write(t, "two", all...)
	holds(t, "two", all...)
	for _, s := range all {
		if slices.Contains(s.kv.list(), "two") || slices.Contains(s.words.list(), "one") {
			t.Errorf("%s mixes its groups: %v, %v", s.cfg.Name, s.words.list(), s.kv.list())
		}
	}
	// Its leader need not be the control group's.
	target := others(all, leaderOf(t, all...))[0]
	err := asLeader(t, all, func(*testServer) error {
		_, err := kvLeader(t, all...).hostedKV().TransferLeadership(t.Context(), target.cfg.Name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	leader := kvLeader(t, all...)
	follower := others(all, leader)[0]
	if err := leader.hostedKV().Read(t.Context()); err != nil {
		t.Errorf("read on the leader: %v", err)
	}
	e := wasmatrix.AsError(follower.hostedKV().Read(t.Context()))
	if e == nil || e.Code != wasmatrix.CodeNotLeader || e.Details[wasmatrix.DetailLeader] != "api-of-"+leader.cfg.Name {
		t.Errorf("read on a follower = %v, want NOT_LEADER and where the leader is", e)
	}
	_, err = follower.hostedKV().Propose(t.Context(), []byte("x"))
	if e := wasmatrix.AsError(err); e == nil || e.Code != wasmatrix.CodeNotLeader || e.Details[wasmatrix.DetailLeader] != "api-of-"+leader.cfg.Name {
		t.Errorf("propose on a follower = %v, want NOT_LEADER and where the leader is", e)
	}
	if answer, err := leader.hostedKV().Propose(t.Context(), []byte("refuse")); answer != nil || wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
		t.Errorf("an answer that is an error came back as %v, %v", answer, err)
	}
	if st := follower.hostedKV().Status(); st.State != "follower" || st.Voters != 3 || st.Leader.ID != leader.Identity().Server || st.Applied == 0 || st.LastContact < 0 {
		t.Errorf("status of a follower = %+v", st)
	}
	for _, s := range all {
		s.kill()
	}
	for _, s := range all {
		s.open()
	}
	kvWrite(t, "three", all...)
	for _, s := range all {
		kvHolds(t, "one", s)
		kvHolds(t, "three", s)
	}
}

// kvConfiguration waits until all servers know these to be the servers of kv.
func kvConfiguration(t *testing.T, want string, servers ...*testServer) {
	t.Helper()
	for _, s := range servers {
		configurationOf(t, s, s.hostedKV(), want)
	}
}

func without(all []*testServer, s *testServer) string {
	var names []string
	for _, o := range others(all, s) {
		names = append(names, o.cfg.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestTheLeaderOfAHostedGroupIsLost(t *testing.T) {
	all := three(t, hosting)
	kvWrite(t, "before", all...)
	leader := kvLeader(t, all...)
	leader.kill()
	rest := others(all, leader)
	kvWrite(t, "after", rest...)
	leader.open()
	kvHolds(t, "before", all...)
	kvHolds(t, "after", all...)
}

func TestAHostedGroupFollowsThoseWhoJoinAndLeave(t *testing.T) {
	all := three(t, hosting)
	kvWrite(t, "first", all...)
	d := start(t, "d", 0, joining(all...), hosting)
	e := start(t, "e", 0, joining(all...), hosting)
	five := append(slices.Clone(all), d, e)
	kvConfiguration(t, "a b c d e", five...)
	kvHolds(t, "first", d, e)
	// The first three go, its leader first.
	leader := kvLeader(t, five...)
	going := []*testServer{leader}
	for _, s := range five {
		if s != leader && len(going) < 3 {
			going = append(going, s)
		}
	}
	rest := five
	for _, s := range going {
		if err := s.Leave(t.Context()); err != nil {
			t.Fatalf("%s leaves: %v", s.cfg.Name, err)
		}
		s.kill()
		names := without(rest, s)
		rest = others(rest, s)
		kvWrite(t, "without "+s.cfg.Name, rest...)
		kvHolds(t, "without "+s.cfg.Name, rest...)
		kvConfiguration(t, names, rest...)
	}
	// One that left comes back with its disk.
	back := going[0]
	back.cfg.RetryJoin = []string{rest[0].Addrs().Gossip, rest[1].Addrs().Gossip}
	back.open()
	kvHolds(t, "without "+going[2].cfg.Name, back)
	three := append(slices.Clone(rest), back)
	kvConfiguration(t, without(three, nil), three...)
}

func TestWhoLeavesOneOfTwoServersLeavesTheOtherAMajority(t *testing.T) {
	a := start(t, "a", 1, hosting)
	b := start(t, "b", 0, joining(a), hosting)
	two := []*testServer{a, b}
	kvConfiguration(t, "a b", two...)
	leader := kvLeader(t, two...)
	if err := leader.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	leader.kill()
	rest := others(two, leader)[0]
	kvWrite(t, "alone", rest)
	kvConfiguration(t, rest.cfg.Name, rest)
	// The last one only says that it goes, and is itself when it comes back.
	if err := rest.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest.kill()
	rest.open()
	kvWrite(t, "again", rest)
	kvHolds(t, "alone", rest)
}

func TestAServerThatIsRemovedFromOneOfTwoLeavesTheOtherAMajority(t *testing.T) {
	a := start(t, "a", 1, hosting)
	b := start(t, "b", 0, joining(a), hosting)
	two := []*testServer{a, b}
	kvConfiguration(t, "a b", two...)
	victim := kvLeader(t, two...) // also where it leads the control group
	rest := others(two, victim)[0]
	if err := remove(t, two, victim.cfg.Name); err != nil {
		t.Fatal(err)
	}
	select {
	case <-victim.removed:
	case <-time.After(patience):
		t.Fatal("the removed server did not notice")
	}
	victim.kill() // as the product does when it is told
	kvWrite(t, "alone", rest)
	kvConfiguration(t, rest.cfg.Name, rest)
	victim.open()
	kvConfiguration(t, "a b", two...)
	kvHolds(t, "alone", victim)
}

// It is told to end only when the other can do without it.
func TestAServerThatIsRemovedStaysWhileAHostedGroupNeedsIt(t *testing.T) {
	a := start(t, "a", 1, hosting)
	b := start(t, "b", 0, joining(a), hosting)
	two := []*testServer{a, b}
	kvConfiguration(t, "a b", two...)
	leader := kvLeader(t, two...)
	victim := others(two, leader)[0]
	changing := &leader.hostedKV().changing
	changing.Lock()
	free := sync.OnceFunc(changing.Unlock)
	defer free()
	if err := remove(t, two, victim.cfg.Name); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removed server leaves", victim.isLeaving)
	select {
	case <-victim.removed:
		t.Error("it was told to end while kv needs it for a majority")
	case <-time.After(5 * retryPause):
	}
	free()
	select {
	case <-victim.removed:
	case <-time.After(patience):
		t.Fatal("the removed server was not told")
	}
	kvConfiguration(t, leader.cfg.Name, leader)
}

func TestADeadServerIsRemovedFromAHostedGroup(t *testing.T) {
	grace := func(c *Config) { c.Autopilot.DeadServerGrace = time.Second }
	all := three(t, grace, hosting)
	d := start(t, "d", 0, joining(all...), grace, hosting)
	four := append(slices.Clone(all), d)
	kvConfiguration(t, "a b c d", four...)
	dead := kvLeader(t, four...)
	dead.kill()
	rest := others(four, dead)
	kvConfiguration(t, without(four, dead), rest...)
	kvWrite(t, "without it", rest...)
	// It comes back with its disk, and then with another.
	dead.open()
	kvConfiguration(t, "a b c d", four...)
	kvHolds(t, "without it", dead)
	old := dead.Identity().Server
	dead.kill()
	kvConfiguration(t, without(four, dead), rest...)
	dead.wipe()
	dead.open()
	kvConfiguration(t, "a b c d", four...)
	kvHolds(t, "without it", dead)
	if dead.Identity().Server == old || rest[0].hostedKV().has(old) {
		t.Errorf("%s is in kv after its disk was lost", old)
	}
}

func TestALeaveThatIsRefusedLeavesNoHostedGroup(t *testing.T) {
	all := three(t, hosting)
	kvWrite(t, "one", all...)
	kvLeader(t, all...)
	all[0].kill()
	live := all[1:]
	leaver := kvLeader(t, live...)
	if err := leaver.Leave(t.Context()); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict || !strings.Contains(err.Error(), "kv") {
		t.Errorf("leave = %v, want CONFLICT", err)
	}
	kvWrite(t, "two", live...)
	kvConfiguration(t, "a b c", live...)
	// Refused by the control group alone, it is taken in by the hosted one again.
	all[0].open()
	kvConfiguration(t, "a b c", all...)
	leaver.setLeaving(true)
	if err := leaver.leaveHosted(t.Context()); err != nil {
		t.Fatal(err)
	}
	kvConfiguration(t, without(all, leaver), others(all, leaver)...)
	for range 5 {
		time.Sleep(leaver.cfg.Autopilot.ReconcileInterval) // it is not added while it leaves
	}
	kvConfiguration(t, without(all, leaver), others(all, leaver)...)
	leaver.setLeaving(false)
	kvConfiguration(t, "a b c", all...)
}

// upgrade has a server host kv from now on.
func (s *testServer) upgrade() {
	s.kill()
	hosting(&s.cfg)
	s.open()
}

// waits has one of the servers lead the control group, and returns once it says
// that kv waits for this.
func waits(t *testing.T, leader *testServer, all []*testServer, why string) {
	t.Helper()
	got := ""
	eventually(t, "kv waits: "+why, func() bool {
		if l := leaderOf(t, all...); l != leader {
			_, _ = l.TransferLeadership(t.Context(), leader.cfg.Name)
			return false
		}
		wait, err := leader.hostedKV().found(t.Context())
		if err != nil {
			wait = err.Error()
		}
		got = wait
		return strings.Contains(wait, why)
	})
	if leader.hostedKV().running() != nil {
		t.Fatalf("kv has begun while it waits: %s", got)
	}
}

func TestAnOlderClusterBeginsAHostedGroup(t *testing.T) {
	all := three(t)
	a, b, c := all[0], all[1], all[2]
	a.upgrade()
	b.upgrade()
	waits(t, a, all, "the group is unknown to c")
	h := a.hostedKV()
	if _, err := h.Propose(t.Context(), []byte("early")); wasmatrix.CodeOf(err) != wasmatrix.CodeNoLeader {
		t.Errorf("propose before kv begins = %v, want NO_LEADER", err)
	}
	if err := h.Read(t.Context()); wasmatrix.CodeOf(err) != wasmatrix.CodeNoLeader {
		t.Errorf("read before kv begins = %v, want NO_LEADER", err)
	}
	if err := h.SaveSnapshot(t.Context(), io.Discard); wasmatrix.CodeOf(err) != wasmatrix.CodeNoLeader {
		t.Errorf("snapshot before kv begins = %v, want NO_LEADER", err)
	}
	if err := h.RestoreSnapshot(t.Context(), strings.NewReader("{}")); wasmatrix.CodeOf(err) != wasmatrix.CodeNoLeader {
		t.Errorf("restore before kv begins = %v, want NO_LEADER", err)
	}
	if _, err := h.TransferLeadership(t.Context(), ""); wasmatrix.CodeOf(err) != wasmatrix.CodeNoLeader {
		t.Errorf("transfer before kv begins = %v, want NO_LEADER", err)
	}
	if st := h.Status(); st.State != "" || st.Leader.Known || st.Voters != 0 || h.Servers() != nil {
		t.Errorf("status before kv begins = %+v", st)
	}
	// Who waits for a leader waits for the group too.
	changed, stop := h.LeaderChanges()
	defer stop()
	led, ctx := make(chan uint64, 8), t.Context()
	a.wired.Go(func() { h.Lead(ctx, func(_ context.Context, term uint64) { led <- term }) })
	c.upgrade()
	kvWrite(t, "one", all...)
	kvHolds(t, "one", all...)
	holds(t, "first", all...)
	eventually(t, "the change of leaders is known", func() bool {
		select {
		case <-changed:
		default:
		}
		return h.Leader().Known
	})
	if _, err := kvLeader(t, all...).hostedKV().TransferLeadership(t.Context(), "a"); err != nil {
		t.Logf("transfer: %v", err)
	}
	eventually(t, "a leads kv", func() bool {
		if !h.Leader().Self {
			_, _ = kvLeader(t, all...).hostedKV().TransferLeadership(t.Context(), "a")
		}
		return len(led) > 0
	})
}

func TestAHostedGroupWaitsForVotersThatDoNotAnswer(t *testing.T) {
	all := three(t)
	a, b, c := all[0], all[1], all[2]
	c.kill()
	a.upgrade()
	b.upgrade()
	two := []*testServer{a, b}
	waits(t, a, two, "no answer from c")
	// A server that is gone for good does not hold it up for good.
	if err := remove(t, two, "c"); err != nil {
		t.Fatal(err)
	}
	kvWrite(t, "one", two...)
	kvConfiguration(t, "a b", two...)
	hosting(&c.cfg)
	c.open()
	kvConfiguration(t, "a b c", all...)
	kvHolds(t, "one", c)
}

// TestWhatWasAcceptedSurvives has servers crash after a proposal was accepted and
// before anyone was told: the group begins as was proposed, not as it would be now.
func TestWhatWasAcceptedSurvives(t *testing.T) {
	all := three(t)
	a, b, c := all[0], all[1], all[2]
	a.upgrade()
	b.upgrade()
	waits(t, a, all, "the group is unknown to c")
	proposal := foundersOf([]Server{
		{ID: a.Identity().Server, Addr: a.Addrs().Raft}, {ID: b.Identity().Server, Addr: b.Addrs().Raft},
	})
	err := asLeader(t, all, func(l *testServer) error {
		term := l.Status().Term
		for _, s := range all[:2] {
			if err := s.hostedKV().acceptor.accept(term, proposal); err != nil {
				return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "%w", err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		s.kill()
	}
	hosting(&c.cfg)
	a.open()
	if a.hostedKV().running() != nil {
		t.Error("kv has begun with what was accepted, though nobody knows that it was chosen")
	}
	b.open()
	c.open()
	kvWrite(t, "one", all...)
	kvConfiguration(t, "a b c", all...)
	kvHolds(t, "one", all...)
	for _, s := range all {
		if f := s.hostedKV().acceptor.kept; !f.Chosen || !slices.Equal(f.Founders, proposal) {
			t.Errorf("%s began kv with %+v", s.cfg.Name, f)
		}
	}
}

func TestAHostedGroupSavesAndRestoresItsState(t *testing.T) {
	a := start(t, "a", 1, hosting)
	kvWrite(t, "kept", a)
	var saved bytes.Buffer
	if err := a.hostedKV().SaveSnapshot(t.Context(), &saved); err != nil {
		t.Fatal(err)
	}
	kvWrite(t, "later", a)
	write(t, "of the control group", a)
	if err := a.hostedKV().RestoreSnapshot(t.Context(), strings.NewReader("nonsense")); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("restore nonsense = %v, want INVALID_REQUEST", err)
	}
	if err := a.hostedKV().RestoreSnapshot(t.Context(), &saved); err != nil {
		t.Fatal(err)
	}
	if got := a.kv.list(); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("kv holds %v", got)
	}
	holds(t, "of the control group", a)
	kvWrite(t, "after", a)
}

func TestAHostedGroupIsTunedAsConfigured(t *testing.T) {
	a := start(t, "a", 1, hosting, func(c *Config) {
		c.Groups[0].MaxCommandBytes, c.Groups[0].SnapshotThreshold, c.Groups[0].SnapshotInterval = 8, 4, 10*time.Millisecond
	})
	for range 10 {
		kvWrite(t, "word", a)
	}
	if _, err := a.hostedKV().Propose(t.Context(), []byte("too long a word")); wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
		t.Errorf("propose = %v, want RESOURCE_EXHAUSTED", err)
	}
	eventually(t, "a snapshot after so few entries", func() bool { return a.hostedKV().group.Stats().Snapshot > 0 })
}

func TestAHostedGroupThatFailsEndsTheServer(t *testing.T) {
	a := start(t, "a", 1, hosting)
	kvWrite(t, "one", a)
	if _, err := a.hostedKV().Propose(t.Context(), []byte("panic")); err == nil {
		t.Error("acknowledged what broke the machine")
	}
	select {
	case err := <-a.fatal:
		if !strings.Contains(err.Error(), "panicked") {
			t.Errorf("fatal = %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the process was not told to end")
	}
	if _, err := a.hostedKV().Propose(t.Context(), []byte("two")); err == nil {
		t.Error("acknowledged after it failed")
	}
}

func TestAHostedGroupWhoseFilesAreWrongIsRefused(t *testing.T) {
	a := start(t, "a", 1, hosting)
	kvWrite(t, "one", a)
	a.kill()
	dir := filepath.Join(a.cfg.DataDir, "raft-kv")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := a.tryOpen(); wasmatrix.CodeOf(err) != wasmatrix.CodeStorage || !strings.Contains(err.Error(), "the log of group kv is gone") {
		t.Errorf("open without the log = %v, want STORAGE_ERROR", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(a.cfg.DataDir, "group-kv")
	line, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.tryOpen(); wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
		t.Errorf("open with a damaged file = %v, want STORAGE_ERROR", err)
	}
	if err := os.WriteFile(kept, line, 0o600); err != nil {
		t.Fatal(err)
	}
	a.open()
	kvWrite(t, "two", a)
	kvHolds(t, "one", a)
}

func TestAHostedGroupFindsAServerThatMoved(t *testing.T) {
	withoutRaceDetector(t)
	all := three(t, hosting)
	kvWrite(t, "one", all...)
	leader := kvLeader(t, all...)
	mover := others(all, leader)[0]
	before := mover.Addrs()
	mover.kill()
	mover.cfg.RaftPort, mover.cfg.GossipPort = 0, 0
	mover.cfg.RetryJoin = []string{leader.Addrs().Gossip}
	l, err := net.Listen("tcp", before.Raft) // nobody finds it there by chance
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mover.open()
	kvWrite(t, "moved", all...)
	kvHolds(t, "moved", mover)
	eventually(t, "the configuration of kv has the new address", func() bool {
		s, ok := find(leader.hostedKV().Servers(), mover.Identity().Server)
		return ok && s.Addr == mover.Addrs().Raft
	})
}

// TestVotersOfTheControlGroupKnowOfHostedGroups holds the control group to what
// founding asks of it: see mayPromote and mayRemove.
func TestVotersOfTheControlGroupKnowOfHostedGroups(t *testing.T) {
	all := three(t, hosting)
	kvWrite(t, "one", all...)
	d := start(t, "d", 0, hosting)
	hears := deafen(d)
	defer hears()
	if _, err := d.Join(t.Context(), []string{all[0].Addrs().Gossip}); err != nil {
		t.Error(err)
	}
	configuration(t, all[0], "a b c d*")
	for range 20 {
		time.Sleep(d.cfg.Autopilot.ReconcileInterval) // many times what it takes to become a voter
	}
	configuration(t, all[0], "a b c d*")
	hears()
	configuration(t, all[0], "a b c d")
	kvConfiguration(t, "a b c d", append(slices.Clone(all), d)...)
	if err := d.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}

	old := leaderOf(t, all...)
	next := others(all, old)[0]
	rest := others(all, next)
	hear := deafen(rest...)
	defer hear()
	deaf := leaderOf(t, all...).Leader().Term
	// In a term that begins now, the leader can have told nobody.
	var err error
	eventually(t, next.cfg.Name+" leads and refuses", func() bool {
		if l := leaderOf(t, all...); l != next {
			_, _ = l.TransferLeadership(t.Context(), next.cfg.Name)
			return false
		}
		if next.Leader().Term <= deaf {
			_, _ = next.TransferLeadership(t.Context(), rest[0].cfg.Name)
			return false
		}
		_, err = next.RemovePeer(t.Context(), rest[0].cfg.Name)
		return wasmatrix.CodeOf(err) != wasmatrix.CodeNotLeader
	})
	if wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication || !strings.Contains(err.Error(), "1 know of group kv") {
		t.Errorf("remove = %v, want COMMUNICATION_FAILURE", err)
	}
	hear()
	if err := remove(t, all, rest[0].cfg.Name); err != nil {
		t.Error(err)
	}
}

// deafen has servers answer nothing of how groups begin, until the function
// returned is called.
func deafen(servers ...*testServer) func() {
	for _, s := range servers {
		s.hostedKV().acceptor.mu.Lock()
	}
	return sync.OnceFunc(func() {
		for _, s := range servers {
			s.hostedKV().acceptor.mu.Unlock()
		}
	})
}
