package cluster

import (
	"testing"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

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
