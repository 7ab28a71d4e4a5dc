package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// TestReplaceAllServers joins servers 4 and 5 with the CLI and removes the
// first three one by one, while writes go on.
func TestReplaceAllServers(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	old := c.Servers
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(c.AnyClient(5), digest, "job")
	finish := background(t, load, 2, 0)

	for range 2 {
		s := c.AddServer()
		s.Start()
		c.CLI(s, "cluster", "join", old[0].Gossip())
		c.WaitReady() // a healthy voter
		load.AwaitAcked(t, load.Acked()+5)
	}
	for _, s := range old {
		survivor := c.Servers[len(c.Servers)-1]
		c.CLI(survivor, "cluster", "remove-peer", s.Name)
		harness.Eventually(t, s.Name+" ends when it is removed", func(context.Context) error {
			if s.Running() {
				return fmt.Errorf("it still runs")
			}
			return nil
		})
		c.Forget(s)
		load.AwaitAcked(t, load.Acked()+5)
	}
	finish()
	after := c.Client()
	peers, err := after.Cluster.ListPeers(t.Context(), &api.ListPeersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(peers.GetPeers()) != 2 {
		t.Errorf("peers after the replacement: %v", peers.GetPeers())
	}
	c.AssertRunningOnce(after, load.IDs())
}

// TestSnapshotIntoNewCluster saves a snapshot, destroys the cluster, and
// restores it into a new one: same state.
func TestSnapshotIntoNewCluster(t *testing.T) {
	first := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := first.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 4, 50)()
	first.AssertRunningOnce(cl, load.IDs())
	file := t.TempDir() + "/state.snap"
	first.CLI(first.Servers[0], "cluster", "snapshot", "save", file)
	var saved struct {
		StateHash string `json:"stateHash"`
	}
	first.CLIJSON(&saved, first.Servers[0], "cluster", "snapshot", "inspect", file)
	first.KillAll()

	second := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	var restored struct {
		StateHash string `json:"stateHash"`
	}
	second.CLIJSON(&restored, second.Servers[0], "cluster", "snapshot", "restore", "--force", file)
	if saved.StateHash == "" || restored.StateHash != saved.StateHash {
		t.Errorf("state hash %q after the restore, %q in the file", restored.StateHash, saved.StateHash)
	}
	// The module's bytes are not in the snapshot: they are pushed anew.
	cl = second.Client()
	if _, err := harness.Push(t.Context(), cl, reactor(t)); err != nil {
		t.Fatal(err)
	}
	second.AssertRunningOnce(cl, load.IDs())
	second.AssertSameState()
}
