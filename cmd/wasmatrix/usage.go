package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wasmatrix/wasmatrix"
)

// usageError is a wrong command line or configuration: exit code 2.
type usageError struct{ err *wasmatrix.Error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError of code E1.
func usagef(format string, args ...any) error {
	return &usageError{wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, format, args...)}
}

// asUsage makes any error one about usage; one with a code keeps it.
func asUsage(err error) error {
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return &usageError{e}
	}
	return usagef("%s", firstLine(err.Error()))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// wants makes a check of positional arguments out of their names. The last may
// end in "..." (one or more) or "[...]" (any number); one in brackets is optional.
func wants(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		least, most := 0, len(names)
		for _, n := range names {
			switch {
			case strings.HasSuffix(n, "[...]"):
				most = -1
			case strings.HasSuffix(n, "..."):
				most = -1
				least++
			case !strings.HasPrefix(n, "["):
				least++
			}
		}
		if len(args) < least {
			return usagef("%s needs %s", cmd.CommandPath(), strings.TrimSuffix(names[len(args)], "..."))
		}
		if most >= 0 && len(args) > most {
			return usagef("%s takes no argument %q", cmd.CommandPath(), args[most])
		}
		return nil
	}
}

// normalize gives long flags that are written with one dash their second one,
// as in "agent -dev -config FILE", so that cobra does not take them for rows of
// short flags, and shields negative numbers where a command takes them. It leaves
// alone what follows "--" and what is the value of a flag, and reports a command
// that does not exist.
func normalize(root *cobra.Command, args []string) ([]string, error) {
	root.InitDefaultHelpCmd()
	root.InitDefaultVersionFlag()
	out := make([]string, 0, len(args))
	if len(args) > 1 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		// The last word is being typed; the others are a command line so far.
		last := len(args) - 1
		typed, err := normalize(root, args[1:last])
		if err != nil {
			typed = args[1:last]
		}
		return append(append(append(out, args[0]), typed...), args[last]), nil
	}
	cmd, atCommand := root, true
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			out = append(out, arg)
			if !atCommand || !cmd.HasSubCommands() {
				atCommand = false
				continue
			}
			sub := find(cmd, arg)
			if sub == nil {
				// What follows may ask for JSON.
				return append(out, args[i+1:]...), usagef("unknown command %q for %q%s", arg, cmd.CommandPath(), didYouMean(cmd, arg))
			}
			if sub.Name() == "help" {
				// Its arguments name a command, which is all that can be wrong with them.
				return append(out, args[i+1:]...), helpTopic(root, args[i+1:])
			}
			cmd, atCommand = sub, sub.HasSubCommands()
			continue
		}
		if isNegative(cmd, arg) {
			out = append(out, shield+arg)
			continue
		}
		flag, arg := flagOf(cmd, arg)
		out = append(out, arg)
		if flag != nil && flag.NoOptDefVal == "" && i+1 < len(args) && !strings.Contains(arg, "=") && takesNext(flag, arg) {
			i++
			out = append(out, args[i])
		}
	}
	return out, nil
}

// helpTopic reports a command that does not exist among the arguments of help.
func helpTopic(root *cobra.Command, args []string) error {
	cmd := root
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		sub := find(cmd, a)
		if sub == nil {
			return usagef("unknown command %q for %q%s", a, cmd.CommandPath(), didYouMean(cmd, a))
		}
		cmd = sub
	}
	return nil
}

// takesNext reports whether the flag as written has its value in the next word,
// rather than attached as in "-n5".
func takesNext(flag *pflag.Flag, arg string) bool { return arg == "--"+flag.Name || len(arg) == 2 }

// flagOf finds the flag that arg names, and writes arg as cobra wants it.
func flagOf(cmd *cobra.Command, arg string) (*pflag.Flag, string) {
	cmd.InitDefaultHelpFlag()
	lookup := func(name string) *pflag.Flag {
		if f := cmd.Flags().Lookup(name); f != nil {
			return f
		}
		return cmd.InheritedFlags().Lookup(name)
	}
	if name, ok := strings.CutPrefix(arg, "--"); ok {
		name, _, _ = strings.Cut(name, "=")
		return lookup(name), arg
	}
	name, _, _ := strings.Cut(arg[1:], "=")
	if len(name) > 1 {
		if f := lookup(name); f != nil {
			return f, "-" + arg
		}
	}
	// Of a row of short flags only the last can take a value.
	last := arg[len(arg)-1:]
	if f := cmd.Flags().ShorthandLookup(last); f != nil {
		return f, arg
	}
	return cmd.InheritedFlags().ShorthandLookup(last), arg
}

func find(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name || sub.HasAlias(name) {
			return sub
		}
	}
	return nil
}

func didYouMean(cmd *cobra.Command, typed string) string {
	cmd.SuggestionsMinimumDistance = 2
	names := cmd.SuggestionsFor(typed)
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", names[0])
}
