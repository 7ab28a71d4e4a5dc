package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

const (
	idleLimit   = 64 << 10 // memory of each instance of S7
	idleTouched = 4 << 10  // of which testdata/idle.wat says that it touches so much
	// idlePatience is for all of the starts together.
	idlePatience = 10 * time.Minute
)

// footprint is what a node takes.
type footprint struct {
	asIs       uint64 // resident bytes, with what Go has not collected
	collected  uint64 // resident bytes after a garbage collection
	pageTables uint64 // bytes that the kernel keeps for it
	usage      *api.NodeUsage
}

// measureS7 has a node run many reactors that wait for calls, and takes what its
// process has grown by.
func measureS7(p *harness.Program, s settings) ([]result, error) {
	c := harness.Start(p, harness.Options{
		Bin: s.bin, Servers: 1, Nodes: 1, LogStore: s.logStore, LogLevel: "warn",
		NodeMemory: fmt.Sprintf("%dKiB", (s.instances+1)*idleLimit>>10), NodeInstances: s.instances + 1,
	})
	cl := c.Client()
	digest, err := harness.Push(p.Context(), cl, filepath.Join(harness.Root(p), "e2e", "bench", "testdata", "idle.wasm"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(p.Context(), idlePatience)
	defer cancel()
	// The first one compiles, and what that takes is not the others'.
	if err := startIdle(ctx, cl, digest, 0, 1); err != nil {
		return nil, err
	}
	before, err := footprintOf(ctx, c.Nodes[0])
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := startIdle(ctx, cl, digest, 1, s.instances); err != nil {
		return nil, err
	}
	took := time.Since(began)
	if err := sampleIdle(ctx, cl, s.instances); err != nil {
		return nil, err
	}
	after, err := footprintOf(ctx, c.Nodes[0])
	if err != nil {
		return nil, err
	}
	each := func(before, after uint64) float64 { return (float64(after) - float64(before)) / float64(s.instances) }
	kib := func(before, after uint64) float64 { return (each(before, after) - idleTouched) / 1024 }
	return []result{
		{
			fmt.Sprintf("%d idle reactors of one page, of which each has touched 4 KiB: resident memory each, beyond that", s.instances),
			fmt.Sprintf("%.2f KiB; %.2f KiB after a collection", kib(before.asIs, after.asIs), kib(before.collected, after.collected)),
			"target 32 KiB, stretch 12 KiB",
		},
		{
			"the node's process before, with one instance", fmt.Sprintf("%.1f MB, %d goroutines, %d threads", float64(before.collected)/1e6, before.usage.GetGoroutines(), before.usage.GetThreads()), "",
		},
		{
			"the node's process with all", fmt.Sprintf("%.1f MB, %d goroutines, %d threads; started in %s", float64(after.collected)/1e6, after.usage.GetGoroutines(), after.usage.GetThreads(), short(took)), "",
		},
		{
			"of each, Go's heap; page tables, which are not resident memory",
			fmt.Sprintf("%.0f B; %.0f B", each(before.usage.GetHeapBytes(), after.usage.GetHeapBytes()), each(before.pageTables, after.pageTables)), "",
		},
	}, nil
}

// startIdle starts n reactors, from number first on, and returns when all that
// there are run.
func startIdle(ctx context.Context, cl *client.Client, digest string, first, n int) error {
	const batch = 1000
	for i := first; i < first+n; i += batch {
		count := min(batch, first+n-i)
		if _, err := cl.Instances.StartInstance(ctx, &api.StartInstanceRequest{
			InstanceId: idleName(i), Count: uint32(count),
			Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
			Limits: &api.Limits{MemoryBytes: idleLimit},
		}); err != nil {
			return err
		}
	}
	return harness.Until(ctx, func(ctx context.Context) error {
		running, err := countRunning(ctx, cl)
		if err == nil && running != first+n {
			err = fmt.Errorf("%d of %d instances run", running, first+n)
		}
		return err
	})
}

func idleName(first int) string { return fmt.Sprintf("idle-%d", first) }

func countRunning(ctx context.Context, cl *client.Client) (n int, err error) {
	req := &api.ListInstancesRequest{Statuses: []api.InstanceStatus{api.InstanceStatus_INSTANCE_STATUS_RUNNING}, PageSize: 10_000}
	for {
		res, err := cl.Instances.ListInstances(ctx, req)
		if err != nil {
			return 0, err
		}
		n += len(res.GetInstances())
		if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
			return n, nil
		}
	}
}

// sampleIdle calls about a hundred of the reactors, which shows that each has a
// memory of its own: all answer as at their first call.
func sampleIdle(ctx context.Context, cl *client.Client, n int) error {
	var ids []string
	req := &api.ListInstancesRequest{PageSize: 10_000}
	for {
		res, err := cl.Instances.ListInstances(ctx, req)
		if err != nil {
			return err
		}
		for _, in := range res.GetInstances() {
			ids = append(ids, in.GetInstanceId())
		}
		if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	for i := 0; i < len(ids); i += max(1, n/100) {
		res, err := cl.Instances.InvokeInstance(ctx, &api.InvokeInstanceRequest{InstanceId: ids[i], Function: "next"})
		if err != nil {
			return err
		}
		if got := res.GetResults(); len(got) != 1 || got[0].GetNumberValue() != 42 {
			return fmt.Errorf("instance %s answered %v, not 42", ids[i], got)
		}
	}
	return nil
}

// footprintOf asks once the node is idle.
func footprintOf(ctx context.Context, a *harness.Agent) (f footprint, err error) {
	select {
	case <-time.After(5 * time.Second): // reports and their answers are done with
	case <-ctx.Done():
		return f, ctx.Err()
	}
	f.asIs = a.Memory().Resident
	rt := client.NewTransport()
	defer rt.CloseIdleConnections()
	if f.usage, err = client.NewAgents(rt).Usage(ctx, fmt.Sprintf("127.0.0.1:%d", a.Ports.Node), true); err != nil {
		return f, err
	}
	f.collected, f.pageTables = a.Memory().Resident, pageTables(a.PID())
	return f, nil
}

// pageTables is 0 where /proc does not tell.
func pageTables(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte("VmPTE:"))
	var kib uint64
	if _, err := fmt.Sscanf(string(rest), "%d kB", &kib); err != nil {
		return 0
	}
	return kib << 10
}
