package e2e

import (
	"testing"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// TestNodeKilled kills a node: what it ran runs elsewhere, once; when it comes
// back it holds nothing of the past.
func TestNodeKilled(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 4, 60)()
	c.AssertRunningOnce(cl, load.IDs())

	victim := c.Nodes[0]
	victim.Kill()
	c.AssertRunningOnce(cl, load.IDs())
	all, err := harness.List(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for id, in := range all {
		if in.GetNode() == victim.Name {
			t.Errorf("%s is still on the killed node", id)
		}
		if in.GetEpoch() > 2 {
			t.Errorf("%s was moved more than once: epoch %d", id, in.GetEpoch())
		}
		if in.GetEpoch() == 2 {
			moved++
		}
	}
	if moved == 0 || moved == len(all) {
		t.Errorf("%d of %d instances were moved: the kill should have moved some", moved, len(all))
	}

	victim.Start()
	c.WaitReady()
	c.AssertRunningOnce(cl, load.IDs())
}

// TestNodePaused stops a node past its lease: its instances run elsewhere, and
// when it goes on it ends those that it had (I4).
func TestNodePaused(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 4, 40)()
	c.AssertRunningOnce(cl, load.IDs())

	c.Nodes[0].Pause()
	c.AwaitNode(c.Nodes[0], "down")
	c.Nodes[0].Resume()
	c.AwaitNode(c.Nodes[0], "up")
	c.AssertRunningOnce(cl, load.IDs())
}

// TestEverythingKilledAtOnce kills all agents in the same moment and starts
// them again: all state is back, and the instances run again by policy.
func TestEverythingKilledAtOnce(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 4, 60)()
	if _, err := cl.Instances.StartInstance(t.Context(), &api.StartInstanceRequest{
		InstanceId: "mortal", Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
	}); err != nil {
		t.Fatal(err)
	}
	c.AssertRunningOnce(cl, append(load.IDs(), "mortal"))

	c.KillAll()
	for _, a := range c.Agents() {
		a.Start()
	}
	c.WaitReady()
	c.AssertRunningOnce(cl, load.IDs())
	// Its policy is never: losing its node is a crash, and a fact.
	c.AwaitStatus(cl, "mortal", api.InstanceStatus_INSTANCE_STATUS_CRASHED)
	crash, err := cl.Instances.GetCrashInfo(t.Context(), &api.GetCrashInfoRequest{InstanceId: "mortal"})
	if err != nil {
		t.Fatal(err)
	}
	if !crash.GetCrashed() || len(crash.GetCrashes()) != 1 || crash.GetCrashes()[0].GetKind() != "node_lost" {
		t.Errorf("crash info of an instance lost with its node: %v", crash)
	}
}

// TestRollingRestart restarts the servers, which keep their log in raft-wal, one
// after another, as an upgrade does, while writes go on: none fails, none is lost.
func TestRollingRestart(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1, LogStore: "wal"})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	finish := background(t, load, 2, 0)
	for _, s := range c.Servers {
		load.AwaitAcked(t, load.Acked()+10)
		s.Terminate()
		load.AwaitAcked(t, load.Acked()+10)
		s.Start()
		c.WaitReady()
	}
	finish()
	c.AssertRunningOnce(cl, load.IDs())
	c.AssertSameState()
}
