package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// runAgent runs an agent until ctx ends.
var runAgent = func(context.Context, agentRequest) error {
	return errors.New("this build has no agent")
}

// hiddenCommands are those that only this program itself calls.
func (c *cli) hiddenCommands() []*cobra.Command { return nil }
