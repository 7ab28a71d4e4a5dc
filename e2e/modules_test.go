package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// copyOf is where an agent keeps a module.
func copyOf(a *harness.Agent, digest string) string {
	role := "node"
	if a.Server {
		role = "server"
	}
	return filepath.Join(a.Dir, "data", role, "modules", strings.TrimPrefix(digest, "sha256:")+".wasm")
}

// sound returns nil if an agent's disk has a module.
func sound(a *harness.Agent, digest string) error {
	b, err := os.ReadFile(copyOf(a, digest))
	if err != nil {
		return err
	}
	if got := wasmatrix.DigestOf(b).String(); got != digest {
		return fmt.Errorf("the copy of %s has the digest %s", a.Name, got)
	}
	return nil
}

func awaitCopy(t *testing.T, a *harness.Agent, digest string) {
	t.Helper()
	harness.Eventually(t, a.Name+" has the module", func(context.Context) error { return sound(a, digest) })
}

// fetch reads a module through the API.
func fetch(ctx context.Context, cl *client.Client, digest string) ([]byte, error) {
	stream, err := cl.Modules.GetModule(ctx, &api.GetModuleRequest{Digest: digest})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var b bytes.Buffer
	for stream.Receive() {
		b.Write(stream.Msg().GetData())
	}
	return b.Bytes(), stream.Err()
}

// TestModules pushes, names, runs and removes modules over one cluster.
func TestModules(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl, follower := c.Client(), c.Followers()[0]

	pushed := strings.TrimSpace(c.CLI(follower, "module", "push", reactor(t), "--name", "guest"))
	onDisk := 0
	for _, s := range c.Servers {
		if sound(s, pushed) == nil {
			onDisk++
		}
	}
	if onDisk < 2 {
		t.Errorf("acknowledged with copies on %d of 3 disks", onDisk)
	}
	for _, s := range c.Servers {
		awaitCopy(t, s, pushed)
	}
	c.CLI(follower, "run", "guest", "--id", "by-name", "--wait")
	c.CLI(follower, "run", pushed, "--id", "by-digest", "--wait")
	c.CLI(follower, "run", strings.TrimPrefix(pushed, "sha256:")[:12], "--id", "by-prefix", "--wait")
	c.AssertRunningOnce(cl, []string{"by-name", "by-digest", "by-prefix"})
	if err := sound(c.Nodes[0], pushed); err != nil {
		t.Errorf("the node runs what it does not have: %v", err)
	}

	t.Run("pushed again", func(t *testing.T) {
		var res struct{ Existed bool }
		c.CLIJSON(&res, c.Leader(), "module", "push", reactor(t))
		if !res.Existed {
			t.Error("it was taken for another one")
		}
	})
	t.Run("a name moves", func(t *testing.T) {
		other := strings.TrimSpace(c.CLI(follower, "module", "push", file(t, "other.wasm", wasmEnds), "--name", "guest"))
		c.CLI(follower, "run", "guest", "--id", "moved", "--wait")
		in, err := cl.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{InstanceId: "moved"})
		if err != nil || in.GetInstance().GetSpec().GetModule() != other {
			t.Errorf("the name stands for %s, %v, want %s", in.GetInstance().GetSpec().GetModule(), err, other)
		}
		c.CLI(follower, "module", "push", reactor(t), "--name", "guest") // back
	})
	t.Run("removed while in use", func(t *testing.T) {
		wantFailure(t, c.TryCLI(follower, "module", "rm", "guest"), 1, wasmatrix.CodeConflict, "is used by 3 instances")
		c.CLI(follower, "stop", "by-name", "by-digest", "by-prefix")
		c.CLI(follower, "module", "rm", "guest")
		wantFailure(t, c.TryCLI(follower, "run", "guest"), 1, wasmatrix.CodeModuleNotFound, "guest")
		wantFailure(t, c.TryCLI(follower, "run", pushed), 1, wasmatrix.CodeModuleNotFound)
	})
}

// TestModulePushedWhileAServerIsDown has that server fetch it later: then a fresh
// node gets it from there, since the only other server that lives has it no more.
func TestModulePushedWhileAServerIsDown(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3})
	late := c.Followers()[0]
	late.Kill()
	var others []*harness.Agent
	for _, s := range c.Servers {
		if s != late {
			others = append(others, s)
		}
	}
	digest, err := harness.Push(t.Context(), c.Client(others...), reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	late.Start()
	awaitCopy(t, late, digest)
	c.WaitReady()

	others[0].Kill()
	if err := os.Remove(copyOf(others[1], digest)); err != nil {
		t.Fatal(err)
	}
	n := c.AddNode()
	n.Start()
	c.AwaitNode(n, "up")
	cl := c.Client(late, others[1])
	c.CLI(late, "run", digest, "--id", "served", "--wait")
	c.AssertRunningOnce(cl, []string{"served"})
	if err := sound(n, digest); err != nil {
		t.Error(err)
	}
}

// TestDamagedModule changes a byte of a server's copy: it is never served, and
// replaced by a good one.
func TestDamagedModule(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3})
	path := reactor(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := harness.Push(t.Context(), c.Client(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Servers {
		awaitCopy(t, s, digest)
	}
	victim := c.Followers()[0]
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(copyOf(victim, digest), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	direct, err := client.New(client.Config{Addrs: []string{victim.API()}, RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	harness.Eventually(t, victim.Name+" serves the module as it was pushed", func(ctx context.Context) error {
		got, err := fetch(ctx, direct, digest)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, good) {
			t.Fatal("it served other bytes as if they were good")
		}
		return nil
	})
	awaitCopy(t, victim, digest)
	if _, err := os.Stat(filepath.Join(filepath.Dir(copyOf(victim, digest)), "damaged", filepath.Base(copyOf(victim, digest)))); errors.Is(err, os.ErrNotExist) {
		t.Error("the damaged file was not kept aside")
	}
	n := c.AddNode()
	n.Start()
	c.WaitReady()
	c.CLI(victim, "run", digest, "--id", "after", "--wait")
	c.AssertRunningOnce(c.Client(), []string{"after"})
}
