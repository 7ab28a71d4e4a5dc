package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// liveStatuses are all that are not final.
var liveStatuses = []api.InstanceStatus{
	api.InstanceStatus_INSTANCE_STATUS_PENDING,
	api.InstanceStatus_INSTANCE_STATUS_STARTING,
	api.InstanceStatus_INSTANCE_STATUS_RUNNING,
	api.InstanceStatus_INSTANCE_STATUS_BACKOFF,
	api.InstanceStatus_INSTANCE_STATUS_LOST,
}

func (c *cli) psCommand() *cobra.Command {
	var (
		all, quiet, stale bool
		node              string
		statuses          []string
		selectors         []string
	)
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List instances",
		Long: `List the instances that are not stopped or crashed for good, or all of them.

A selector restricts the list to instances with such labels: key=value,
key!=value, "key in (a,b)", "key notin (a,b)", key or !key.`,
		Example: `  wasmatrix ps
  wasmatrix ps -a --node worker-1
  wasmatrix ps --selector app=web --selector '!canary'
  wasmatrix ps -q --status running | xargs wasmatrix stop`,
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVarP(&all, "all", "a", false, "also those that are stopped or crashed for good")
	flags.StringSliceVar(&statuses, "status", nil, "only those of these statuses: "+statusNames())
	flags.StringVar(&node, "node", "", "only those on this node")
	flags.StringArrayVar(&selectors, "selector", nil, "only those whose labels match; may be repeated")
	flags.BoolVarP(&quiet, "quiet", "q", false, "only IDs, one a line")
	flags.BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	completeFlag(cmd, "node", c.nodeIDs())
	completeFlag(cmd, "selector", cobra.NoFileCompletions)
	completeFlag(cmd, "status", cobra.FixedCompletions(allStatusNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req := &api.ListInstancesRequest{Node: node, Selectors: selectors, ReadMode: readMode(stale)}
		for _, s := range selectors {
			if _, err := wasmatrix.ParseConstraint(s); err != nil {
				return usagef("--selector: %s", wasmatrix.AsError(err).Message)
			}
		}
		for _, name := range statuses {
			s, err := wasmatrix.ParseStatus(name)
			if err != nil {
				return usagef("--status: %s: one of %s", wasmatrix.AsError(err).Message, statusNames())
			}
			req.Statuses = append(req.Statuses, api.InstanceStatus(s))
		}
		if !all && len(statuses) == 0 {
			req.Statuses = liveStatuses
		}
		return c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			list, err := listInstances(ctx, cl, req)
			if err != nil {
				return err
			}
			return c.showInstances(list, quiet)
		})(cmd, args)
	}
	return cmd
}

func (c *cli) showInstances(list *api.ListInstancesResponse, quiet bool) error {
	switch {
	case quiet:
		for _, i := range list.GetInstances() {
			if _, err := fmt.Fprintln(c.out, i.GetInstanceId()); err != nil {
				return err
			}
		}
		return nil
	case c.json():
		return c.writeJSON(list)
	}
	t := newTable("INSTANCE", "MODULE", "STATUS", "NODE", "EPOCH", "RESTARTS", "AGE", "REASON")
	for _, i := range list.GetInstances() {
		t.add(i.GetInstanceId(), moduleOf(i), statusText(i.GetStatus()), dash(i.GetNode()), count(i.GetEpoch()),
			count(i.GetRestarts()), c.since(i.GetCreatedAt()), i.GetReason())
	}
	return c.writeTable(t)
}

// listInstances gathers all pages into one answer.
func listInstances(ctx context.Context, cl *client.Client, req *api.ListInstancesRequest) (*api.ListInstancesResponse, error) {
	all := &api.ListInstancesResponse{}
	for {
		res, err := cl.Instances.ListInstances(ctx, req)
		if err != nil {
			return nil, err
		}
		all.Instances = append(all.Instances, res.GetInstances()...)
		all.Index = res.GetIndex()
		if res.GetNextPageToken() == "" {
			return all, nil
		}
		req.PageToken = res.GetNextPageToken()
	}
}

// moduleOf is the name that an instance was started by, or its short digest.
func moduleOf(i *api.Instance) string {
	if name := i.GetSpec().GetModuleName(); name != "" {
		return name
	}
	return shortDigest(i.GetSpec().GetModule())
}

func readMode(stale bool) api.ReadMode {
	if stale {
		return api.ReadMode_READ_MODE_STALE
	}
	return api.ReadMode_READ_MODE_LINEARIZABLE
}

func allStatusNames() []string {
	var names []string
	for s := wasmatrix.StatusPending; s <= wasmatrix.StatusCrashed; s++ {
		names = append(names, s.String())
	}
	return names
}

func statusNames() string { return strings.Join(allStatusNames(), ", ") }
