package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// demo is one run of the story, and its timeline.
type demo struct {
	tb      *harness.Program
	bin     string
	began   time.Time
	cluster *harness.Cluster
	client  *client.Client
}

// say prints a line of the timeline.
func (d *demo) say(format string, args ...any) {
	fmt.Printf("%8.3fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// took prints a line of the timeline with how long something lasted.
func (d *demo) took(since time.Time, format string, args ...any) {
	d.say("%-62s %9s", fmt.Sprintf(format, args...), time.Since(since).Round(100*time.Microsecond))
}

func (d *demo) run(ctx context.Context) error {
	fmt.Println("wasmatrix demo: three servers, two nodes, real guests, two kills")
	fmt.Println()
	d.say("building the guests with Go for wasip1 (gojq is a public program)")
	hello := harness.Guest(d.tb, "hello")
	ticker := harness.Guest(d.tb, "ticker")
	counter := harness.Guest(d.tb, "counter")
	gojq := harness.PublicGuest(d.tb, "gojq", "github.com/itchyny/gojq/cmd/gojq")
	reactor := filepath.Join(harness.Root(d.tb), "examples", "reactor", "reactor.wasm")

	began := time.Now()
	d.cluster = harness.Start(d.tb, harness.Options{Bin: d.bin, Servers: 3, Nodes: 2})
	d.client = d.cluster.Client()
	d.took(began, "three servers and two nodes up, %s leads", d.cluster.Leader().Name)

	if err := d.commands(ctx, hello, gojq); err != nil {
		return err
	}
	if err := d.longRunning(ctx, ticker); err != nil {
		return err
	}
	if err := d.counters(ctx, counter); err != nil {
		return err
	}
	began = time.Now()
	digest, err := harness.Push(ctx, d.client, reactor)
	if err != nil {
		return err
	}
	d.took(began, "reactor (C, %s) on a majority of disks", digest[:19])
	if err := d.kills(ctx, digest); err != nil {
		return err
	}
	return d.counted(ctx)
}

// commands runs programs to their end and checks what they printed.
func (d *demo) commands(ctx context.Context, hello, gojq string) error {
	for _, c := range []struct {
		id, module, want string
		args             []string
	}{
		{"hello", hello, "demo", []string{"demo"}},
		{"gojq", gojq, "[1,4,9,16,25]", []string{"-n", "-c", "[range(1;6) | . * .]"}},
	} {
		began := time.Now()
		digest, err := harness.Push(ctx, d.client, c.module)
		if err != nil {
			return fmt.Errorf("pushing %s: %w", c.id, err)
		}
		d.took(began, "%s pushed", c.id)
		began = time.Now()
		if _, err := d.client.Instances.StartInstance(ctx, &api.StartInstanceRequest{
			InstanceId: c.id, Args: c.args,
			Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
		}); err != nil {
			return fmt.Errorf("starting %s: %w", c.id, err)
		}
		if err := d.await(ctx, c.id, api.InstanceStatus_INSTANCE_STATUS_STOPPED); err != nil {
			return err
		}
		out, err := d.logs(ctx, c.id)
		if err != nil {
			return err
		}
		if !strings.Contains(out, c.want) {
			return fmt.Errorf("%s printed %q, not %q", c.id, out, c.want)
		}
		d.took(began, "%s ran to its end and printed %s", c.id, lastLine(out))
	}
	return nil
}

// longRunning leaves a Go program running that must outlive both kills.
func (d *demo) longRunning(ctx context.Context, ticker string) error {
	digest, err := harness.Push(ctx, d.client, ticker)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := d.client.Instances.StartInstance(ctx, &api.StartInstanceRequest{
		InstanceId: "ticker", Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
		Restart: &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ALWAYS},
	}); err != nil {
		return err
	}
	if err := d.await(ctx, "ticker", api.InstanceStatus_INSTANCE_STATUS_RUNNING); err != nil {
		return err
	}
	d.took(began, "ticker (a Go program that never ends) runs")
	return nil
}

// kills kills the leader and then a node while starts are coming in.
func (d *demo) kills(ctx context.Context, digest string) error {
	load := harness.NewLoad(d.client, digest, "job")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		load.Run(ctx, stop, 4, 0)
	}()
	load.AwaitAcked(d.tb, 200)
	d.say("starts are coming in: %d acknowledged", load.Acked())

	leader := d.cluster.Leader()
	d.say("KILL the leader, %s (SIGKILL)", leader.Name)
	leader.Kill()
	began, before := time.Now(), load.Acked()
	load.AwaitAcked(d.tb, before+8) // more than can have been on their way
	d.took(began, "starts are acknowledged again")
	d.say("%s leads now", d.cluster.Leader().Name)

	ticker, err := d.query(ctx, "ticker")
	if err != nil {
		return err
	}
	victim, other := d.cluster.Nodes[0], d.cluster.Nodes[1]
	if ticker.GetNode() == other.Name {
		victim, other = other, victim
	}
	there, err := d.on(ctx, victim.Name)
	if err != nil {
		return err
	}
	d.say("KILL the node %s (SIGKILL), which runs ticker and %d others", victim.Name, len(there)-1)
	victim.Kill()
	began = time.Now()
	harness.Eventually(d.tb, "the killed node's instances running on "+other.Name, func(ctx context.Context) error {
		return d.cluster.CheckRunningOnce(ctx, d.client, there)
	})
	d.took(began, "its %d instances run on %s", len(there), other.Name)

	close(stop)
	<-done
	if fails := load.Failures(); len(fails) > 0 {
		return fmt.Errorf("%d starts failed: %w", len(fails), errors.Join(fails[:min(3, len(fails))]...))
	}
	began = time.Now()
	ids := append(load.IDs(), "ticker")
	d.cluster.AssertRunningOnce(d.client, ids)
	d.took(began, "all %d acknowledged instances run, each exactly once", len(ids))

	leader.Start()
	victim.Start()
	began = time.Now()
	d.cluster.WaitReady()
	d.took(began, "%s and %s are back", leader.Name, victim.Name)
	d.say("the three servers have the same state, %s...", d.cluster.AssertSameState()[:16])
	return nil
}

func (d *demo) query(ctx context.Context, id string) (*api.Instance, error) {
	res, err := d.client.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: id})
	return res.GetInstance(), err
}

func (d *demo) await(ctx context.Context, id string, want api.InstanceStatus) error {
	return harness.Until(ctx, func(ctx context.Context) error {
		in, err := d.query(ctx, id)
		if err != nil {
			return err
		}
		if in.GetStatus() == api.InstanceStatus_INSTANCE_STATUS_CRASHED && want != in.GetStatus() {
			d.tb.Fatalf("%s crashed: %s", id, in.GetReason())
		}
		if in.GetStatus() != want {
			return fmt.Errorf("%s is %s", id, in.GetStatus())
		}
		return nil
	})
}

// on returns the instances that are recorded as running on a node.
func (d *demo) on(ctx context.Context, node string) ([]string, error) {
	all, err := harness.List(ctx, d.client)
	if err != nil {
		return nil, err
	}
	var ids []string
	for id, in := range all {
		if in.GetNode() == node && in.GetStatus() == api.InstanceStatus_INSTANCE_STATUS_RUNNING {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (d *demo) logs(ctx context.Context, id string) (string, error) {
	stream, err := d.client.Instances.StreamLogs(ctx, &api.StreamLogsRequest{InstanceId: id})
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var b bytes.Buffer
	for stream.Receive() {
		b.Write(stream.Msg().GetData())
	}
	return b.String(), stream.Err()
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
