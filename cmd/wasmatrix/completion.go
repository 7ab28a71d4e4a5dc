package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Write a shell's completion script",
		Long: `Write the script that completes wasmatrix's commands, flags and the IDs of
instances, modules, providers and nodes, which it asks the server for.`,
		Example: `  source <(wasmatrix completion bash)
  wasmatrix completion zsh > "${fpath[1]}/_wasmatrix"
  wasmatrix completion fish > ~/.config/fish/completions/wasmatrix.fish
  wasmatrix completion powershell | Out-String | Invoke-Expression`,
		Args:              wants("SHELL"),
		ValidArgsFunction: cobra.FixedCompletions(shells, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.out, true)
			case "zsh":
				return root.GenZshCompletion(c.out)
			case "fish":
				return root.GenFishCompletion(c.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(c.out)
			default:
				return usagef("unknown shell %q: bash, zsh, fish or powershell", args[0])
			}
		},
	}
}

// completionPatience bounds the question to the server: a shell waits for it.
const completionPatience = 700 * time.Millisecond

// maxCompletions bounds what is shown of a large cluster.
const maxCompletions = 200

// ask makes a completion function out of a question to the server. When it is
// not answered in time there is nothing to propose.
func (c *cli) ask(question func(context.Context, *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		cl, err := c.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		found, err := question(ctx, cl)
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found = slices.DeleteFunc(found, func(s string) bool { return !strings.HasPrefix(s, typed) })
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// instanceIDs completes the first argument, or every one where many is true.
func (c *cli) instanceIDs(many bool, statuses ...api.InstanceStatus) cobra.CompletionFunc {
	return once(many, c.ask(func(ctx context.Context, cl *client.Client) ([]string, error) {
		res, err := cl.Instances.ListInstances(ctx, &api.ListInstancesRequest{
			ReadMode: api.ReadMode_READ_MODE_STALE, Statuses: statuses, PageSize: maxCompletions,
		})
		var ids []string
		for _, i := range res.GetInstances() {
			ids = append(ids, cobra.CompletionWithDesc(i.GetInstanceId(), statusText(i.GetStatus())))
		}
		return ids, err
	}))
}

func (c *cli) nodeIDs() cobra.CompletionFunc {
	return c.ask(func(ctx context.Context, cl *client.Client) ([]string, error) {
		res, err := cl.Nodes.ListNodes(ctx, &api.ListNodesRequest{Stale: true})
		var ids []string
		for _, n := range res.GetNodes() {
			ids = append(ids, cobra.CompletionWithDesc(n.GetNodeId(), n.GetStatus()))
		}
		return ids, err
	})
}

// modules completes names and digests.
func (c *cli) modules() cobra.CompletionFunc {
	return c.ask(func(ctx context.Context, cl *client.Client) ([]string, error) {
		res, err := cl.Modules.ListModules(ctx, &api.ListModulesRequest{Stale: true})
		var ids []string
		for _, m := range res.GetModules() {
			ids = append(ids, m.GetNames()...)
			ids = append(ids, cobra.CompletionWithDesc(m.GetDigest(), m.GetKind()))
		}
		return ids, err
	})
}

// once completes only the first argument, unless many is true.
func once(many bool, f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && !many {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(cmd, args, typed)
	}
}

// andFiles adds the files that the shell completes by itself.
func andFiles(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		found, _ := f(cmd, args, typed)
		return found, cobra.ShellCompDirectiveDefault
	}
}

// completeFlag says how the value of a flag is completed.
func completeFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag does not exist
	}
}
