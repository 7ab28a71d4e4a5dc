package rpc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func frames(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

// TestCrashInfoAsksTheNode for what the state does not keep, and says why where
// it cannot tell.
func TestCrashInfoAsksTheNode(t *testing.T) {
	c := newCluster(t, 2)
	n := &node{id: "n1", details: map[wasmatrix.InstanceID][]wasmatrix.CrashDetail{"f": {
		{Epoch: 1, Attempt: 1, Stack: frames("long", 70), Stderr: []byte("panic: \xff")},
		{Epoch: 1, Attempt: 9, Stderr: []byte("of another crash")},
		{Epoch: 7, Attempt: 2, Stderr: []byte("of another epoch")},
	}}}
	addr, end := serveNode(t, n)
	addNode(t, c, "n1", addr)
	addModule(t, c, "m")
	cl := c.Client(nil, 1)
	start(t, cl, "f")
	crash := func(attempt uint32, kind wasmatrix.CrashKind) wasmatrix.Report {
		return wasmatrix.Report{
			Instance: "f", Epoch: 1, Attempt: attempt, Seq: uint64(attempt), Status: wasmatrix.StatusBackoff, Error: wasmatrix.CodeCrashDetected,
			Crash: &wasmatrix.Crash{Kind: kind, Message: "m", Stack: frames("short", 2), Fuel: 42, MemoryPeak: 65536, Uptime: int64(time.Second)},
		}
	}
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.ApplyReports{At: 3, Node: "n1", Boot: "boot", Reports: []wasmatrix.Report{
		crash(1, wasmatrix.CrashTrap), crash(2, wasmatrix.CrashCPU),
	}}); err != nil {
		t.Fatal(err)
	}
	info := func() *api.GetCrashInfoResponse {
		t.Helper()
		res, err := cl.Instances.GetCrashInfo(t.Context(), &api.GetCrashInfoRequest{InstanceId: "f"})
		if err != nil || len(res.Crashes) != 2 {
			t.Fatalf("crash info: %v, %v", res, err)
		}
		return res
	}
	res := info()
	first, second := res.Crashes[0], res.Crashes[1]
	if res.DetailsMissing != "" || string(first.Stderr) != "panic: \xff" || len(first.Stack) != wasmatrix.MaxDetailFrames || first.Stack[0] != "long0" {
		t.Errorf("the first crash is %v, missing %q", first, res.DetailsMissing)
	}
	if first.Fuel != 42 || first.MemoryPeakBytes != 65536 || first.Kind != "trap" {
		t.Errorf("the first crash is %v", first)
	}
	if len(second.Stderr) != 0 || len(second.Stack) != 2 || second.Kind != "cpu" {
		t.Errorf("the second crash is %v", second)
	}

	end()
	res = info()
	if !strings.Contains(res.DetailsMissing, "n1 did not answer") || len(res.Crashes[0].Stderr) != 0 || len(res.Crashes[0].Stack) != 2 {
		t.Errorf("without the node: %v", res)
	}
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.MarkNodeDown{At: 9, Node: "n1", Boot: "boot", Reason: "gone"}); err != nil {
		t.Fatal(err)
	}
	res, err := cl.Instances.GetCrashInfo(t.Context(), &api.GetCrashInfoRequest{InstanceId: "f"})
	if err != nil || res.DetailsMissing != "node n1 is down" {
		t.Errorf("with the node down: %v, %v", res, err)
	}
}

