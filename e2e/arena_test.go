package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

//go:generate sh -c "for f in testdata/hostile/*.wat; do wat2wasm --debug-names $f -o ${f%.wat}.wasm || exit 1; done"

// hostile is a guest of testdata/hostile.
func hostile(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(harness.Root(t), "e2e", "testdata", "hostile", name+".wasm")
}

// arena is a real server and a real node process with ten well-behaved guests,
// which are called all the time.
type arena struct {
	t       *testing.T
	cluster *harness.Cluster
	client  *client.Client
	node    apiconnect.NodeAgentServiceClient

	calls  *calls
	before quantiles // of the calls when nothing else ran
}

// calls are those that the neighbours have answered since the last harvest.
type calls struct {
	mu        sync.Mutex
	latencies []time.Duration // guarded by mu
}

const (
	neighbourCount = 10
	// neighbourRounds take a neighbour some 100 µs.
	neighbourRounds = 100_000
)

// quantiles describe latencies.
type quantiles struct {
	calls    int
	p50, max time.Duration
}

func (q quantiles) String() string {
	return fmt.Sprintf("%d calls, median %s, longest %s", q.calls, q.p50.Round(time.Microsecond), q.max.Round(time.Microsecond))
}

func newArena(t *testing.T, opts harness.Options) *arena {
	t.Helper()
	opts.Servers, opts.Nodes = 1, 1
	c := harness.Start(t, opts)
	a := &arena{
		t: t, cluster: c, client: c.Client(), calls: &calls{},
		node: apiconnect.NewNodeAgentServiceClient(http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d", c.Nodes[0].Ports.Node)),
	}
	ids := a.start(a.push(hostile(t, "neighbour")), func(r *api.StartInstanceRequest) { r.InstanceId, r.Count = "neighbour", neighbourCount })
	for _, id := range ids {
		c.AwaitStatus(a.client, id, api.InstanceStatus_INSTANCE_STATUS_RUNNING)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() { a.call(ctx, id) })
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	a.observe() // the first calls of all kinds
	a.before = a.observe()
	return a
}

func (a *arena) push(path string) (digest string) {
	a.t.Helper()
	digest, err := harness.Push(a.t.Context(), a.client, path)
	if err != nil {
		a.t.Fatal(err)
	}
	return digest
}

// run pushes a module and starts one instance of it.
func (a *arena) run(path, id string) string {
	a.t.Helper()
	return a.start(a.push(path), func(r *api.StartInstanceRequest) { r.InstanceId = id })[0]
}

// awaitEnd waits until an instance is stopped or crashed for good.
func (a *arena) awaitEnd(id string) (in *api.Instance) {
	a.t.Helper()
	harness.Eventually(a.t, "the end of "+id, func(ctx context.Context) error {
		res, err := a.client.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: id})
		if err != nil {
			return err
		}
		in = res.GetInstance()
		if s := in.GetStatus(); s != api.InstanceStatus_INSTANCE_STATUS_CRASHED && s != api.InstanceStatus_INSTANCE_STATUS_STOPPED {
			return fmt.Errorf("%s", s)
		}
		return nil
	})
	return in
}

func (a *arena) start(digest string, change func(*api.StartInstanceRequest)) []string {
	a.t.Helper()
	req := &api.StartInstanceRequest{Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest}}
	if change != nil {
		change(req)
	}
	res, err := a.client.Instances.StartInstance(a.t.Context(), req)
	if err != nil {
		a.t.Fatal(err)
	}
	if ids := res.GetInstanceIds(); len(ids) > 0 {
		return ids
	}
	return []string{res.GetInstanceId()}
}

// call calls one neighbour again and again, and checks that its answers are
// right: that of its sum, and that of how often it was called.
func (a *arena) call(ctx context.Context, id string) {
	want := strconv.Itoa(neighbourRounds * (neighbourRounds - 1) / 2)
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for n := 1; ; n++ {
		began := time.Now()
		res, err := a.client.Instances.InvokeInstance(ctx, &api.InvokeInstanceRequest{
			InstanceId: id, Function: "work", Args: numbers(neighbourRounds),
		})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			a.t.Errorf("call %d of %s: %v", n, id, err)
			return
		}
		took := time.Since(began)
		if r := res.GetResults(); len(r) != 2 || r[0].GetStringValue() != strconv.Itoa(n) || r[1].GetStringValue() != want {
			a.t.Errorf("call %d of %s: %v, want %d and %s", n, id, r, n, want)
			return
		}
		a.calls.mu.Lock()
		a.calls.latencies = append(a.calls.latencies, took)
		a.calls.mu.Unlock()
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
	}
}

