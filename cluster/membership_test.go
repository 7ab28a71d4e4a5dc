package cluster

import (
	"testing"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
)

// TestGossipAloneRemovesNobody holds what autopilot is told to the rule that a
// server is failed only when the leader itself has long heard nothing of it.
func TestGossipAloneRemovesNobody(t *testing.T) {
	a := Autopilot{DeadServerGrace: time.Minute, LastContactThreshold: time.Second}
	const little, some, long = 100 * time.Millisecond, 10 * time.Second, 2 * time.Minute
	for _, tc := range []struct {
		gossip gossip.Status // "" where it knows nothing
		silent time.Duration
		want   autopilot.NodeStatus
	}{
		{gossip.StatusAlive, little, autopilot.NodeAlive},
		{gossip.StatusAlive, long, autopilot.NodeAlive},
		{gossip.StatusDead, little, autopilot.NodeAlive},
		{gossip.StatusDead, some, autopilot.NodeAlive},
		{gossip.StatusDead, long, autopilot.NodeFailed},
		{gossip.StatusLeft, little, autopilot.NodeAlive},
		{gossip.StatusLeft, some, autopilot.NodeLeft},
		{gossip.StatusLeft, long, autopilot.NodeFailed},
		{"", some, autopilot.NodeAlive},
		{"", long, autopilot.NodeFailed},
	} {
		if got := a.judge(tc.gossip, tc.silent); got != tc.want {
			t.Errorf("gossip says %q, silent for %s: %s, want %s", tc.gossip, tc.silent, got, tc.want)
		}
	}
}

// TestWhoIsTakenInWasHeard has a server come back that was removed for its silence.
func TestWhoIsTakenInWasHeard(t *testing.T) {
	a := start(t, "a", 1)
	write(t, "one", a)
	eventually(t, "its identity", func() bool { return a.Identity().Cluster != "" })
	const back = wasmatrix.ServerID("b.00000000")
	a.mu.Lock()
	a.lastAnswer[back] = answered{at: time.Now().Add(-time.Hour)}
	a.mu.Unlock()
	if _, err := a.admit(t.Context(), &request{From: back, Addr: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	view := &pilotView{c: a.Cluster, ctx: t.Context(), since: time.Now()}
	if silent, _ := view.silence(back); silent > time.Minute {
		t.Errorf("it was taken in, and has been silent for %s", silent)
	}
}