// TestReadsDoNotWaitForASilentNode: a node that never answers delays what the
// state knows by no more than the time for its part.
func TestReadsDoNotWaitForASilentNode(t *testing.T) {
	c := newCluster(t, 1)
	silent := &silentNode{node: &node{id: "n1"}, end: make(chan struct{})}
	addr, _ := serveAgent(t, silent)
	defer close(silent.end)
	addNode(t, c, "n1", addr)
	addModule(t, c, "m")
	cl := c.Client(once)
	start(t, cl, "f")
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.ApplyReports{At: 3, Node: "n1", Boot: "boot", Reports: []wasmatrix.Report{
		{Instance: "f", Epoch: 1, Attempt: 1, Seq: 1, Status: wasmatrix.StatusCrashed, Crash: &wasmatrix.Crash{Kind: wasmatrix.CrashTrap, Message: "m"}},
	}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	res, err := cl.Instances.GetCrashInfo(ctx, &api.GetCrashInfoRequest{InstanceId: "f"})
	if err != nil || len(res.Crashes) != 1 || !strings.Contains(res.DetailsMissing, "did not answer") {
		t.Errorf("crash info: %v, %v", res, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if got, err := cl.Nodes.GetNode(ctx, &api.GetNodeRequest{NodeId: "n1"}); err != nil || got.Node.NodeId != "n1" || got.Usage != nil {
		t.Errorf("node: %v, %v", got, err)
	}
}

// silentNode answers reads when end is closed.
type silentNode struct {
	*node
	end chan struct{}
}

func (n *silentNode) CrashDetails(wasmatrix.InstanceID) []wasmatrix.CrashDetail {
	<-n.end
	return nil
}

func (n *silentNode) Usage(bool) wasmatrix.NodeUsage {
	<-n.end
	return wasmatrix.NodeUsage{}
}

var _ rpc.Agent = (*silentNode)(nil)

func TestGetNodeTellsItsUsage(t *testing.T) {
	c := newCluster(t, 2)
	usage := wasmatrix.NodeUsage{
		Instances: 1, Reserved: 2, GuestMemory: 3, Heap: 4, Goroutines: 5, Threads: 6, Descriptors: 7,
		Compiling: 8, Runnable: 9, Cores: 10, CPU: 11 * time.Second,
		Calls: 12, Denials: 13, CallsOpen: 14,
	}
	addr, _ := serveNode(t, &node{id: "n1", usage: usage})
	addNode(t, c, "n1", addr)
	res, err := c.Client(nil, 1).Nodes.GetNode(t.Context(), &api.GetNodeRequest{NodeId: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	u := res.Usage
	got := wasmatrix.NodeUsage{
		Instances: u.GetInstances(), Reserved: u.GetReservedBytes(), GuestMemory: u.GetGuestMemoryBytes(), Heap: u.GetHeapBytes(),
		Goroutines: u.GetGoroutines(), Threads: u.GetThreads(), Descriptors: u.GetDescriptors(),
		Compiling: u.GetCompiling(), Runnable: u.GetRunnable(), Cores: u.GetCores(), CPU: u.GetCpu().AsDuration(),
		Calls: u.GetCapabilityCalls(), Denials: u.GetCapabilityDenials(), CallsOpen: u.GetCapabilityCallsOpen(),
	}
	if got != usage {
		t.Errorf("the usage is %+v, want %+v", got, usage)
	}
}

// TestNewModulesAreOfferedToNodes: to those that may run them, with the most room.
func TestNewModulesAreOfferedToNodes(t *testing.T) {
	c := newCluster(t, 2)
	offered := make(chan string, 10)
	add := func(id wasmatrix.NodeID, memory uint64) {
		n := &node{id: id, prepared: make(chan wasmatrix.Digest)}
		addr, _ := serveNode(t, n)
		go func() {
			for d := range n.prepared {
				offered <- string(id) + " " + d.String()
			}
		}()
		if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.RegisterNode{At: 2, Registration: wasmatrix.Registration{
			ID: id, Boot: "boot", Addr: addr, Capacity: wasmatrix.Capacity{Memory: memory, Instances: 10},
		}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { close(n.prepared) })
	}
	add("n1", 1<<30)
	add("n2", 5<<30)
	add("n3", 3<<30)
	add("n4", 4<<30)
	add("n5", 9<<30)
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.DrainNode{At: 3, Node: "n5", Drain: true}); err != nil {
		t.Fatal(err)
	}
	push := func() {
		t.Helper()
		if _, err := c.Client(nil, 1).PushModule(t.Context(), client.Push{Bytes: strings.NewReader(string(wasm)), Size: int64(len(wasm))}); err != nil {
			t.Fatal(err)
		}
	}
	push()
	want := map[string]bool{}
	for _, id := range []string{"n2", "n3", "n4"} {
		want[id+" "+wasmatrix.DigestOf(wasm).String()] = true
	}
	for range 3 {
		select {
		case got := <-offered:
			if !want[got] {
				t.Errorf("offered to %s", got)
			}
			delete(want, got)
		case <-time.After(10 * time.Second):
			t.Fatalf("not offered: %v", want)
		}
	}
	push() // it is there: nothing to prepare
	c.Servers[0].Stop()
	if len(offered) != 0 {
		t.Errorf("offered again to %s", <-offered)
	}
}
