package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) inspectCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:   "inspect ID",
		Short: "Show an instance in full",
		Long: `Show all that is known of an instance: what was asked for, where it is, what its
module needs of capabilities and what it was given, and how it ended.`,
		Example:           "  wasmatrix inspect web-1\n  wasmatrix inspect web-1 -o json | jq .instance.spec",
		Args:              wants("ID"),
		ValidArgsFunction: c.instanceIDs(false),
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "answer from the server that is asked, which may lag")
	cmd.RunE = c.call(func(ctx context.Context, cl *client.Client, args []string) error {
		q, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: args[0], ReadMode: readMode(stale)})
		if err != nil {
			return err
		}
		crashes, err := cl.Instances.GetCrashInfo(ctx, &api.GetCrashInfoRequest{InstanceId: args[0], ReadMode: readMode(stale)})
		if err != nil {
			return err
		}
		if c.json() {
			return c.inspectJSON(q, crashes)
		}
		return c.inspectText(q, crashes)
	})
	return cmd
}

// inspectJSON puts the two answers into one document.
func (c *cli) inspectJSON(q *api.QueryInstanceResponse, crashes *api.GetCrashInfoResponse) error {
	query, err := marshal(q)
	if err != nil {
		return err
	}
	info, err := marshal(crashes)
	if err != nil {
		return err
	}
	var doc struct {
		Instance     json.RawMessage `json:"instance"`
		Needs        json.RawMessage `json:"needs"`
		Capabilities json.RawMessage `json:"capabilities"`
		CrashInfo    json.RawMessage `json:"crashInfo"`
	}
	if err := json.Unmarshal(query, &doc); err != nil {
		return err
	}
	doc.CrashInfo = info
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return c.writeIndented(b)
}

func (c *cli) inspectText(q *api.QueryInstanceResponse, crashes *api.GetCrashInfoResponse) error {
	i := q.GetInstance()
	f := &fields{}
	f.add("Instance", i.GetInstanceId())
	status := statusText(i.GetStatus())
	if i.GetStopRequested() && !isFinal(i.GetStatus()) {
		status += ", asked to stop"
	}
	f.add("Status", status)
	f.add("Reason", i.GetReason())
	f.add("Last error", i.GetLastError())
	if i.ExitCode != nil {
		f.add("Exit code", strconv.Itoa(int(i.GetExitCode())))
	}
	f.add("Node", i.GetNode())
	f.add("Epoch", count(i.GetEpoch()))
	f.add("Attempt", count(i.GetAttempt()))
	f.add("Restarts", count(i.GetRestarts()))
	f.add("Crashes", count(i.GetCrashes()))
	f.add("Created", moment(i.GetCreatedAt()))
	f.add("Started", moment(i.GetStartedAt()))
	f.add("Changed", moment(i.GetChangedAt()))
	c.specFields(f, i.GetSpec())
	if err := f.write(c.out); err != nil {
		return err
	}
	if t := needsTable(q.GetNeeds(), q.GetCapabilities()); t != nil {
		if err := c.writeBelow(t); err != nil {
			return err
		}
	}
	if len(crashes.GetCrashes()) == 0 {
		return nil
	}
	if err := c.writeBelow(c.crashTable(crashes)); err != nil {
		return err
	}
	c.noteMissing(crashes)
	return c.lastStderr(crashes)
}

// writeBelow writes a table, apart from what is above it.
func (c *cli) writeBelow(t *table) error {
	if _, err := fmt.Fprintln(c.out); err != nil {
		return err
	}
	return c.writeTable(t)
}

// lastStderr shows what the last crash wrote at its end, if that is known.
func (c *cli) lastStderr(crashes *api.GetCrashInfoResponse) error {
	all := crashes.GetCrashes()
	lines := lastLines(all[len(all)-1])
	if len(lines) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(c.out); err != nil {
		return err
	}
	f := &fields{}
	f.list("Last stderr", lines)
	return f.write(c.out)
}

func (c *cli) specFields(f *fields, s *api.InstanceSpec) {
	f.add("Module", s.GetModule())
	f.add("Module name", s.GetModuleName())
	f.list("Arguments", s.GetArgs())
	f.list("Environment", assignments(s.GetEnv()))
	f.list("Labels", assignments(s.GetLabels()))
	f.list("Constraints", s.GetConstraints())
	l := s.GetLimits()
	f.add("Memory limit", wasmatrix.FormatBytes(l.GetMemoryBytes()))
	f.add("CPU limit", strconv.Itoa(int(l.GetCpuMillis()))+"m")
	if l.GetDeadline() != nil {
		f.add("Deadline", l.GetDeadline().AsDuration().String())
	}
	if n := l.GetFuel(); n > 0 {
		f.add("Fuel limit", count(n))
	}
	if n := len(s.GetStdin()); n > 0 {
		f.add("Standard input", wasmatrix.FormatBytes(uint64(n)))
	}
	f.add("Restart", restartPolicy(s.GetRestart()))
	if s.GetExclusive() {
		f.add("Exclusive", "yes")
	}
	if s.GetQueue() {
		f.add("Queue", "yes")
	}
}

func restartPolicy(p *api.RestartPolicy) string {
	text := restartText(p.GetMode())
	if text == wasmatrix.RestartNever.String() {
		return text
	}
	retries := "any number of times"
	if n := p.GetMaxRetries(); n > 0 {
		retries = fmt.Sprintf("at most %d times in a row", n)
	}
	text += ", " + retries
	if b := p.GetBackoff(); b != nil {
		text += fmt.Sprintf(", after %s × %s up to %s ± %.0f%%, anew after %s", b.GetInitial().AsDuration(),
			strconv.FormatFloat(b.GetMultiplier(), 'g', 4, 64), short(b.GetMax().AsDuration()), b.GetJitter()*100, short(b.GetReset_().AsDuration()))
	}
	return text
}

// short drops the zeros that a duration's String ends in.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
