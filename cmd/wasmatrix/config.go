package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

func (c *cli) configCommand() *cobra.Command {
	return group("config", "Check configuration files",
		"Commands about the configuration of agents. config.hcl.example documents every key.", c.configValidateCommand())
}

func (c *cli) configValidateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE_OR_DIR...",
		Short: "Say whether an agent would accept a configuration",
		Long: `Read configuration files as "wasmatrix agent -config" does: in order, a later
file overriding an earlier one, and the environment overriding all. Print "ok",
or every problem with its file and line.`,
		Example: "  wasmatrix config validate /etc/wasmatrix/agent.hcl",
		Args:    wants("FILE_OR_DIR..."),
		RunE: func(_ *cobra.Command, args []string) error {
			var problems []error
			for _, p := range config.Problems(args...) {
				problems = append(problems, &usageError{p})
			}
			if len(problems) > 0 {
				return errors.Join(problems...)
			}
			if c.json() {
				return c.writeIndented([]byte(`{"ok":true}`))
			}
			_, err := fmt.Fprintln(c.out, "ok")
			return err
		},
	}
}
