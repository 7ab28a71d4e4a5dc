package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// usage writes how a command is used. It is cobra's own but for one thing: a command
// that only holds others cannot be run by itself, and does not look as if.
//
// It is not a template, nor is any other text of the commands: whoever executes one
// makes the linker keep every exported method of every type, which is a quarter of the
// program.
func usage(cmd *cobra.Command) error {
	w := &strings.Builder{}
	w.WriteString("Usage:")
	if cmd.Runnable() && !cmd.HasSubCommands() {
		fmt.Fprintf(w, "\n  %s", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\n  %s [command]", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\n\nExamples:\n%s", cmd.Example)
	}
	for _, g := range cmd.Groups() {
		usageOfCommands(w, g.Title, cmd, g.ID)
	}
	switch {
	case !cmd.HasAvailableSubCommands():
	case len(cmd.Groups()) == 0:
		usageOfCommands(w, "Available Commands:", cmd, "")
	case !cmd.AllChildCommandsHaveGroup():
		usageOfCommands(w, "Additional Commands:", cmd, "")
	}
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(w, "\n\nFlags:\n%s", strings.TrimRight(cmd.LocalFlags().FlagUsages(), " \n"))
	}
	if cmd.HasAvailableInheritedFlags() {
		fmt.Fprintf(w, "\n\nGlobal Flags:\n%s", strings.TrimRight(cmd.InheritedFlags().FlagUsages(), " \n"))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\n\nUse %q for more information about a command.", cmd.CommandPath()+" [command] --help")
	}
	w.WriteString("\n")
	_, err := io.WriteString(cmd.OutOrStderr(), w.String())
	return err
}

// usageOfCommands lists those of a group.
func usageOfCommands(w io.Writer, title string, cmd *cobra.Command, group string) {
	fmt.Fprintf(w, "\n\n%s", title)
	for _, sub := range cmd.Commands() {
		if sub.GroupID == group && (sub.IsAvailableCommand() || sub.Name() == "help") {
			fmt.Fprintf(w, "\n  %-*s %s", sub.NamePadding(), sub.Name(), sub.Short)
		}
	}
}
