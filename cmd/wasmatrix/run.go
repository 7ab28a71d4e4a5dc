package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) runCommand() *cobra.Command {
	var (
		flags startFlags
		wait  bool
	)
	cmd := &cobra.Command{
		Use:   "run FILE|DIGEST|NAME [flags] [-- ARGS...]",
		Short: "Start instances of a module",
		Long: `Start one instance of a module, or --count alike, and print their IDs.

A FILE is pushed first if the servers lack it. A DIGEST may be cut short, as
"module ls" shows it. What follows "--" is given to the program as its arguments.

The instance sees nothing of the machine: no files, no network, and no
environment but what --env gives it. A capability gives it the use of a provider
("wasmatrix cap" says what there is to allow), under the ID by which the program
calls it. A module that needs more than it is given starts, and its calls are
denied; with --strict it is refused. Options stand among the permissions:

  --cap store=kv:kv:read,kv:write
  --cap visits=kv:kv:read,kv:write,namespace=visits,stale
  --cap api=http:http:domain:example.com,provider=outside

A constraint restricts the nodes that it may run on, by their labels: key=value,
key!=value, "key in (a,b)", "key notin (a,b)", key or !key.`,
		Example: `  wasmatrix run hello.wasm
  wasmatrix run hello.wasm --restart on_failure --max-retries 5 -- --verbose input
  wasmatrix run web --count 10 --memory 32MiB --label app=web --constraint zone=a
  wasmatrix run job.wasm --env MODE=fast --deadline 10m --wait
  wasmatrix run visits.wasm --cap visits=kv:kv:read,kv:write,namespace=visits --strict
  wasmatrix run sort.wasm --stdin words.txt --fuel 1000000000`,
		Args: func(cmd *cobra.Command, args []string) error {
			own := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				own = args[:n]
			}
			if len(own) > 1 {
				return usagef(`wasmatrix run takes one module; arguments of the program follow "--": wasmatrix run %s -- %s`, own[0], strings.Join(own[1:], " "))
			}
			return wants("FILE, DIGEST or NAME")(cmd, own)
		},
		ValidArgsFunction: once(false, andFiles(c.modules())),
	}
	flags.register(cmd, c)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until all are running or have ended; fail if one crashed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := flags.request()
		if err != nil {
			return err
		}
		req.Args = args[1:]
		if cmd.Flags().Changed("stdin") {
			if req.Stdin, err = c.readInput("--stdin", flags.stdin, wasmatrix.MaxStdin); err != nil {
				return err
			}
		}
		explicitTable := cmd.Flags().Changed("output") && !c.json()
		return c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			res, err := c.start(ctx, cl, args[0], req)
			if err != nil {
				return ungranted(err)
			}
			if !wait {
				return c.showStarted(ctx, cl, res, explicitTable)
			}
			return c.waitStarted(ctx, cl, res, explicitTable)
		})(cmd, args)
	}
	return cmd
}

// ungranted adds to a refusal of a strict start the flags that would help.
func ungranted(err error) error {
	e := wasmatrix.AsError(err)
	if e.Code != wasmatrix.CodeValidation {
		return err
	}
	flags := grantFlags(splitCommas(e.Details["missing"]))
	if flags == "" {
		return err
	}
	return e.With("hint", "give it, under the ID by which the program calls it and with what it may do: "+flags)
}

// start resolves the module and starts it.
func (c *cli) start(ctx context.Context, cl *client.Client, what string, req *api.StartInstanceRequest) (*api.StartInstanceResponse, error) {
	if _, err := wasmatrix.ParseDigest(what); err == nil {
		req.Module = &api.StartInstanceRequest_ModuleDigest{ModuleDigest: what}
		return cl.Instances.StartInstance(ctx, req)
	}
	switch _, err := os.Stat(what); {
	case err == nil:
		return c.startFile(ctx, cl, what, req)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, unreadable(what, err)
	case strings.ContainsAny(what, "/\\") || strings.HasSuffix(what, ".wasm"):
		return nil, wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "%s: no such file", what)
	}
	if err := c.named(ctx, cl, what, req); err != nil {
		return nil, err
	}
	return cl.Instances.StartInstance(ctx, req)
}

// hexPrefix is what may be the beginning of a digest as well as a name.
var hexPrefix = regexp.MustCompile(`^(sha256:)?[0-9a-f]{6,63}$`)

// named sets the module by name, or by the digest that begins so.
func (c *cli) named(ctx context.Context, cl *client.Client, what string, req *api.StartInstanceRequest) error {
	req.Module = &api.StartInstanceRequest_ModuleName{ModuleName: what}
	if !hexPrefix.MatchString(what) {
		return nil
	}
	res, err := cl.Modules.InspectModule(ctx, &api.InspectModuleRequest{Module: what})
	if err != nil {
		return err
	}
	if slices.Contains(res.GetModule().GetNames(), what) {
		return nil
	}
	req.Module = &api.StartInstanceRequest_ModuleDigest{ModuleDigest: res.GetModule().GetDigest()}
	return nil
}

// startFile starts a local module, and pushes it where the servers lack it.
func (c *cli) startFile(ctx context.Context, cl *client.Client, path string, req *api.StartInstanceRequest) (*api.StartInstanceResponse, error) {
	file, err := openModule(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	digest := file.info.Digest.String()
	req.Module = &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest}
	// A small module is pushed as quickly as it is asked for, but the question
	// costs the servers nothing.
	_, err = cl.Modules.InspectModule(ctx, &api.InspectModuleRequest{Module: digest})
	if err == nil {
		res, err := cl.Instances.StartInstance(ctx, req)
		if wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
			return res, err
		}
		// It was collected in between.
		req.RequestId = ""
	} else if wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
		return nil, err
	}
	if _, err := c.push(ctx, cl, file, ""); err != nil {
		return nil, err
	}
	return cl.Instances.StartInstance(ctx, req)
}

// started is every ID of an answer.
func started(res *api.StartInstanceResponse) []string {
	if len(res.GetInstanceIds()) > 0 {
		return res.GetInstanceIds()
	}
	return []string{res.GetInstanceId()}
}

func (c *cli) showStarted(ctx context.Context, cl *client.Client, res *api.StartInstanceResponse, asTable bool) error {
	switch {
	case c.json():
		return c.writeJSON(res)
	case asTable:
		return c.tableOf(ctx, cl, started(res))
	}
	return c.writeIDs(started(res))
}

func (c *cli) writeIDs(ids []string) error {
	_, err := fmt.Fprintln(c.out, strings.Join(ids, "\n"))
	return err
}

// tableOf shows instances as ps does.
func (c *cli) tableOf(ctx context.Context, cl *client.Client, ids []string) error {
	list := &api.ListInstancesResponse{}
	err := each(ctx, ids, func(ctx context.Context, id string) (*api.QueryInstanceResponse, error) {
		return cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: id})
	}, func(_ string, res *api.QueryInstanceResponse) error {
		list.Instances = append(list.Instances, res.GetInstance())
		return nil
	})
	return errors.Join(err, c.showInstances(list, false))
}
