package cluster

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Once removed, a server that leaves is gone: that gossip could not say so is
// no reason to stay as a server of no group.
func TestALeaveThatGossipCannotTellIsALeave(t *testing.T) {
	all := three(t)
	leaver := others(all, leaderOf(t, all...))[0]
	if err := leaver.gossip.Load().Close(); err != nil {
		t.Fatal(err)
	}
	if err := leaver.Leave(t.Context()); err != nil {
		t.Errorf("Leave = %v", err)
	}
	for _, s := range others(all, leaver) {
		eventually(t, s.cfg.Name+" has one server less", func() bool { return !s.control.has(leaver.Identity().Server) })
	}
}

// A server whose leave failed may have been removed after all, or is later.
func TestAServerThatFailedToLeaveStillNoticesItsRemoval(t *testing.T) {
	all := three(t)
	leaver := others(all, leaderOf(t, all...))[0]
	rest := others(all, leaver)
	for _, s := range rest {
		s.kill()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*leaver.cfg.Autopilot.AdmissionInterval)
	defer cancel()
	if err := leaver.Leave(ctx); err == nil {
		t.Fatal("left without anybody to remove it")
	}
	for _, s := range rest {
		s.open()
	}
	if err := remove(t, all, leaver.cfg.Name); err != nil {
		t.Fatal(err)
	}
	select {
	case <-leaver.removed:
	case <-time.After(patience):
		t.Fatal("the removed server did not notice")
	}
}

// A follower's state may lack what was acknowledged.
func TestOnlyTheLeaderSavesASnapshot(t *testing.T) {
	all := three(t)
	follower := others(all, leaderOf(t, all...))[0]
	var saved bytes.Buffer
	if err := follower.SaveSnapshot(t.Context(), &saved); wasmatrix.CodeOf(err) != wasmatrix.CodeNotLeader || saved.Len() != 0 {
		t.Errorf("SaveSnapshot on a follower = %v, %d bytes, want NOT_LEADER", err, saved.Len())
	}
}
