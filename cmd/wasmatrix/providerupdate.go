package main

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// providerChange is what an update changes of a provider. The rest stays.
type providerChange struct {
	config      []string // as given
	set         map[string]string
	unset       []string
	constraints []string // in place of those that there are
	everywhere  bool     // in place of those that there are: none
	revision    uint64
	pinned      bool // to the revision
}

func (c *cli) providerUpdateCommand() *cobra.Command {
	var change providerChange
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change a provider's configuration or where it is hosted",
		Long: `Change what is given of a provider, and leave the rest as it is. Calls that begin
after it are carried out by the provider as it is then.

` + configHelp + `

The password of a URL is not shown to anybody, and so cannot be kept either: where
the provider has one, give the URL again with every update. Somebody else's update
in between is CONFLICT, and changes nothing.`,
		Example: `  wasmatrix provider update kv --config max_keys=500000
  wasmatrix provider update outside --config timeout=10s --unset allow_hosts --constraint zone=dmz
  wasmatrix provider update big --config max_keys=2000000 --config url=@redis-url.txt --revision 3`,
		Args:              wantsProvider,
		ValidArgsFunction: once(false, c.providerIDs()),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&change.config, "config", nil, "configuration KEY=VALUE or KEY=@FILE; may be repeated")
	f.StringArrayVar(&change.unset, "unset", nil, "configuration key that returns to its default; may be repeated")
	f.StringArrayVar(&change.constraints, "constraint", nil, "condition on the labels of the nodes that host it, in place of those that it has; may be repeated")
	f.BoolVar(&change.everywhere, "everywhere", false, "host it on every node")
	f.Uint64Var(&change.revision, "revision", 0, "revision that it must have (default: the one that is read)")
	for _, name := range []string{"config", "constraint", "revision"} {
		completeFlag(cmd, name, cobra.NoFileCompletions)
	}
	completeFlag(cmd, "unset", c.configKeys())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		change.pinned = f.Changed("revision")
		if err := c.checkChange(&change); err != nil {
			return err
		}
		return c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			now, err := cl.Providers.GetProvider(ctx, &api.GetProviderRequest{ProviderId: args[0]})
			if err != nil {
				return err
			}
			req, err := change.of(now.GetProvider())
			if err != nil {
				return err
			}
			res, err := cl.Providers.UpdateProvider(ctx, req)
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			return c.writeTable(c.providerTable(res.GetProvider()))
		})(cmd, args)
	}
	return cmd
}

// checkChange checks what can be without knowing the provider.
func (c *cli) checkChange(change *providerChange) error {
	if len(change.config)+len(change.unset)+len(change.constraints) == 0 && !change.everywhere {
		return usagef("nothing to change: give --config, --unset, --constraint or --everywhere")
	}
	if change.everywhere && len(change.constraints) > 0 {
		return usagef("--everywhere and --constraint exclude each other")
	}
	if err := checkConstraints(change.constraints); err != nil {
		return err
	}
	var err error
	if change.set, err = c.parseConfig(change.config); err != nil {
		return err
	}
	for _, k := range change.unset {
		if _, both := change.set[k]; both {
			return usagef("--unset: %q is set by --config", k)
		}
	}
	return nil
}

// of makes the request that changes p, from the revision that p has.
func (change *providerChange) of(p *api.Provider) (*api.UpdateProviderRequest, error) {
	if change.pinned && change.revision != p.GetRevision() {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q has revision %d, not %d", p.GetProviderId(), p.GetRevision(), change.revision)
	}
	req := &api.UpdateProviderRequest{
		ProviderId: p.GetProviderId(), Config: map[string]string{}, Constraints: p.GetConstraints(), Revision: p.GetRevision(),
	}
	maps.Copy(req.Config, p.GetConfig())
	for _, k := range change.unset {
		if _, ok := req.Config[k]; !ok {
			return nil, usagef("--unset: provider %q has no %q in its configuration", p.GetProviderId(), k)
		}
		delete(req.Config, k)
	}
	maps.Copy(req.Config, change.set)
	for _, k := range slices.Sorted(maps.Keys(req.Config)) {
		if isRedacted(req.Config[k]) {
			return nil, usagef("the password of %s is not known here, and would be lost: give it again with --config %s=URL, or --config %s=@FILE", k, k, k)
		}
	}
	if change.everywhere || len(change.constraints) > 0 {
		req.Constraints = change.constraints
	}
	if err := checkProvider(p.GetProviderId(), p.GetType(), req.GetConfig()); err != nil {
		return nil, asUsage(err)
	}
	return req, nil
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
