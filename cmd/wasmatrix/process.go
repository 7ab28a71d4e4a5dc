package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/agent"
)

// runAgent runs an agent until ctx ends.
var runAgent = func(ctx context.Context, req agentRequest) error {
	return agent.Run(ctx, req.config, agent.Options{Dev: req.dev, ConfigPaths: req.configPaths, Reload: req.reload})
}

// hiddenCommands are those that only this program itself calls.
func (c *cli) hiddenCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:    agent.ChildVerb,
		Short:  "Run the node of a machine whose server started this process",
		Hidden: true,
		Args:   wants(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			return agent.RunChild(cmd.Context(), os.Stdin, reload)
		},
	}}
}
