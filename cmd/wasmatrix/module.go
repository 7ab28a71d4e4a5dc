package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) moduleCommand() *cobra.Command {
	return group("module", "Push, list and remove WebAssembly modules",
		`Modules are kept by the servers under the SHA-256 of their bytes, and may have
names that point at them.`,
		c.modulePushCommand(), c.moduleLsCommand(), c.moduleInspectCommand(), c.moduleRmCommand())
}

func (c *cli) modulePushCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "push FILE",
		Short: "Store a module on the servers",
		Long: `Store a module on the servers and, with --name, point a name at it. It is
answered when a majority of the servers has the module on disk.`,
		Example: "  wasmatrix module push hello.wasm --name hello",
		Args:    wants("FILE"),
	}
	cmd.Flags().StringVar(&name, "name", "", "point this name at the module")
	completeFlag(cmd, "name", c.modules())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if name != "" {
			if err := wasmatrix.ValidateName("module name", name); err != nil {
				return usagef("--name: %s", wasmatrix.AsError(err).Message)
			}
		}
		return c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			file, err := openModule(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			res, err := c.push(ctx, cl, file, name)
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			_, err = fmt.Fprintln(c.out, res.GetModule().GetDigest())
			return err
		})(cmd, args)
	}
	return cmd
}

func (c *cli) moduleLsCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:               "ls",
		Short:             "List modules",
		Example:           "  wasmatrix module ls",
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
		res, err := cl.Modules.ListModules(ctx, &api.ListModulesRequest{Stale: stale})
		if err != nil {
			return err
		}
		if c.json() {
			return c.writeJSON(res)
		}
		t := newTable("DIGEST", "NAMES", "KIND", "SIZE", "USERS", "AGE", "USED")
		for _, m := range res.GetModules() {
			t.add(shortDigest(m.GetDigest()), dash(strings.Join(m.GetNames(), ",")), m.GetKind(), wasmatrix.FormatBytes(uint64(m.GetSizeBytes())),
				count(m.GetUsers()), c.since(m.GetCreatedAt()), c.since(m.GetUsedAt()))
		}
		return c.writeTable(t)
	})
	return cmd
}

func (c *cli) moduleInspectCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:               "inspect DIGEST|NAME",
		Short:             "Show a module in full",
		Long:              "Show a module by its digest, the beginning of its digest, or a name.",
		Example:           "  wasmatrix module inspect hello",
		Args:              wants("DIGEST or NAME"),
		ValidArgsFunction: once(false, c.modules()),
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, args []string) error {
		res, err := cl.Modules.InspectModule(ctx, &api.InspectModuleRequest{Module: args[0], Stale: stale})
		if err != nil {
			return err
		}
		if c.json() {
			return c.writeJSON(res)
		}
		m := res.GetModule()
		f := &fields{}
		f.add("Digest", m.GetDigest())
		f.list("Names", m.GetNames())
		f.add("Kind", m.GetKind())
		f.add("Size", fmt.Sprintf("%s (%d bytes)", wasmatrix.FormatBytes(uint64(m.GetSizeBytes())), m.GetSizeBytes()))
		f.add("Users", count(m.GetUsers()))
		f.add("Created", moment(m.GetCreatedAt()))
		f.add("Used", moment(m.GetUsedAt()))
		f.list("Imports", m.GetImports())
		f.list("Exports", m.GetExports())
		return f.write(c.out)
	})
	return cmd
}

func (c *cli) moduleRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "rm DIGEST|NAME...",
		Short:             "Remove modules",
		Long:              "Remove modules and their names. A module that instances still use stays.",
		Example:           "  wasmatrix module rm hello",
		Args:              wants("DIGEST or NAME..."),
		ValidArgsFunction: c.modules(),
		RunE: c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			return each(ctx, args, func(ctx context.Context, m string) (*api.RemoveModuleResponse, error) {
				return cl.Modules.RemoveModule(ctx, &api.RemoveModuleRequest{Module: m})
			}, func(m string, res *api.RemoveModuleResponse) error {
				if c.json() {
					return c.writeJSONLine(res)
				}
				_, err := fmt.Fprintln(c.out, m)
				return err
			})
		}),
	}
}
