package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) providerCommand() *cobra.Command {
	return group("provider", "Start, stop and change capability providers",
		`A provider carries out the capability calls of instances, and lives apart from
them. The default ones, kv, http and messaging, are there from the start. More can
be started beside them, with a configuration of their own, on the nodes that
constraints select; an assignment names the one that it is for.`,
		c.providerStartCommand(), c.providerStopCommand(), c.providerUpdateCommand(), c.providerRmCommand(),
		c.providerLsCommand(), c.providerInspectCommand())
}

// configHelp says how configuration is given.
const configHelp = `Configuration is KEY=VALUE; a value @FILE is read from a file, and @- from standard
input, so that a password need not be in the command line:

  kv         url (redis://, rediss://; default: embedded), max_keys, max_bytes,
             max_value
  http       allow_hosts, allow_addresses, timeout, max_request, max_response,
             max_redirects, max_connections, send_identity, send_trace
  messaging  url (nats://, tls://; default: embedded), max_message, max_pending,
             max_pending_bytes`

func (c *cli) providerStartCommand() *cobra.Command {
	var typ string
	var config, constraints []string
	cmd := &cobra.Command{
		Use:   "start NAME",
		Short: "Make a provider, or start one that is stopped",
		Long: `Make a provider of a type, or start one that is stopped: by its name alone, as it
was, or with all that it has.

` + configHelp + `

Without a constraint it is hosted by every node.`,
		Example: `  wasmatrix provider start big --type kv --config url=redis://10.0.0.9:6379/0 --config max_keys=1000000
  wasmatrix provider start outside --type http --config 'allow_hosts=*.example.com' --constraint zone=dmz
  wasmatrix provider start bus --type messaging --config url=@nats-url.txt
  wasmatrix provider start kv`,
		Args:              wants("NAME"),
		ValidArgsFunction: once(false, c.providerIDs()),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&typ, "type", "", "type: kv, http or messaging")
	f.StringArrayVar(&config, "config", nil, "configuration KEY=VALUE or KEY=@FILE; may be repeated")
	f.StringArrayVar(&constraints, "constraint", nil, "condition on the labels of the nodes that host it; may be repeated, and all must hold")
	completeFlag(cmd, "type", cobra.FixedCompletions(typeNames(), cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "config", cobra.NoFileCompletions)
	completeFlag(cmd, "constraint", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := c.startProvider(args[0], typ, config, constraints)
		if err != nil {
			return err
		}
		return c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			res, err := cl.Providers.StartProvider(ctx, req)
			if err != nil {
				return err
			}
			return c.showProviders(res, res.GetProvider())
		})(cmd, args)
	}
	return cmd
}

// startProvider checks what start was given as the servers will.
func (c *cli) startProvider(name, typ string, config, constraints []string) (*api.StartProviderRequest, error) {
	req := &api.StartProviderRequest{ProviderId: name, Type: typ, Constraints: constraints}
	if err := wasmatrix.ProviderID(name).Validate(); err != nil {
		return nil, asUsage(err)
	}
	if err := checkConstraints(constraints); err != nil {
		return nil, err
	}
	var err error
	if req.Config, err = c.parseConfig(config); err != nil {
		return nil, err
	}
	if typ == "" && len(config)+len(constraints) == 0 {
		return req, nil // one that is stopped is to go on as it was
	}
	if typ == "" && slices.Contains(typeNames(), name) {
		req.Type = name
	}
	if req.Type == "" {
		return nil, usagef("no --type given: kv, http or messaging")
	}
	if err := checkProvider(name, req.GetType(), req.GetConfig()); err != nil {
		return nil, asUsage(err)
	}
	return req, nil
}

func (c *cli) providerStopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop a provider",
		Long: `Stop a provider. It is kept, with its configuration; calls get
PROVIDER_UNAVAILABLE until it is started again, and instances go on.`,
		Example:           "  wasmatrix provider stop outside",
		Args:              wantsProvider,
		ValidArgsFunction: once(false, c.providerIDs()),
		RunE: c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			res, err := cl.Providers.StopProvider(ctx, &api.StopProviderRequest{ProviderId: args[0]})
			if err != nil {
				return err
			}
			return c.showProviders(res, res.GetProvider())
		}),
	}
}

