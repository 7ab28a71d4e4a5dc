package main

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) providerUpdateCommand() *cobra.Command {
	var config []string
	var revision uint64
	req := &api.UpdateProviderRequest{}
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change a provider's configuration or where it is hosted",
		Long: `Change what is given of a provider, and leave the rest as it is. Calls that begin
after it are carried out by the provider as it is then.

` + configHelp + `

Where --revision says what the provider must be at, somebody else's update in between
is CONFLICT, and changes nothing.`,
		Example: `  wasmatrix provider update kv --config max_keys=500000
  wasmatrix provider update outside --config timeout=10s --unset allow_hosts --constraint zone=dmz
  wasmatrix provider update big --config url=@redis-url.txt --revision 3`,
		Args:              wantsProvider,
		ValidArgsFunction: once(false, c.providerIDs()),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&config, "config", nil, "configuration KEY=VALUE or KEY=@FILE; may be repeated")
	f.StringArrayVar(&req.Unset, "unset", nil, "configuration key that returns to its default; may be repeated")
	f.StringArrayVar(&req.Constraints, "constraint", nil, "condition on the labels of the nodes that host it, in place of those that it has; may be repeated")
	f.BoolVar(&req.Everywhere, "everywhere", false, "host it on every node")
	f.Uint64Var(&revision, "revision", 0, "revision that it must have (default: any)")
	for _, name := range []string{"config", "constraint", "revision"} {
		completeFlag(cmd, name, cobra.NoFileCompletions)
	}
	completeFlag(cmd, "unset", c.configKeys())
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if f.Changed("revision") {
			req.Revision = &revision
		}
		if req.Config, err = c.parseConfig(config); err != nil {
			return err
		}
		if err := checkUpdate(req); err != nil {
			return err
		}
		return c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			req.ProviderId = args[0]
			res, err := cl.Providers.UpdateProvider(ctx, req)
			if err != nil {
				return err
			}
			return c.showProviders(res, res.GetProvider())
		})(cmd, args)
	}
	return cmd
}

// checkUpdate checks what can be without knowing the provider.
func checkUpdate(req *api.UpdateProviderRequest) error {
	if len(req.GetConfig())+len(req.GetUnset())+len(req.GetConstraints()) == 0 && !req.GetEverywhere() {
		return usagef("nothing to change: give --config, --unset, --constraint or --everywhere")
	}
	if req.GetEverywhere() && len(req.GetConstraints()) > 0 {
		return usagef("--everywhere and --constraint exclude each other")
	}
	if err := checkConstraints(req.GetConstraints()); err != nil {
		return err
	}
	for _, k := range req.GetUnset() {
		if _, both := req.GetConfig()[k]; both {
			return usagef("--unset: %q is set by --config", k)
		}
	}
	return nil
}

// configKeys completes the keys of a provider's configuration.
func (c *cli) configKeys() cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c.ask(func(ctx context.Context, cl *client.Client) ([]string, error) {
			res, err := cl.Providers.GetProvider(ctx, &api.GetProviderRequest{ProviderId: args[0], Stale: true})
			return slices.Sorted(maps.Keys(res.GetProvider().GetConfig())), err
		})(cmd, args, typed)
	}
}
