package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// parallel is how many requests of one command are under way at once.
const parallel = 16

func (c *cli) stopCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "stop ID...",
		Short: "Stop instances",
		Long: `Ask for instances to stop, and wait until their nodes have confirmed it.

A stop goes on when the wait for it has timed out. Stopping what has ended
already is no error.`,
		Example:           "  wasmatrix stop web-1 web-2\n  wasmatrix stop --timeout 2m batch",
		Args:              wants("ID..."),
		ValidArgsFunction: c.instanceIDs(true, liveStatuses...),
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the node of each")
	completeFlag(cmd, "timeout", cobra.NoFileCompletions)
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, args []string) error {
		return each(ctx, args, func(ctx context.Context, id string) (*api.StopInstanceResponse, error) {
			return cl.Instances.StopInstance(ctx, &api.StopInstanceRequest{InstanceId: id, Timeout: durationpb.New(timeout)})
		}, func(id string, res *api.StopInstanceResponse) error {
			if c.json() {
				return c.writeJSONLine(res)
			}
			_, err := fmt.Fprintln(c.out, id)
			return err
		})
	})
	return cmd
}

// each calls do for every ID, some at a time, and show for each that succeeded,
// in the order of the IDs. It returns all errors joined.
func each[R any](ctx context.Context, ids []string, do func(context.Context, string) (R, error), show func(string, R) error) error {
	results, errs := make([]R, len(ids)), make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, id := range ids {
		g.Go(func() error {
			results[i], errs[i] = do(ctx, id)
			return nil
		})
	}
	_ = g.Wait() // errs has them
	for i, id := range ids {
		if errs[i] == nil {
			errs[i] = show(id, results[i])
		}
	}
	return errors.Join(errs...)
}
