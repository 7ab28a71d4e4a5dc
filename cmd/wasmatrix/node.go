package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) nodeCommand() *cobra.Command {
	return group("node", "List and inspect worker nodes",
		"Show the nodes that run instances.", c.nodeLsCommand(), c.nodeInspectCommand())
}

func (c *cli) nodeLsCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:               "ls",
		Short:             "List nodes",
		Example:           "  wasmatrix node ls",
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
		res, err := cl.Nodes.ListNodes(ctx, &api.ListNodesRequest{Stale: stale})
		if err != nil {
			return err
		}
		if c.json() {
			return c.writeJSON(res)
		}
		t := newTable("NODE", "STATUS", "INSTANCES", "MEMORY", "ADDRESS", "VERSION", "SINCE", "LABELS", "REASON")
		for _, n := range res.GetNodes() {
			t.add(n.GetNodeId(), nodeStatus(n), instancesUsed(n), memoryUsed(n), n.GetAddress(), dash(n.GetVersion()),
				c.since(n.GetChangedAt()), dash(strings.Join(assignments(ownLabels(n)), ",")), n.GetReason())
		}
		return c.writeTable(t)
	})
	return cmd
}

func (c *cli) nodeInspectCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:   "inspect NODE",
		Short: "Show a node in full",
		Long: `Show a node, and what its process takes of the machine at the moment, if the node
answers when it is asked. Memory and Reserved are limits of instances, which they
may not have used; Guest memory is what they have. CPU time and Capability calls
are counted from when the process began.`,
		Example:           "  wasmatrix node inspect worker-1",
		Args:              wants("NODE"),
		ValidArgsFunction: once(false, c.nodeIDs()),
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, args []string) error {
		res, err := cl.Nodes.GetNode(ctx, &api.GetNodeRequest{NodeId: args[0], Stale: stale})
		if err != nil {
			return err
		}
		if c.json() {
			return c.writeJSON(res)
		}
		n := res.GetNode()
		f := &fields{}
		f.add("Node", n.GetNodeId())
		f.add("Status", nodeStatus(n))
		f.add("Reason", n.GetReason())
		f.add("Address", n.GetAddress())
		f.add("Version", n.GetVersion())
		f.add("Instances", instancesUsed(n))
		f.add("Memory", memoryUsed(n))
		f.list("Labels", assignments(n.GetLabels()))
		f.add("Registered", moment(n.GetRegisteredAt()))
		f.add("Changed", moment(n.GetChangedAt()))
		if u := res.GetUsage(); u != nil {
			usageFields(f, u)
		}
		return f.write(c.out)
	})
	return cmd
}

func usageFields(f *fields, u *api.NodeUsage) {
	f.add("Guest memory", wasmatrix.FormatBytes(u.GetGuestMemoryBytes()))
	f.add("Reserved", wasmatrix.FormatBytes(u.GetReservedBytes()))
	f.add("Heap", wasmatrix.FormatBytes(u.GetHeapBytes()))
	f.add("Goroutines", count(u.GetGoroutines()))
	f.add("Threads", count(u.GetThreads()))
	f.add("Descriptors", count(u.GetDescriptors()))
	f.add("Compiling", count(u.GetCompiling()))
	f.add("Runnable", count(u.GetRunnable()))
	f.add("Cores", count(u.GetCores()))
	f.add("Capability calls", fmt.Sprintf("%d, and %d denied; %d under way", u.GetCapabilityCalls(), u.GetCapabilityDenials(), u.GetCapabilityCallsOpen()))
	f.add("CPU time", short(u.GetCpu().AsDuration().Round(time.Millisecond)))
}

func nodeStatus(n *api.Node) string {
	if n.GetDraining() && n.GetStatus() == wasmatrix.NodeUp.String() {
		return "draining"
	}
	return n.GetStatus()
}

func instancesUsed(n *api.Node) string {
	return count(n.GetUsed().GetInstances()) + "/" + count(n.GetCapacity().GetInstances())
}

func memoryUsed(n *api.Node) string {
	return wasmatrix.FormatBytes(n.GetUsed().GetMemoryBytes()) + "/" + wasmatrix.FormatBytes(n.GetCapacity().GetMemoryBytes())
}

// ownLabels leaves out the label that only repeats the node's ID.
func ownLabels(n *api.Node) map[string]string {
	own := map[string]string{}
	for k, v := range n.GetLabels() {
		if k != wasmatrix.LabelNode {
			own[k] = v
		}
	}
	return own
}
