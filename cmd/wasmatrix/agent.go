package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

// agentFlags maps the flags of the agent to the keys that they override.
var agentFlags = []struct {
	name, key, usage string
	values           []string // that can be completed
}{
	{"name", "name", "name of this agent in the cluster", nil},
	{"data-dir", "data_dir", "directory that is this agent's alone", nil},
	{"bind", "bind_addr", "IP address to listen on", nil},
	{"advertise", "advertise_addr", "address that others reach this agent at (default: that of -bind)", nil},
	{"bootstrap-expect", "server.bootstrap_expect", "form a new cluster when so many servers have met; 0 never forms one", nil},
	{"log-level", "log.level", "trace, debug, info, warn or error", []string{"trace", "debug", "info", "warn", "error"}},
	{"log-format", "log.format", "text or json", []string{"text", "json"}},
}

// agentRequest is what the command line asks of the agent.
type agentRequest struct {
	config      *config.Config
	dev         bool
	configPaths []string
	reload      <-chan os.Signal
}

func (c *cli) agentCommand() *cobra.Command {
	var (
		req          agentRequest
		join         []string
		server, node bool
	)
	cmd := &cobra.Command{
		Use:   "agent (-dev | -config FILE_OR_DIR...)",
		Short: "Run a server, a node, or both",
		Long: `Run an agent: a server, which keeps the state of the cluster and serves its API;
a node, which runs instances; or both, as two processes.

Values come from the defaults, the -config files and directories in order, the
environment (WASMATRIX_DATA_DIR for data_dir, WASMATRIX_SERVER_RAFT_HEARTBEAT
for server.raft.heartbeat, and so on), and flags, each overriding those before.
-dev is a cluster of one in a temporary directory, for trying things out.

SIGHUP reads the files again and takes over the log level. SIGTERM and Ctrl-C
make the agent leave in good order; a second one ends it at once.`,
		Example: `  wasmatrix agent -dev
  wasmatrix agent -config /etc/wasmatrix
  wasmatrix agent -node -name worker-1 -data-dir /var/lib/wasmatrix -join 10.0.0.1:7482`,
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&req.dev, "dev", false, "a server and a node on this machine, in a temporary directory")
	flags.StringArrayVar(&req.configPaths, "config", nil, "HCL file, or directory of *.hcl; may be repeated")
	flags.BoolVar(&server, "server", false, "be a server")
	flags.BoolVar(&node, "node", false, "be a node")
	for _, f := range agentFlags {
		flags.String(f.name, "", f.usage)
		if f.name != "data-dir" {
			completeFlag(cmd, f.name, cobra.FixedCompletions(f.values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	flags.StringSliceVar(&join, "join", nil, "gossip address of an agent of the cluster; may be repeated")
	_ = cmd.MarkFlagDirname("data-dir") // the flag is there
	completeFlag(cmd, "join", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// First of all, so that a SIGHUP does not end an agent that is starting.
		reload := make(chan os.Signal, 1)
		signal.Notify(reload, syscall.SIGHUP)
		defer signal.Stop(reload)
		req.reload = reload
		cfg, err := agentConfig(cmd.Flags(), req.dev, req.configPaths)
		if err != nil {
			return asUsage(err)
		}
		req.config = cfg
		return runAgent(cmd.Context(), req)
	}
	return cmd
}

// agentConfig reads the files and the environment, and overrides them with the flags.
func agentConfig(flags *pflag.FlagSet, dev bool, paths []string) (*config.Config, error) {
	cfg, err := config.Load(paths...)
	if err != nil {
		return nil, err
	}
	set := func(flag, key, text string) {
		err = errors.Join(err, cfg.Set(key, text, "-"+flag))
	}
	for _, f := range agentFlags {
		if flags.Changed(f.name) {
			set(f.name, f.key, flags.Lookup(f.name).Value.String())
		}
	}
	for _, role := range []string{"server", "node"} {
		if flags.Changed(role) {
			set(role, role+".enabled", flags.Lookup(role).Value.String())
		}
	}
	if list, _ := flags.GetStringSlice("join"); len(list) > 0 {
		set("join", "gossip.retry_join", strings.Join(list, ","))
	}
	if dev {
		set("dev", "server.enabled", "true")
		set("dev", "node.enabled", "true")
	}
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 && !cfg.Server.Enabled && !cfg.Node.Enabled {
		return nil, usagef("wasmatrix agent needs -dev, -config, -server or -node")
	}
	checked := cfg
	if dev && cfg.DataDir == "" {
		checked = cfg.Clone()
		checked.DataDir = os.TempDir() // the agent makes a directory in it
	}
	return cfg, checked.Validate()
}
