package cluster

import (
	"context"
	"encoding/json"
	"io"
	"slices"
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
