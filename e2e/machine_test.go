package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// TestNodeProcessKilled kills the node process of a machine: its server starts
// another, and the instances are placed anew by their policy. Then it kills the
// server: the node process ends, too.
func TestNodeProcessKilled(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Both: true})
	cl, s := c.Client(), c.Servers[0]
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 2, 10)()
	c.CLI(s, "run", digest, "--id", "mortal", "--wait")
	c.AssertRunningOnce(cl, load.IDs())

	first := s.Child()
	harness.KillProcess(t, first)
	c.AwaitStatus(cl, "mortal", api.InstanceStatus_INSTANCE_STATUS_CRASHED)
	if info := crashInfo(t, cl, "mortal"); len(info.GetCrashes()) != 1 || info.GetCrashes()[0].GetKind() != "node_lost" {
		t.Errorf("crash info of an instance lost with its node: %v", info)
	}
	c.WaitReady()
	c.AssertRunningOnce(cl, load.IDs())
	all, err := harness.List(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range load.IDs() {
		if all[id].GetEpoch() != 2 {
			t.Errorf("%s runs in epoch %d, want 2", id, all[id].GetEpoch())
		}
	}
	second := s.Child()
	if second == first {
		t.Fatalf("process %d was not killed", first)
	}
	s.Kill()
	harness.AwaitGone(t, second)
}

// TestTerminate ends a machine that leads with SIGTERM: in good order, with the
// leadership handed over and what it ran placed elsewhere.
func TestTerminate(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Both: true})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 4, 30)()
	c.AssertRunningOnce(cl, load.IDs())

	kvLeader(t, c) // its first election is over
	leader, child := c.Leader(), c.Leader().Child()
	elections := func() (n int) {
		for _, s := range c.Servers {
			n += strings.Count(s.Log(), "heartbeat timeout reached")
		}
		return n
	}
	before := elections()
	leader.Terminate()
	if err := leader.Wait(0); err != nil {
		t.Errorf("asked to end, %s ended with %v", leader.Name, err)
	}
	harness.AwaitGone(t, child)
	if strings.Contains(leader.Log(), "leadership was not handed over") {
		t.Errorf("%s kept the leadership to its end", leader.Name)
	}
	c.Leader()
	if n := elections() - before; n != 0 {
		t.Errorf("the others waited for the leader to time out, %d times", n)
	}
	c.AssertRunningOnce(cl, load.IDs())
	down, err := cl.Events.ListEvents(t.Context(), &api.ListEventsRequest{Filter: &api.EventFilter{Kinds: []string{"node_down"}}})
	if err != nil {
		t.Fatal(err)
	}
	if events := down.GetEvents(); len(events) != 1 || events[0].GetNode() != leader.Name || strings.Contains(events[0].GetReason(), "lease") {
		t.Errorf("the nodes that went down: %v", events)
	}

	leader.Start() // it was a pause
	c.WaitReady()
	c.AssertRunningOnce(cl, load.IDs())
	c.AssertSameState()
}

// TestLogLevelReloaded changes the log level of a machine that runs: SIGHUP
// takes it over in both of its processes, and a file that is wrong changes nothing.
func TestLogLevelReloaded(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Both: true})
	s := c.Servers[0]
	if strings.Contains(s.Log(), "[DEBUG]") {
		t.Fatal("it logs in detail from the start")
	}
	setConfig(t, s, `level = "info"`, `level = "debug"`)
	s.Hangup()
	awaitLog(t, s, "[INFO]  server: log level reloaded: level=debug")
	awaitLog(t, s, "[INFO]  node: log level reloaded: level=debug")
	c.CLI(s, "run", reactor(t), "--wait")
	awaitLog(t, s, "[DEBUG] server")
	awaitLog(t, s, "[DEBUG] node")

	setConfig(t, s, `level = "debug"`, `level = "loud"`)
	s.Hangup()
	awaitLog(t, s, "[ERROR] server: the configuration was not read again", "agent.hcl:13", "loud")
	c.WaitReady()
}

// TestOpenToOthers binds an agent beyond loopback: both of its processes say what
// that means, and what it tells others is the address to advertise.
func TestOpenToOthers(t *testing.T) {
	const warning = "listening beyond this machine WITHOUT encryption"
	c := harness.New(t, harness.Options{Servers: 1, Both: true})
	s := c.Servers[0]
	s.Start("-bind", "0.0.0.0", "-advertise", "127.0.0.1")
	c.WaitReady()
	awaitLog(t, s, "[WARN]  server: ", warning, "bind_addr=0.0.0.0")
	awaitLog(t, s, "[WARN]  node: ", warning, "bind_addr=0.0.0.0")
	var list struct {
		Members []struct{ Name, GossipAddress, APIAddress string }
	}
	c.CLIJSON(&list, s, "cluster", "members")
	for _, m := range list.Members {
		if !strings.HasPrefix(m.GossipAddress, "127.0.0.1:") || !strings.HasPrefix(m.APIAddress, "127.0.0.1:") {
			t.Errorf("member %+v", m)
		}
	}
	c.CLI(s, "run", reactor(t), "--wait")
	s.Terminate()

	quiet := harness.Start(t, harness.Options{Servers: 1, Both: true}).Servers[0]
	if strings.Contains(quiet.Log(), warning) {
		t.Errorf("it warns on loopback:\n%s", quiet.LogTail(20))
	}
}

// TestNodeComesLater adds a node to a cluster that has none: what waits for one
// is placed on it.
func TestNodeComesLater(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1})
	cl, s := c.Client(), c.Servers[0]
	c.CLI(s, "run", reactor(t), "--id", "waits", "--queue")
	c.AwaitStatus(cl, "waits", api.InstanceStatus_INSTANCE_STATUS_PENDING)
	n := c.AddNode()
	n.Start()
	harness.Eventually(t, "the node is listed", func(context.Context) error {
		if out := c.CLI(s, "node", "ls"); !strings.Contains(out, n.Name) {
			return errors.New(out)
		}
		return nil
	})
	if in := c.AwaitStatus(cl, "waits", api.InstanceStatus_INSTANCE_STATUS_RUNNING); in.GetNode() != n.Name {
		t.Error(fmt.Errorf("it runs on %s", in.GetNode()))
	}
}