func (c *cli) providerRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Forget a provider that is stopped",
		Long: `Forget a provider that is stopped, and that no instance which has not ended has a
capability for. A default one returns to what it was at first, started and without
configuration, whoever uses it. Data that it keeps elsewhere, as in Redis, stays
there.`,
		Example:           "  wasmatrix provider rm outside",
		Args:              wantsProvider,
		ValidArgsFunction: once(false, c.providerIDs()),
		RunE: c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			res, err := cl.Providers.RemoveProvider(ctx, &api.RemoveProviderRequest{ProviderId: args[0]})
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			_, err = fmt.Fprintln(c.out, args[0])
			return err
		}),
	}
}

func (c *cli) providerLsCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:               "ls",
		Short:             "List providers",
		Long:              "List providers. Passwords in URLs are not shown.",
		Example:           "  wasmatrix provider ls",
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
		res, err := cl.Providers.ListProviders(ctx, &api.ListProvidersRequest{Stale: stale})
		if err != nil {
			return err
		}
		return c.showProviders(res, res.GetProviders()...)
	})
	return cmd
}

func (c *cli) providerInspectCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Show a provider in full",
		Long: `Show a provider, the nodes that host it now, and how many capabilities of
instances that have not ended are for it. Passwords in URLs are not shown.`,
		Example:           "  wasmatrix provider inspect kv",
		Args:              wantsProvider,
		ValidArgsFunction: once(false, c.providerIDs()),
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, args []string) error {
		res, err := cl.Providers.GetProvider(ctx, &api.GetProviderRequest{ProviderId: args[0], Stale: stale})
		if err != nil {
			return err
		}
		if c.json() {
			return c.writeJSON(res)
		}
		p := res.GetProvider()
		f := &fields{}
		f.add("Provider", p.GetProviderId())
		f.add("Type", p.GetType())
		f.add("Status", providerStatus(p))
		f.add("Revision", count(p.GetRevision()))
		f.add("Changed", moment(p.GetChangedAt()))
		f.list("Configuration", assignments(p.GetConfig()))
		f.list("Hosted by", hostedBy(p))
		f.list("Nodes now", orNone(res.GetNodes()))
		f.add("Capabilities", count(res.GetAssignments()))
		return f.write(c.out)
	})
	return cmd
}

// wantsProvider wants the name of one provider.
func wantsProvider(cmd *cobra.Command, args []string) error {
	if err := wants("NAME")(cmd, args); err != nil {
		return err
	}
	return wasmatrix.ProviderID(args[0]).Validate()
}

// showProviders prints a response, or the providers that it has as a table.
func (c *cli) showProviders(res proto.Message, providers ...*api.Provider) error {
	if c.json() {
		return c.writeJSON(res)
	}
	return c.writeTable(c.providerTable(providers...))
}

func (c *cli) providerTable(providers ...*api.Provider) *table {
	t := newTable("PROVIDER", "TYPE", "STATUS", "REVISION", "HOSTED BY", "CONFIGURATION", "CHANGED")
	for _, p := range providers {
		t.add(p.GetProviderId(), p.GetType(), providerStatus(p), count(p.GetRevision()), strings.Join(hostedBy(p), "; "),
			dash(strings.Join(assignments(p.GetConfig()), " ")), c.since(p.GetChangedAt()))
	}
	return t
}

func providerStatus(p *api.Provider) string {
	if p.GetStopped() {
		return "stopped"
	}
	return "running"
}

// hostedBy says which nodes host a provider.
func hostedBy(p *api.Provider) []string {
	if len(p.GetConstraints()) == 0 {
		return []string{"every node"}
	}
	return p.GetConstraints()
}

func orNone(values []string) []string {
	if len(values) == 0 {
		return []string{"none"}
	}
	return values
}

func (c *cli) providerIDs() cobra.CompletionFunc {
	return c.ask(func(ctx context.Context, cl *client.Client) ([]string, error) {
		res, err := cl.Providers.ListProviders(ctx, &api.ListProvidersRequest{Stale: true})
		var ids []string
		for _, p := range res.GetProviders() {
			ids = append(ids, cobra.CompletionWithDesc(p.GetProviderId(), p.GetType()+", "+providerStatus(p)))
		}
		return ids, err
	})
}
