package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) eventsCommand() *cobra.Command {
	var (
		follow, stale bool
		from          uint64
		node          string
		kinds         []string
	)
	cmd := &cobra.Command{
		Use:   "events [ID]",
		Short: "List or follow what happened",
		Long: `List the facts: everything that happened to instances, their capabilities, nodes,
modules and providers, under indexes without gaps. Calls that were denied are told
of some at a time. With --follow, show facts as they happen, from the index
of --from or from now on; a lost connection is made again, and none is missed.`,
		Example: `  wasmatrix events web-1
  wasmatrix events -f --kind crashed --kind node_down
  wasmatrix events web-1 --kind denied
  wasmatrix events --from 1000 -o json`,
		Args:              wants("[ID]"),
		ValidArgsFunction: c.instanceIDs(false),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVarP(&follow, "follow", "f", false, "go on as facts happen")
	flags.Uint64Var(&from, "from", 0, "first index wanted (default: the oldest kept, or with --follow the next)")
	flags.StringVar(&node, "node", "", "only those of this node")
	flags.StringSliceVar(&kinds, "kind", nil, "only those of these kinds, such as crashed, moved, node_down")
	flags.BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	completeFlag(cmd, "node", c.nodeIDs())
	completeFlag(cmd, "from", cobra.NoFileCompletions)
	completeFlag(cmd, "kind", cobra.FixedCompletions(factKinds(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, args []string) error {
		filter := &api.EventFilter{Node: node, Kinds: kinds}
		if len(args) > 0 {
			filter.InstanceId = args[0]
		}
		if follow {
			return c.followEvents(ctx, cl, from, filter)
		}
		return c.listEvents(ctx, cl, &api.ListEventsRequest{From: from, Filter: filter, Stale: stale})
	})
	return cmd
}

func (c *cli) listEvents(ctx context.Context, cl *client.Client, req *api.ListEventsRequest) error {
	var all *api.ListEventsResponse
	for {
		res, err := cl.Events.ListEvents(ctx, req)
		if err != nil {
			return err
		}
		if all == nil {
			all = res
		} else {
			all.Events = append(all.Events, res.GetEvents()...)
			all.Next, all.Missed = res.GetNext(), all.GetMissed()+res.GetMissed()
		}
		// A page without facts, or one that ends where it began, is the last.
		if len(res.GetEvents()) == 0 || res.GetNext() <= req.GetFrom() {
			break
		}
		req.From = res.GetNext()
	}
	if c.json() {
		return c.writeJSON(all)
	}
	c.sayMissed(all.GetMissed())
	return c.writeTable(eventTable(all.GetEvents()))
}

func eventTable(events []*api.Event) *table {
	t := newTable("INDEX", "TIME", "KIND", "INSTANCE", "NODE", "EPOCH", "REASON")
	for _, e := range events {
		epoch := "-"
		if e.GetEpoch() > 0 {
			epoch = count(e.GetEpoch())
		}
		t.add(count(e.GetIndex()), moment(e.GetTime()), e.GetKind(), dash(e.GetInstanceId()), dash(e.GetNode()), epoch, e.GetReason())
	}
	return t
}

func (c *cli) sayMissed(n uint64) {
	if n > 0 {
		fmt.Fprintf(c.err, "[%d earlier facts are kept no more]\n", n)
	}
}

// Delays between attempts to follow again after the connection was lost.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// followEvents shows facts until ctx ends, which is no error. After a lost
// connection it goes on with the next index. Before the first answer, though, an
// unreachable server is an error.
func (c *cli) followEvents(ctx context.Context, cl *client.Client, from uint64, filter *api.EventFilter) error {
	head, answered := true, false
	pause := firstPause
	for {
		next, err := c.followOnce(ctx, cl, from, filter, &head)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Ctrl-C is how one ends this
		}
		if next > from {
			from, pause, answered = next, firstPause, true
		}
		if err == nil {
			err = wasmatrix.Errorf(wasmatrix.CodeCommunication, "the server ended the stream")
		}
		if !answered || !wasmatrix.AsError(err).Retryable() {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// followOnce shows facts of one stream and returns the index to go on from.
func (c *cli) followOnce(ctx context.Context, cl *client.Client, from uint64, filter *api.EventFilter, head *bool) (next uint64, err error) {
	next = from
	stream, err := cl.Events.WatchEvents(ctx, &api.WatchEventsRequest{From: from, Filter: filter})
	if err != nil {
		return next, err
	}
	defer stream.Close()
	for stream.Receive() {
		res := stream.Msg()
		if err := c.showEvents(res, head); err != nil {
			return next, err
		}
		next = max(next, res.GetNext())
	}
	return next, stream.Err()
}

// streamWidths are the widths of columns that cannot be known yet.
var streamWidths = []int{8, 29, 17, 24, 12, 5, 0}

func (c *cli) showEvents(res *api.WatchEventsResponse, head *bool) error {
	if c.json() {
		for _, e := range res.GetEvents() {
			if err := c.writeJSONLine(e); err != nil {
				return err
			}
		}
		return nil
	}
	c.sayMissed(res.GetMissed())
	t := eventTable(res.GetEvents())
	t.least = streamWidths
	if !*head {
		if len(t.rows) == 0 {
			return nil
		}
		t.bare = true
	}
	*head = false
	return c.writeTable(t)
}

func factKinds() []string {
	kinds := []wasmatrix.FactKind{
		wasmatrix.FactRequested, wasmatrix.FactPlaced, wasmatrix.FactMoved, wasmatrix.FactStarted, wasmatrix.FactCrashed,
		wasmatrix.FactRestarting, wasmatrix.FactExited, wasmatrix.FactStopRequested, wasmatrix.FactRestartRequested,
		wasmatrix.FactStopped, wasmatrix.FactFailed, wasmatrix.FactLost, wasmatrix.FactAssigned, wasmatrix.FactRevoked,
		wasmatrix.FactDenied, wasmatrix.FactNodeUp, wasmatrix.FactNodeDown, wasmatrix.FactNodeDrain, wasmatrix.FactNodeUndrain,
		wasmatrix.FactNodeForgotten, wasmatrix.FactModuleAdded, wasmatrix.FactModuleRemoved, wasmatrix.FactProviderChanged,
		wasmatrix.FactProviderRemoved, wasmatrix.FactClusterFormed,
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return names
}
