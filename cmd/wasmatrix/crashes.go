package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) crashesCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:   "crashes ID",
		Short: "Show the crashes of an instance, with stack traces",
		Long: `Show the newest crashes of an instance, oldest first, each with its WebAssembly
stack, innermost frame first, with what it had used and the last that it wrote to
stderr. Fuel is units of about one instruction.`,
		Example:           "  wasmatrix crashes web-1",
		Args:              wants("ID"),
		ValidArgsFunction: c.instanceIDs(false),
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, args []string) error {
		res, err := cl.Instances.GetCrashInfo(ctx, &api.GetCrashInfoRequest{InstanceId: args[0], ReadMode: readMode(stale)})
		if err != nil {
			return err
		}
		if c.json() {
			return c.writeJSON(res)
		}
		return c.crashesText(args[0], res)
	})
	return cmd
}

func (c *cli) crashesText(id string, res *api.GetCrashInfoResponse) error {
	if res.GetCrashCount() == 0 {
		_, err := fmt.Fprintf(c.out, "%s has not crashed.\n", id)
		return err
	}
	shown := len(res.GetCrashes())
	if _, err := fmt.Fprintf(c.out, "%s has crashed %s; the last %d:\n", id, times(res.GetCrashCount()), shown); err != nil {
		return err
	}
	for _, crash := range res.GetCrashes() {
		f := &fields{}
		f.add("Time", moment(crash.GetTime()))
		f.add("Kind", crash.GetKind())
		f.add("Message", crash.GetMessage())
		f.add("Exit code", exitCode(crash))
		f.add("Node", crash.GetNode())
		f.add("Epoch", count(crash.GetEpoch()))
		f.add("Attempt", count(crash.GetAttempt()))
		f.add("Uptime", uptime(crash))
		f.add("Fuel", fuelUsed(crash))
		f.add("Memory peak", memoryPeak(crash))
		f.list("Stack", crash.GetStack())
		f.list("Stderr", lastLines(crash))
		if _, err := fmt.Fprintln(c.out); err != nil {
			return err
		}
		if err := f.write(c.out); err != nil {
			return err
		}
	}
	c.noteMissing(res)
	return nil
}

// noteMissing says on stderr why there is less to see than nodes know.
func (c *cli) noteMissing(res *api.GetCrashInfoResponse) {
	if why := res.GetDetailsMissing(); why != "" {
		fmt.Fprintf(c.err, "[stderr and longer stacks are missing: %s]\n", printable(why))
	}
}

// crashTable shows crashes without their stacks and output.
func (c *cli) crashTable(res *api.GetCrashInfoResponse) *table {
	t := newTable("CRASHED", "KIND", "EXIT", "NODE", "EPOCH", "ATTEMPT", "UPTIME", "FUEL", "MEMORY", "MESSAGE")
	for _, crash := range res.GetCrashes() {
		t.add(moment(crash.GetTime()), crash.GetKind(), dash(exitCode(crash)), dash(crash.GetNode()), count(crash.GetEpoch()),
			count(crash.GetAttempt()), uptime(crash), dash(fuelUsed(crash)), dash(memoryPeak(crash)), crash.GetMessage())
	}
	return t
}

func exitCode(crash *api.Crash) string {
	if crash.ExitCode == nil {
		return ""
	}
	return strconv.Itoa(int(crash.GetExitCode()))
}

func uptime(crash *api.Crash) string {
	return crash.GetUptime().AsDuration().Round(time.Millisecond).String()
}

// fuelUsed is "" for what never ran, or was lost with its node.
func fuelUsed(crash *api.Crash) string {
	if crash.GetFuel() == 0 {
		return ""
	}
	return count(crash.GetFuel())
}

// memoryPeak is "" for what had no memory, or was lost with its node.
func memoryPeak(crash *api.Crash) string {
	if crash.GetMemoryPeakBytes() == 0 {
		return ""
	}
	return wasmatrix.FormatBytes(crash.GetMemoryPeakBytes())
}

// lastLines is what is known of a crash's stderr. Tabs, in which stack traces
// abound, become spaces; other control characters are left for fields to escape.
func lastLines(crash *api.Crash) []string {
	text := strings.TrimRight(string(crash.GetStderr()), "\r\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(strings.ReplaceAll(text, "\t", "    "), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return lines
}

func times(n uint32) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
