package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// awaitLog waits until an agent has written a line that has all the words.
func awaitLog(t *testing.T, a *harness.Agent, words ...string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("a line of %s with %q", a.Name, words), func(context.Context) error {
		for line := range strings.Lines(a.Log()) {
			found := 0
			for _, w := range words {
				if strings.Contains(line, w) {
					found++
				}
			}
			if found == len(words) {
				return nil
			}
		}
		return errors.New("there is none yet")
	})
}

// clusterOf asks a server which cluster it belongs to.
func clusterOf(t *testing.T, c *harness.Cluster, s *harness.Agent) string {
	t.Helper()
	var st struct {
		ClusterID string `json:"clusterId"`
	}
	harness.Eventually(t, "the cluster of "+s.Name, func(context.Context) error {
		if c.CLIJSON(&st, s, "cluster", "status"); st.ClusterID == "" {
			return errors.New("its state is not read yet")
		}
		return nil
	})
	return st.ClusterID
}

// TestWrongCluster points agents of one cluster at another: they say why they
// are not taken in, and neither cluster takes notice.
func TestWrongCluster(t *testing.T) {
	ours := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	theirs := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	// The names of agents are unique within a cluster only, so that those of
	// both are alike.
	server, node, target := ours.Servers[0], ours.Nodes[0], theirs.Servers[0]
	first, second := clusterOf(t, ours, server), clusterOf(t, theirs, target)
	if first == second {
		t.Fatalf("both clusters are %s", first)
	}
	separate := func(t *testing.T) {
		t.Helper()
		ours.WaitReady()
		theirs.WaitReady()
		for c, want := range map[*harness.Cluster]string{ours: first, theirs: second} {
			if got := clusterOf(t, c, c.Servers[0]); got != want {
				t.Errorf("a server of cluster %s is of %s now", want, got)
			}
			cl := c.Client()
			peers, err := cl.Cluster.ListPeers(t.Context(), &api.ListPeersRequest{})
			if err != nil {
				t.Fatal(err)
			}
			nodes, err := cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			members, err := cl.Cluster.ListMembers(t.Context(), &api.ListMembersRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if len(peers.GetPeers()) != 1 || len(nodes.GetNodes()) != 1 || len(members.GetMembers()) != 2 {
				t.Errorf("cluster %s has %v, %v, %v", want, peers.GetPeers(), nodes.GetNodes(), members.GetMembers())
			}
			for _, m := range members.GetMembers() {
				if m.GetGossipAddress() != c.Servers[0].Gossip() && m.GetGossipAddress() != c.Nodes[0].Gossip() {
					t.Errorf("cluster %s has the member %v of the other", want, m)
				}
			}
		}
	}
	t.Run("join by hand", func(t *testing.T) {
		res := ours.TryCLI(server, "cluster", "join", target.Gossip())
		wantFailure(t, res, 1, wasmatrix.CodeConflict, first, second)
		separate(t)
	})
	t.Run("server by configuration", func(t *testing.T) {
		server.Terminate()
		setConfig(t, server, server.Gossip(), target.Gossip())
		server.Start()
		awaitLog(t, server, "[ERROR]", "cannot join", "CONFLICT", first, second)
		separate(t)
	})
	t.Run("node by configuration", func(t *testing.T) {
		node.Terminate()
		setConfig(t, node, server.Gossip(), target.Gossip())
		node.Start()
		awaitLog(t, node, "[ERROR]", "cannot join", "CONFLICT", first, second)
		separate(t) // it remembers its own cluster's members
	})
}

// TestSecondBootstrap gives servers every reason to form a cluster where there
// is one.
func TestSecondBootstrap(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3})
	want := clusterOf(t, c, c.Servers[0])
	t.Run("a server with a log", func(t *testing.T) {
		s := c.Followers()[0]
		s.Terminate()
		s.Start("-bootstrap-expect", "1")
		c.WaitReady()
		if got := clusterOf(t, c, s); got != want {
			t.Errorf("%s is of cluster %s now, was of %s", s.Name, got, want)
		}
	})
	t.Run("a new server that finds the cluster", func(t *testing.T) {
		s := c.AddServer()
		s.Start("-bootstrap-expect", "1", "-join", c.Servers[0].Gossip())
		c.WaitReady()
		if got := clusterOf(t, c, s); got != want {
			t.Errorf("%s made cluster %s", s.Name, got)
		}
	})
}

// TestNodeNameTaken starts a second node under a name that is in use: the
// newcomer ends, and the first keeps what it runs.
func TestNodeNameTaken(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 2, 5)()
	c.AssertRunningOnce(cl, load.IDs())

	rival := c.AddNode()
	rival.Start("-name", c.Nodes[0].Name)
	awaitRefusal(t, rival, 1, wasmatrix.CodeConflict, `two live nodes are called "n1"`, c.Nodes[0].Gossip())
	c.AssertRunningOnce(cl, load.IDs())
	all, err := harness.List(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	for id, in := range all {
		if in.GetEpoch() != 1 {
			t.Errorf("%s was moved: epoch %d", id, in.GetEpoch())
		}
	}
}
