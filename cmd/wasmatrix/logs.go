package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) logsCommand() *cobra.Command {
	var (
		follow, stdout, stderr bool
		tail                   uint32
	)
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Show the output of an instance",
		Long: `Show what the node of an instance still has of its output; with --follow go on
until the instance has ended for good.

The instance's stdout goes to stdout and its stderr to stderr. Nodes keep a
bounded amount of each instance's output in memory: what was dropped before the
first piece is said on stderr.`,
		Example:           "  wasmatrix logs web-1\n  wasmatrix logs -f --tail 20 web-1\n  wasmatrix logs --stderr web-1 2> errors.txt",
		Args:              wants("ID"),
		ValidArgsFunction: c.instanceIDs(false),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVarP(&follow, "follow", "f", false, "go on until the instance has ended for good")
	flags.Uint32VarP(&tail, "tail", "n", 0, "only the last so many lines of what there is (0 is all)")
	flags.BoolVar(&stdout, "stdout", false, "only stdout")
	flags.BoolVar(&stderr, "stderr", false, "only stderr")
	completeFlag(cmd, "tail", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req := &api.StreamLogsRequest{InstanceId: args[0], Follow: follow, TailLines: tail}
		switch {
		case stdout && stderr:
			return usagef("--stdout and --stderr exclude each other; without either there are both")
		case stdout:
			req.Stream = api.LogStream_LOG_STREAM_STDOUT
		case stderr:
			req.Stream = api.LogStream_LOG_STREAM_STDERR
		}
		return c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			return c.logs(ctx, cl, req)
		})(cmd, args)
	}
	return cmd
}

func (c *cli) logs(ctx context.Context, cl *client.Client, req *api.StreamLogsRequest) error {
	err := c.showLogs(ctx, cl, req)
	if req.GetFollow() && ctx.Err() != nil {
		return nil //nolint:nilerr // Ctrl-C is how one ends this
	}
	return err
}

func (c *cli) showLogs(ctx context.Context, cl *client.Client, req *api.StreamLogsRequest) error {
	stream, err := cl.Instances.StreamLogs(ctx, req)
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if err := c.logPiece(stream.Msg()); err != nil {
			return err
		}
	}
	return stream.Err()
}

func (c *cli) logPiece(piece *api.StreamLogsResponse) error {
	if c.json() {
		return c.writeJSONLine(piece)
	}
	if n := piece.GetDropped(); n > 0 {
		fmt.Fprintf(c.err, "[%s of output dropped]\n", wasmatrix.FormatBytes(n))
	}
	to := c.out
	if piece.GetStream() == api.LogStream_LOG_STREAM_STDERR {
		to = c.err
	}
	_, err := to.Write(piece.GetData())
	return err
}
