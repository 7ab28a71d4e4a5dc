package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restart ID...",
		Short: "Start instances anew where they are",
		Long: `End the execution of instances and start them anew, from their modules alone,
on the same nodes. What has ended for good cannot be restarted: run it again.`,
		Example:           "  wasmatrix restart web-1",
		Args:              wants("ID..."),
		ValidArgsFunction: c.instanceIDs(true, liveStatuses...),
		RunE: c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			return each(ctx, args, func(ctx context.Context, id string) (*api.RestartInstanceResponse, error) {
				return cl.Instances.RestartInstance(ctx, &api.RestartInstanceRequest{InstanceId: id})
			}, func(id string, res *api.RestartInstanceResponse) error {
				if c.json() {
					return c.writeJSONLine(res)
				}
				_, err := fmt.Fprintln(c.out, id)
				return err
			})
		}),
	}
}
