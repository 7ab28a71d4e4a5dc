package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

const (
	envAddr     = "WASMATRIX_ADDR"
	defaultAddr = "http://127.0.0.1:7480"
)

// cli is one run of the command line: where it reads and writes, and the flags
// that all commands have.
type cli struct {
	in       io.Reader
	out, err io.Writer
	inTTY    bool // a person can be asked
	errTTY   bool // progress can be shown
	color    bool // of what goes to out
	now      func() time.Time

	addrs    []string
	output   string
	retryFor time.Duration
	started  bool // the command line was right, and a command runs
}

const (
	outputTable = "table"
	outputJSON  = "json"
)

func newCLI(in, out, errw *os.File) *cli {
	isTTY := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	dumb := os.Getenv("TERM") == "dumb"
	return &cli{
		in: in, out: out, err: errw,
		inTTY: isTTY(in), errTTY: isTTY(errw) && !dumb,
		color: isTTY(out) && !dumb && os.Getenv("NO_COLOR") == "",
		now:   time.Now,
	}
}

// run executes a command line, without the program's name, and returns the exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	root := c.rootCommand()
	args, err := normalize(root, args)
	if err == nil {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	if !c.started { // cobra's own errors are all about usage
		err = asUsage(err)
	}
	return c.report(err, args)
}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "wasmatrix",
		Short: "Run WebAssembly instances on a cluster",
		Long: `wasmatrix runs WebAssembly instances on a cluster of machines.

"wasmatrix agent -dev" starts a cluster of one on this machine. All other
commands speak to the server that --addr or WASMATRIX_ADDR names.

Long flags may be written with one dash or two. Exit codes: 0 done, 1 the
operation failed, 2 wrong usage or configuration.`,
		Example: `  wasmatrix agent -dev
  wasmatrix run hello.wasm --restart on_failure -- one two
  wasmatrix ps
  wasmatrix logs -f INSTANCE`,
		Version:           wasmatrix.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if c.output != outputTable && c.output != outputJSON {
				return usagef("unknown output format %q: table or json", c.output)
			}
			c.started = true
			return nil
		},
	}
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetUsageFunc(usage)
	flags := root.PersistentFlags()
	flags.StringSliceVar(&c.addrs, "addr", nil, "servers to speak to (default $WASMATRIX_ADDR, or "+defaultAddr+")")
	flags.StringVarP(&c.output, "output", "o", outputTable, "output format: table or json")
	flags.DurationVar(&c.retryFor, "retry-for", 5*time.Second, "how long to go on trying while no server answers or none leads")
	completeFlag(root, "output", cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(root, "addr", cobra.NoFileCompletions)
	completeFlag(root, "retry-for", cobra.NoFileCompletions)

	root.AddGroup(
		&cobra.Group{ID: "instances", Title: "Instances:"},
		&cobra.Group{ID: "cluster", Title: "Modules and cluster:"},
		&cobra.Group{ID: "agent", Title: "This machine:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("instances", c.runCommand(), c.psCommand(), c.inspectCommand(), c.capCommand(), c.stopCommand(), c.restartCommand(),
		c.invokeCommand(), c.logsCommand(), c.eventsCommand(), c.crashesCommand())
	add("cluster", c.moduleCommand(), c.providerCommand(), c.nodeCommand(), c.clusterCommand())
	add("agent", c.agentCommand(), c.configCommand(), c.completionCommand(), c.versionCommand())
	root.AddCommand(c.hiddenCommands()...)
	root.SetHelpCommandGroupID("agent")
	needsCommand(root)
	return root
}

// needsCommand makes a command that only holds others complain when none is given.
func needsCommand(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		fmt.Fprint(cmd.ErrOrStderr(), cmd.UsageString())
		return usagef("%s needs a command", cmd.CommandPath())
	}
}

// group makes a command that only holds others.
func group(use, short, long string, cmds ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long}
	cmd.AddCommand(cmds...)
	needsCommand(cmd)
	return cmd
}

// connect makes a client of the servers that the flag, the environment or the
// default names. The caller closes it.
func (c *cli) connect() (*client.Client, error) {
	addrs, from := c.servers()
	for _, a := range addrs {
		if _, err := client.ParseAddr(a); err != nil {
			return nil, usagef("%s: %s", from, wasmatrix.AsError(err).Message)
		}
	}
	retryFor := c.retryFor
	if retryFor <= 0 {
		retryFor = -1 // what the client takes for never
	}
	return client.New(client.Config{Addrs: addrs, RetryFor: retryFor})
}

// servers are those to speak to, and what named them; "" is the default.
func (c *cli) servers() (addrs []string, from string) {
	if len(c.addrs) > 0 {
		return c.addrs, "--addr"
	}
	if addrs := splitCommas(os.Getenv(envAddr)); len(addrs) > 0 {
		return addrs, envAddr
	}
	return []string{defaultAddr}, ""
}

// call is a command's body that needs a client.
func (c *cli) call(body func(ctx context.Context, cl *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cl, err := c.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		err = body(cmd.Context(), cl, args)
		if cmd.Context().Err() != nil && err != nil && wasmatrix.CodeOf(err) != wasmatrix.CodeTimeout {
			err = wasmatrix.Errorf(wasmatrix.CodeTimeout, "interrupted").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
		}
		return c.hint(err)
	}
}

// hint tells somebody who named no server, where none is, how to.
func (c *cli) hint(err error) error {
	e, ok := errors.AsType[*wasmatrix.Error](err)
	if _, from := c.servers(); !ok || from != "" || e.Code != wasmatrix.CodeCommunication || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeNone {
		return err
	}
	return e.With("hint", "name a server with --addr or "+envAddr+", or start one with \"wasmatrix agent -dev\"")
}

// json reports whether the user asked for JSON.
func (c *cli) json() bool { return c.output == outputJSON }

func splitCommas(s string) []string {
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return slices.DeleteFunc(parts, func(p string) bool { return p == "" })
}
