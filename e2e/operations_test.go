package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// The tests of this file take the steps of docs/operations.md as written there.

// TestGuideConfiguration validates each configuration that the documents show.
func TestGuideConfiguration(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```hcl\n(.*?)```")
	for _, doc := range []string{"README.md", "docs/operations.md"} {
		text, err := os.ReadFile(filepath.Join(harness.Root(t), doc))
		if err != nil {
			t.Fatal(err)
		}
		found := blocks.FindAllSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s shows no configuration", doc)
		}
		for _, block := range found {
			res := harness.RunCLI(t, harness.Binary(t), "config", "validate", file(t, "guide.hcl", string(block[1])))
			if res.Code != 0 || res.Stdout != "ok\n" {
				t.Errorf("%s: exit %d\n%s%s\n%s", doc, res.Code, res.Stdout, res.Stderr, block[1])
			}
		}
	}
}

// peer is a line of "cluster peers".
type peer struct {
	ServerID string `json:"serverId"`
	Name     string
	Voter    bool
	Leader   bool
	Healthy  bool
}

func peersOf(c *harness.Cluster, s *harness.Agent) map[string]peer {
	var list struct{ Peers []peer }
	c.CLIJSON(&list, s, "cluster", "peers")
	peers := map[string]peer{}
	for _, p := range list.Peers {
		peers[p.Name] = p
	}
	return peers
}

// TestJoinAndLeave has a server join by hand, move leadership to it, and leave.
func TestJoinAndLeave(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	finish := background(t, load, 1, 0)

	newcomer := c.AddServer()
	newcomer.Start()
	harness.Eventually(t, "the new server answers", func(context.Context) error {
		if res := newcomer.CLI("--retry-for", "0s", "cluster", "members"); res.Code != 0 {
			return errors.New(res.Stderr)
		}
		return nil
	})
	if res := c.TryCLI(newcomer, "--retry-for", "1s", "run", digest); res.Code != 1 || !strings.Contains(res.Stderr, "NO_LEADER") {
		t.Errorf("a server that has not joined: exit %d\n%s", res.Code, res.Stderr)
	}
	if out := c.CLI(newcomer, "cluster", "join", c.Servers[0].Gossip()); out != "contacted 1 of 1\n" {
		t.Errorf("join printed %q", out)
	}
	harness.Eventually(t, "the new server is a peer", func(context.Context) error {
		if _, ok := peersOf(c, c.Servers[0])[newcomer.Name]; !ok {
			return errors.New("it is not")
		}
		return nil
	})
	c.WaitReady() // a voter now

	if out := c.CLI(c.Servers[0], "cluster", "transfer-leadership", newcomer.Name); !strings.Contains(out, newcomer.Name) {
		t.Errorf("transfer-leadership printed %q", out)
	}
	if leader := c.Leader(); leader != newcomer {
		t.Errorf("%s leads, want %s", leader.Name, newcomer.Name)
	}
	c.CLI(c.Servers[0], "cluster", "transfer-leadership") // to whoever is ready
	if leader := c.Leader(); leader == newcomer {
		t.Errorf("%s still leads", leader.Name)
	}
	c.CLI(c.Servers[0], "cluster", "transfer-leadership", newcomer.Name)

	c.CLI(newcomer, "cluster", "leave") // as the leader
	if err := newcomer.Wait(harness.Patience); err != nil {
		t.Errorf("after it left, %s ended with %v", newcomer.Name, err)
	}
	c.Forget(newcomer)
	if peers := peersOf(c, c.Servers[0]); len(peers) != 3 || peers[newcomer.Name].Name != "" {
		t.Errorf("peers after it left: %v", peers)
	}
	finish()
	c.AssertRunningOnce(cl, load.IDs())
	c.AssertSameState()
}

// TestReplaceDeadServer replaces a server that has lost its disk by one of the
// same name: not before the old one was removed.
func TestReplaceDeadServer(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 2, 10)()

	dead := c.Followers()[0]
	old := peersOf(c, dead)[dead.Name].ServerID
	dead.Kill()
	if err := os.RemoveAll(filepath.Join(dead.Dir, "data")); err != nil {
		t.Fatal(err)
	}
	dead.Start()
	awaitRefusal(t, dead, 1, wasmatrix.CodeConflict, dead.Name, "data directory was lost or replaced", "wasmatrix cluster remove-peer "+dead.Name)
	if got := peersOf(c, c.Leader())[dead.Name]; got.ServerID != old {
		t.Errorf("the peer is %v, was %s", got, old)
	}
	background(t, load, 2, 15)() // two of three are a majority

	if out := c.CLI(c.Leader(), "cluster", "remove-peer", dead.Name); !strings.Contains(out, old) {
		t.Errorf("remove-peer printed %q, want %s", out, old)
	}
	dead.Start() // the refused data directory will do, since it is empty
	c.WaitReady()
	if got := peersOf(c, c.Leader())[dead.Name]; got.ServerID == old || !got.Voter {
		t.Errorf("the peer is %v, was %s", got, old)
	}
	c.AssertRunningOnce(cl, load.IDs())
	c.AssertSameState()
}

