package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) capCommand() *cobra.Command {
	return group("cap", "Assign, revoke and list capabilities",
		`A capability gives one instance the use of a provider: a store of keys (kv),
requests to servers (http), or messages (messaging). Without one the instance can
do nothing outside of its own memory. It calls a capability by the ID that it
has here, and may do what the permissions allow:

  kv         kv:read, kv:write, kv:delete, each also with a prefix of keys, as
             kv:read:users/
  http       http:request, http:domain:HOST, http:domain:*.HOST
  messaging  msg:publish, msg:subscribe, each also with a topic, as
             msg:publish:orders.>

What is assigned or revoked here holds for the instance as it runs.`,
		c.capAssignCommand(), c.capRevokeCommand(), c.capLsCommand())
}

func (c *cli) capAssignCommand() *cobra.Command {
	req := &api.AssignCapabilityRequest{}
	var permissions []string
	cmd := &cobra.Command{
		Use:   "assign ID CAP --type TYPE --permissions PERMISSION,...",
		Short: "Give an instance a capability",
		Long: `Give an instance a capability under the ID CAP, or change the one that it has
under this ID: the new permissions take the place of the old ones.

A namespace of kv is shared by all capabilities that name it, of whichever
instances; without one, the instance has a namespace of its own, which is gone
with its record.`,
		Example: `  wasmatrix cap assign web-1 store --type kv --permissions kv:read,kv:write
  wasmatrix cap assign web-1 visits --type kv --permissions kv:read:web/ --namespace visits --stale
  wasmatrix cap assign web-1 api --type http --permissions 'http:domain:*.example.com' --provider outside`,
		Args:              wants("ID", "CAP"),
		ValidArgsFunction: c.capabilityIDs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&req.Type, "type", "", "type of the capability: kv, http or messaging")
	f.StringArrayVar(&permissions, "permissions", nil, "what it allows, with commas between; may be repeated")
	f.StringVar(&req.Provider, "provider", "", "provider that carries the calls out (default: that of the type)")
	f.StringVar(&req.Namespace, "namespace", "", "of kv: the namespace that calls reach (default: the instance's own)")
	f.BoolVar(&req.Stale, "stale", false, "of kv: reads may be answered from a state that lags")
	completeFlag(cmd, "type", cobra.FixedCompletions(typeNames(), cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "permissions", completePermissions)
	completeFlag(cmd, "provider", c.providerIDs())
	completeFlag(cmd, "namespace", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req.InstanceId, req.CapabilityId = args[0], args[1]
		for _, list := range permissions {
			req.Permissions = append(req.Permissions, strings.Split(list, ",")...)
		}
		switch {
		case req.GetType() == "":
			return usagef("no --type given: kv, http or messaging")
		case len(req.GetPermissions()) == 0:
			return usagef("no --permissions given")
		}
		if err := checkGrant(args[0], args[1], req); err != nil {
			return asUsage(err)
		}
		return c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			res, err := cl.Capabilities.AssignCapability(ctx, req)
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			return c.writeTable(c.capabilityTable(res.GetCapability()))
		})(cmd, args)
	}
	return cmd
}

// completePermissions completes the last of a list of permissions, of the type
// that was given if one was.
func completePermissions(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	before := typed[:strings.LastIndex(typed, ",")+1]
	typ, _ := cmd.Flags().GetString("type")
	var found []string
	for _, t := range wasmatrix.ProviderTypes {
		if typ != "" && typ != string(t) {
			continue
		}
		_, list, _ := strings.Cut(everything[t], ":")
		for p := range strings.SplitSeq(list, ",") {
			found = append(found, before+p)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func (c *cli) capRevokeCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "revoke ID CAP",
		Short: "Take a capability from an instance",
		Long: `Take a capability from an instance, and wait until its node has confirmed it. Once
this has succeeded, no call under the capability does: not on any node, nor one
that was under way. Where the node cannot be reached, that is so once its lease
has run out.

A revocation stands when the wait for it has timed out.`,
		Example: `  wasmatrix cap revoke web-1 store
  wasmatrix cap revoke web-1 store --timeout 5s`,
		Args:              wants("ID", "CAP"),
		ValidArgsFunction: c.capabilityIDs(),
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the node of the instance")
	completeFlag(cmd, "timeout", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := wasmatrix.InstanceID(args[0]).Validate(); err != nil {
			return asUsage(err)
		}
		if err := wasmatrix.CapabilityID(args[1]).Validate(); err != nil {
			return asUsage(err)
		}
		if timeout <= 0 {
			return usagef("--timeout: %s is not more than 0", timeout)
		}
		return c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			res, err := cl.Capabilities.RevokeCapability(ctx, &api.RevokeCapabilityRequest{
				InstanceId: args[0], CapabilityId: args[1], Timeout: durationpb.New(timeout),
			})
			if err != nil {
				return unconfirmed(err, args[0], args[1])
			}
			if c.json() {
				return c.writeJSON(res)
			}
			_, err = fmt.Fprintln(c.out, args[1])
			return err
		})(cmd, args)
	}
	return cmd
}

// unconfirmed says of a revocation that stands, and that its node has not
// confirmed, just that.
func unconfirmed(err error, instance, id string) error {
	e := wasmatrix.AsError(err)
	if e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeCommitted {
		return err
	}
	node := "its node"
	if n := e.Details["node"]; n != "" {
		node = "node " + n
	}
	said := *e
	said.Message = fmt.Sprintf("capability %s of instance %s is revoked, and that stands, but %s has not confirmed it: "+
		"until it does, or its lease has run out, calls there may still succeed", id, instance, node)
	return &said
}

func (c *cli) capLsCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:   "ls ID",
		Short: "List the capabilities of an instance",
		Long: `List the capabilities of an instance. "wasmatrix inspect" shows them beside those
that its module needs.`,
		Example:           "  wasmatrix cap ls web-1",
		Args:              wants("ID"),
		ValidArgsFunction: c.instanceIDs(false),
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, args []string) error {
		res, err := cl.Capabilities.ListCapabilities(ctx, &api.ListCapabilitiesRequest{InstanceId: args[0], Stale: stale})
		if err != nil {
			return err
		}
		if c.json() {
			return c.writeJSON(res)
		}
		return c.writeTable(c.capabilityTable(res.GetCapabilities()...))
	})
	return cmd
}

func (c *cli) capabilityTable(caps ...*api.Capability) *table {
	t := newTable(row([]string{"CAPABILITY", "TYPE"}, grantHead, []string{"AGE"})...)
	for _, k := range caps {
		t.add(row([]string{k.GetCapabilityId(), k.GetType()}, grantCells(k), []string{c.since(k.GetCreatedAt())})...)
	}
	return t
}

// capabilityIDs completes the ID of an instance, then those of its capabilities.
func (c *cli) capabilityIDs() cobra.CompletionFunc {
	ids := c.instanceIDs(false)
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) != 1 {
			return ids(cmd, args, typed)
		}
		return c.ask(func(ctx context.Context, cl *client.Client) ([]string, error) {
			res, err := cl.Capabilities.ListCapabilities(ctx, &api.ListCapabilitiesRequest{InstanceId: args[0], Stale: true})
			var found []string
			for _, k := range res.GetCapabilities() {
				found = append(found, cobra.CompletionWithDesc(k.GetCapabilityId(), k.GetType()))
			}
			return found, err
		})(cmd, args, typed)
	}
}
