package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// invokeFlags are the flags of invoke, and which of the inputs were given: an
// empty one is one.
type invokeFlags struct {
	data, file       string
	hasData, hasFile bool
	timeout          time.Duration
}

func (c *cli) invokeCommand() *cobra.Command {
	var flags invokeFlags
	cmd := &cobra.Command{
		Use:   "invoke ID FUNCTION [ARGS...]",
		Short: "Call a function of an instance",
		Long: `Call a function that a running reactor exports, and print its result. Calls of
an instance are executed one at a time, in the order in which they come.

A function of numbers takes one of ARGS for each parameter: decimal numbers, NaN,
Infinity or -Infinity. Negative numbers may be written as they are, or after
"--". The results are printed one a line.

A function of bytes takes --data or --data-file, even if that is empty. Its
output is written as it is, and a status other than 0 that it returns is an error.

A function that is executing when the timeout passes is ended, and its instance
with it.`,
		Example: `  wasmatrix invoke calc add -1 2.5
  wasmatrix invoke calc add -- -1 2.5
  wasmatrix invoke web-1 greet --data world --timeout 5s
  wasmatrix invoke web-1 render --data-file page.json > page.html`,
		Args:              wants("ID", "FUNCTION", "ARGS[...]"),
		ValidArgsFunction: c.invocable(),
		Annotations:       map[string]string{takesNumbers: "yes"},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&flags.data, "data", "", "input of a function of bytes")
	f.StringVar(&flags.file, "data-file", "", `file that holds the input; "-" is standard input`)
	f.DurationVar(&flags.timeout, "timeout", wasmatrix.DefaultInvokeTimeout, "longest time for waiting and execution together, at most "+short(wasmatrix.MaxInvokeTimeout))
	completeFlag(cmd, "data", cobra.NoFileCompletions)
	completeFlag(cmd, "timeout", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		flags.hasData, flags.hasFile = f.Changed("data"), f.Changed("data-file")
		req, err := flags.request(bare(args))
		if err != nil {
			return err
		}
		if flags.hasFile {
			if req.Data, err = c.readInput("--data-file", flags.file, wasmatrix.MaxInvokeData); err != nil {
				return err
			}
		}
		return c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			res, err := cl.Instances.InvokeInstance(ctx, req)
			if err != nil {
				return err
			}
			return c.showInvoked(req, res)
		})(cmd, args)
	}
	return cmd
}

// request checks a call as servers will, but for the contents of a file, and
// makes its request. Numbers stay texts: as JSON's they would be rounded.
func (v *invokeFlags) request(args []string) (*api.InvokeInstanceRequest, error) {
	req := &api.InvokeInstanceRequest{InstanceId: args[0], Function: args[1], Timeout: durationpb.New(v.timeout)}
	for _, a := range args[2:] {
		req.Args = append(req.Args, structpb.NewStringValue(a))
	}
	switch {
	case v.hasData && v.hasFile:
		return nil, usagef("--data and --data-file exclude each other")
	case v.timeout <= 0: // servers take 0 for their default
		return nil, usagef("--timeout: %s is not more than 0", v.timeout)
	case v.hasData || v.hasFile:
		req.Data = []byte(v.data)
	}
	call, err := wire.InvocationFrom(req)
	if err == nil {
		err = call.Validate()
	}
	if err != nil {
		return nil, asUsage(err)
	}
	return req, nil
}

// showInvoked shows what a function returned. A status other than 0 is an error
// that leaves the output to be seen.
func (c *cli) showInvoked(req *api.InvokeInstanceRequest, res *api.InvokeInstanceResponse) error {
	var failed error
	if s := res.GetStatus(); s != 0 {
		failed = wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "function %q of instance %s returned status %d", req.GetFunction(), req.GetInstanceId(), s).
			With("status", strconv.Itoa(int(s)))
	}
	if c.json() {
		return errors.Join(c.writeJSON(res), failed)
	}
	out := res.GetData()
	for _, r := range res.GetResults() {
		out = fmt.Appendln(out, number(r))
	}
	_, err := c.out.Write(out)
	return errors.Join(err, failed)
}

// number writes a result as JSON does, without the quotes of texts.
func number(v *structpb.Value) string {
	if text, ok := v.GetKind().(*structpb.Value_StringValue); ok {
		return printable(text.StringValue)
	}
	b, err := json.Marshal(v.GetNumberValue())
	if err != nil { // what JSON has no number for
		return strconv.FormatFloat(v.GetNumberValue(), 'g', -1, 64)
	}
	return string(b)
}

// invocable completes the ID of an instance, then the functions of its module.
func (c *cli) invocable() cobra.CompletionFunc {
	ids := c.instanceIDs(false, liveStatuses...)
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) != 1 {
			return ids(cmd, args, typed)
		}
		return c.functions(args[0])(cmd, args, typed)
	}
}

// functions completes what the module of an instance exports. Its names are the
// guest's choice, and what is no text would confuse the shell.
func (c *cli) functions(instance string) cobra.CompletionFunc {
	return c.ask(func(ctx context.Context, cl *client.Client) ([]string, error) {
		q, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: instance, ReadMode: readMode(true)})
		if err != nil {
			return nil, err
		}
		res, err := cl.Modules.InspectModule(ctx, &api.InspectModuleRequest{Module: q.GetInstance().GetSpec().GetModule(), Stale: true})
		var names []string
		for _, name := range res.GetModule().GetExports() {
			if !strings.ContainsFunc(name, unprintable) {
				names = append(names, name)
			}
		}
		return names, err
	})
}