// TestRestoreIntoTheSameCluster goes back to a snapshot: what came after it is
// gone, what was there is there and runs, and the nodes know of nothing else.
func TestRestoreIntoTheSameCluster(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	kept := harness.NewLoad(cl, digest, "kept")
	background(t, kept, 2, 10)()
	c.AssertRunningOnce(cl, kept.IDs())
	snap := filepath.Join(t.TempDir(), "state.snap")
	c.CLI(c.Followers()[0], "cluster", "snapshot", "save", snap)
	var saved struct {
		StateHash, ClusterID string
		Counts               struct{ Instances int }
	}
	c.CLIJSON(&saved, c.Servers[0], "cluster", "snapshot", "inspect", snap)
	if saved.Counts.Instances != 10 || saved.ClusterID != clusterOf(t, c, c.Servers[0]) {
		t.Errorf("the snapshot has %+v", saved)
	}

	later := harness.NewLoad(cl, digest, "later")
	background(t, later, 2, 10)()
	c.AssertRunningOnce(cl, later.IDs())
	c.CLI(c.Servers[0], "stop", kept.IDs()[0]) // of which the restored state knows nothing

	if res := c.TryCLI(c.Servers[0], "cluster", "snapshot", "restore", snap); res.Code != 2 || !strings.Contains(res.Stderr, "--force") {
		t.Errorf("restore without --force: exit %d\n%s", res.Code, res.Stderr)
	}
	damaged, err := os.ReadFile(snap)
	if err != nil {
		t.Fatal(err)
	}
	damaged[len(damaged)/2] ^= 1
	res := c.TryCLI(c.Servers[0], "cluster", "snapshot", "restore", "--force", file(t, "damaged.snap", string(damaged)))
	if res.Code != 1 {
		t.Errorf("restore of a damaged file: exit %d\n%s", res.Code, res.Stderr)
	}
	var restored struct{ StateHash string }
	c.CLIJSON(&restored, c.Followers()[0], "cluster", "snapshot", "restore", "--force", snap)
	if saved.StateHash == "" || restored.StateHash != saved.StateHash {
		t.Errorf("state hash %q after the restore, %q in the file", restored.StateHash, saved.StateHash)
	}
	c.AssertRunningOnce(cl, kept.IDs())
	harness.Eventually(t, "nothing else runs", func(ctx context.Context) error {
		all, err := harness.List(ctx, cl)
		if err != nil {
			return err
		}
		held, err := c.Held(ctx)
		if err != nil {
			return err
		}
		if len(all) != len(kept.IDs()) || len(held) != len(kept.IDs()) {
			return fmt.Errorf("%d instances are known and %d are run", len(all), len(held))
		}
		return nil
	})
	// It goes on: new instances, also after the leader has changed.
	background(t, later, 2, 15)()
	c.CLI(c.Servers[0], "cluster", "transfer-leadership")
	background(t, later, 2, 20)()
	c.AssertRunningOnce(cl, append(kept.IDs(), later.IDs()[10:]...))
	c.AssertSameState()
}

// TestLostMajority goes on with what one server of three has.
func TestLostMajority(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 2, 10)()
	c.AssertRunningOnce(cl, load.IDs())
	p := startProbe(t, c, cl, "p", always, withCaps(everythingGranted("kept")...))
	p.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: "0", Value: "kept"}, 0)
	assertSameKV(t, c)
	c.AssertSameState() // so that the survivor has it all
	id := clusterOf(t, c, c.Servers[0])

	survivor, lost := c.Servers[0], c.Servers[1:]
	c.KillAll()
	for _, s := range lost {
		c.Forget(s)
		if err := os.RemoveAll(s.Dir); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(survivor.Dir, "data", "server")
	server, err := os.ReadFile(filepath.Join(dir, "server-id"))
	if err != nil {
		t.Fatal(err)
	}
	peersFile := filepath.Join(dir, "raft", "peers.json")
	peers, err := json.Marshal([]map[string]any{{
		"id": strings.TrimSpace(string(server)), "address": fmt.Sprintf("127.0.0.1:%d", survivor.Ports.Raft), "non_voter": false,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a file that names others only", func(t *testing.T) {
		if err := os.WriteFile(peersFile, []byte(strings.ReplaceAll(string(peers), survivor.Name+".", "nobody.")), 0o600); err != nil {
			t.Fatal(err)
		}
		survivor.Start()
		awaitRefusal(t, survivor, 1, wasmatrix.CodeValidation, "does not name this server")
	})
	if err := os.WriteFile(peersFile, peers, 0o600); err != nil {
		t.Fatal(err)
	}
	survivor.Start()
	c.Nodes[0].Start()
	c.WaitReady()
	if _, err := os.Stat(peersFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if leader := c.Leader(); leader != survivor || clusterOf(t, c, survivor) != id {
		t.Errorf("%s leads cluster %s, was %s", leader.Name, clusterOf(t, c, survivor), id)
	}
	cl = c.Client()
	c.AssertRunningOnce(cl, load.IDs())
	p.cl = cl
	awaitAnswer(t, p)
	if r := p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: "0"}, 0); r.Value != "kept" {
		t.Errorf("of kv the survivor has %q", r.Value)
	}
	for range 2 {
		s := c.AddServer()
		s.Start()
		c.CLI(s, "cluster", "join", survivor.Gossip())
	}
	c.WaitReady()
	more := harness.NewLoad(c.Client(), digest, "more")
	background(t, more, 2, 10)()
	c.AssertRunningOnce(cl, append(load.IDs(), more.IDs()...))
	assertSameKV(t, c)
	if st, err := cl.Cluster.GetStatus(t.Context(), &api.GetStatusRequest{}); err != nil || st.GetFailureTolerance() != 1 {
		t.Errorf("status %v, %v", st, err)
	}
	c.AssertSameState()
}
