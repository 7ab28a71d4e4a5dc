package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// atOnce restarts without backoff.
func atOnce(mode api.RestartMode) *api.RestartPolicy {
	return &api.RestartPolicy{Mode: mode, Backoff: &api.Backoff{Initial: durationpb.New(0), Max: durationpb.New(0), Multiplier: 1}}
}

// measureS6 takes the time from a crash until the instance runs again, from the
// records of crashes: both ends are by the node's clock.
func measureS6(p *harness.Program, s settings) ([]result, error) {
	c := harness.Start(p, harness.Options{Bin: s.bin, Servers: 1, Nodes: 1, LogStore: s.logStore, LogLevel: "warn"})
	cl := c.Client()
	once, err := crashesOneByOne(p, cl)
	if err != nil {
		return nil, err
	}
	loop, err := crashLoop(p, cl, s.duration)
	if err != nil {
		return nil, err
	}
	starts, err := plainStarts(p, cl)
	if err != nil {
		return nil, err
	}
	processes, err := nativeCrashes(p.Context())
	if err != nil {
		return nil, err
	}
	const target = "target p50 2 ms, stretch 0.2 ms"
	return []result{
		{"crash to running again, a reactor that traps in a call, one crash at a time", spread(once.again), target},
		{"crash to running again, a command that traps at once, without end", spread(loop.again), target},
		{
			"the same from one trap to the next, with ending and recording the crash",
			fmt.Sprintf("%s; of all %d restarts %s each", spread(loop.whole), loop.last, short(s.duration/time.Duration(loop.last))), target,
		},
		{"yardstick: a new instance on that node, start to running, seen by a watch", spread(starts), ""},
		{"yardstick: a native program that fails at once, from one start to the next", spread(processes), ""},
	}, nil
}

// restarts are the crashes of one instance that followed one another.
type restarts struct {
	last uint32 // attempt, of those that were read
	// again is from the end of an execution until the next one runs. In a command
	// the latter is before its first instruction.
	again []time.Duration
	// whole is from the end of an execution to the end of the next. That of one
	// that traps at once takes no time itself.
	whole []time.Duration
}

// read adds what is kept of the instance's crashes and was not read before.
func (r *restarts) read(ctx context.Context, cl *client.Client, id string) error {
	res, err := cl.Instances.GetCrashInfo(ctx, &api.GetCrashInfoRequest{InstanceId: id})
	if err != nil {
		return err
	}
	var before *api.Crash
	for _, now := range res.GetCrashes() {
		// A node that cannot send reports as fast as it restarts leaves some out.
		if before != nil && now.GetAttempt() == before.GetAttempt()+1 && now.GetAttempt() > r.last {
			whole := now.GetTime().AsTime().Sub(before.GetTime().AsTime())
			r.whole = append(r.whole, whole)
			r.again = append(r.again, whole-now.GetUptime().AsDuration())
			r.last = now.GetAttempt()
		}
		before = now
	}
	return nil
}

// crashesOneByOne has a reactor trap again and again, each time after the
// cluster has settled.
func crashesOneByOne(p *harness.Program, cl *client.Client) (r restarts, err error) {
	digest, err := harness.Push(p.Context(), cl, filepath.Join(harness.Root(p), "e2e", "bench", "testdata", "boom.wasm"))
	if err != nil {
		return r, err
	}
	const id = "boom"
	if _, err := cl.Instances.StartInstance(p.Context(), &api.StartInstanceRequest{
		InstanceId: id, Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
		Restart: atOnce(api.RestartMode_RESTART_MODE_ON_FAILURE),
	}); err != nil {
		return r, err
	}
	for range 500 {
		_, err := cl.Instances.InvokeInstance(p.Context(), &api.InvokeInstanceRequest{InstanceId: id, Function: "boom"})
		if code := wasmatrix.AsError(err).Code; err == nil || code != wasmatrix.CodeCrashDetected {
			return r, fmt.Errorf("a call that traps was answered with %w", err)
		}
		if err := r.read(p.Context(), cl, id); err != nil {
			return r, err
		}
	}
	return r, nil
}

// crashLoop restarts a command that traps for a while.
func crashLoop(p *harness.Program, cl *client.Client, length time.Duration) (r restarts, err error) {
	digest, err := harness.Push(p.Context(), cl, filepath.Join(harness.Root(p), "node", "nodetest", "wasm", "trap.wasm"))
	if err != nil {
		return r, err
	}
	const id = "loop"
	if _, err := cl.Instances.StartInstance(p.Context(), &api.StartInstanceRequest{
		InstanceId: id, Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
		Restart: atOnce(api.RestartMode_RESTART_MODE_ALWAYS),
	}); err != nil {
		return r, err
	}
	for began := time.Now(); time.Since(began) < length; {
		if err := r.read(p.Context(), cl, id); err != nil {
			return r, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.Context().Done():
			return r, p.Context().Err()
		}
	}
	if r.last == 0 {
		return r, errors.New("no restart was recorded")
	}
	_, err = cl.Instances.StopInstance(p.Context(), &api.StopInstanceRequest{InstanceId: id})
	return r, err
}

// plainStarts takes starts as S1 does, on the cluster of S6.
func plainStarts(p *harness.Program, cl *client.Client) ([]time.Duration, error) {
	digest, err := pushReactor(p, cl)
	if err != nil {
		return nil, err
	}
	_, all, err := startsOneByOne(p.Context(), cl, digest)
	return all, err
}

// nativeCrashes is what restarting a process takes that ends at once: what a
// supervisor of processes could do at best on this machine.
func nativeCrashes(ctx context.Context) ([]time.Duration, error) {
	path, err := exec.LookPath("false")
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for range 500 {
		began := time.Now()
		if err := exec.CommandContext(ctx, path).Run(); err == nil || ctx.Err() != nil {
			return nil, fmt.Errorf("%s did not fail: %w", path, ctx.Err())
		}
		all = append(all, time.Since(began))
	}
	return all, nil
}