// observe returns the latencies of all calls since the last harvest, of which
// there are 500 or more: it waits for them.
func (a *arena) observe() quantiles {
	a.t.Helper()
	harness.Eventually(a.t, "calls of the neighbours", func(context.Context) error {
		a.calls.mu.Lock()
		defer a.calls.mu.Unlock()
		if len(a.calls.latencies) < 500 {
			return fmt.Errorf("%d have been answered", len(a.calls.latencies))
		}
		return nil
	})
	return a.harvest()
}

// harvest returns the latencies since the last harvest.
func (a *arena) harvest() quantiles {
	a.calls.mu.Lock()
	defer a.calls.mu.Unlock()
	all := a.calls.latencies
	a.calls.latencies = nil
	if len(all) == 0 {
		return quantiles{}
	}
	slices.Sort(all)
	return quantiles{calls: len(all), p50: all[len(all)/2], max: all[len(all)-1]}
}

// fine fails the test if the neighbours have suffered. A neighbour that wants a
// core gets the next one that comes free, which is after a slice of half a
// millisecond, whatever the number of others: the median may grow by as much
// and by what the machine's own scheduler adds with all cores taken. The bounds
// leave room for a machine that is shared.
func (a *arena) fine(q quantiles) {
	a.t.Helper()
	a.t.Logf("neighbours before: %s; now: %s", a.before, q)
	if limit := max(20*a.before.p50, 50*time.Millisecond); q.p50 > limit {
		a.t.Errorf("the median call takes %s, and took %s before: more than %s", q.p50, a.before.p50, limit)
	}
	if q.max > longestAllowed {
		a.t.Errorf("one call took %s, more than %s", q.max, longestAllowed)
	}
}

// usage is what the node process takes, after it has collected its garbage.
func (a *arena) usage() *api.NodeUsage {
	a.t.Helper()
	res, err := a.node.GetUsage(a.t.Context(), &api.GetUsageRequest{Collect: true})
	if err != nil {
		a.t.Fatal(err)
	}
	return res.GetUsage()
}

// recovers waits until the node takes what it took before.
func (a *arena) recovers(before *api.NodeUsage) {
	a.t.Helper()
	harness.Eventually(a.t, "the node gives back what it took", func(context.Context) error {
		now := a.usage()
		for _, u := range []struct {
			what               string
			now, before, slack uint64
		}{
			{"instances", uint64(now.GetInstances()), uint64(before.GetInstances()), 0},
			{"bytes of guests", now.GetGuestMemoryBytes(), before.GetGuestMemoryBytes(), 0},
			{"bytes of heap", now.GetHeapBytes(), before.GetHeapBytes(), 8 << 20}, // logs and crashes that it keeps
			{"goroutines", uint64(now.GetGoroutines()), uint64(before.GetGoroutines()), 20},
			{"threads", uint64(now.GetThreads()), uint64(before.GetThreads()), 6}, // which Go keeps for later
			{"descriptors", uint64(now.GetDescriptors()), uint64(before.GetDescriptors()), 10},
			{"compilations", uint64(now.GetCompiling()), 0, 0},
		} {
			if u.now > u.before+u.slack {
				return fmt.Errorf("%d %s, %d before", u.now, u.what, u.before)
			}
		}
		return nil
	})
}

// longestAllowed is how long a call or a stop may take at worst: it is milliseconds, but
// for a machine whose cores and disk others take for a while.
const longestAllowed = 5 * time.Second

// stop stops instances one after the other, and fails the test if that takes
// long: by the median, 100 ms, of which the node needs a slice and the rest is the
// way there and back.
func (a *arena) stop(ids []string) {
	a.t.Helper()
	took := make([]time.Duration, 0, len(ids))
	for _, id := range ids {
		began := time.Now()
		if _, err := a.client.Instances.StopInstance(a.t.Context(), &api.StopInstanceRequest{InstanceId: id}); err != nil {
			a.t.Fatalf("stop of %s: %v", id, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	median, longest := took[(len(took)-1)/2], took[len(took)-1]
	a.t.Logf("stopped %d: median %s, longest %s", len(ids), median.Round(time.Microsecond), longest.Round(time.Microsecond))
	if median > 100*time.Millisecond {
		a.t.Errorf("the median stop took %s, more than 100ms", median)
	}
	if longest > longestAllowed {
		a.t.Errorf("one stop took %s, more than %s", longest, longestAllowed)
	}
}
