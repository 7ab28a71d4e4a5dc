package e2e

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// TestP23_PausedNodeHasNoEffects pauses the node of an exclusive instance past its
// lease, has the instance placed anew, and lets the old node go on: none of its calls
// lands after the first of the new epoch, neither in kv nor at a server outside the
// cluster (I6).
func TestP23_PausedNodeHasNoEffects(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	allowLoopback(t, cl)
	rec := newRecorder(t, nil)
	reader := startProbe(t, c, cl, "reader", always, withCaps(shared(grant("kv", "kv", "kv:read"), "x")))
	startGuest(t, c, cl, "x", harness.Wasm(t, probePkg, false), always, func(r *api.StartInstanceRequest) {
		r.Exclusive = true
		r.Args = []string{"all", "kv", "k", "http", rec.URL}
		r.Capabilities = []*api.CapabilityGrant{shared(grant("kv", "kv", "kv:write"), "x"), grant("http", "http", "http:request")}
	})
	for round := range 3 {
		rec.await(t, len(rec.arrivals())+10)
		in := c.AwaitStatus(cl, "x", api.InstanceStatus_INSTANCE_STATUS_RUNNING)
		epoch := in.GetEpoch()
		old := agentNamed(t, c, in.GetNode())
		old.Pause()
		next := awaitEpoch(t, cl, "x", epoch+1)
		if next.GetNode() == old.Name {
			t.Fatalf("placed anew on %s, which is paused", old.Name)
		}
		before := len(rec.arrivals())
		rec.await(t, before+20) // the new epoch has effects
		old.Resume()
		c.AwaitNode(old, "up")
		rec.await(t, len(rec.arrivals())+20)

		first := time.Time{}
		for _, a := range rec.arrivals() {
			n, err := strconv.ParseUint(a.epoch, 10, 64)
			if err != nil || a.instance != "x" {
				t.Fatalf("a request of %q, epoch %q", a.instance, a.epoch)
			}
			switch {
			case n > epoch && first.IsZero():
				first = a.at
			case n <= epoch && !first.IsZero():
				t.Fatalf("round %d: a request of epoch %d came %s after the first of epoch %d", round, n, a.at.Sub(first), epoch+1)
			}
		}
		if first.IsZero() {
			t.Fatalf("round %d: nothing came from epoch %d", round, epoch+1)
		}
		// The guest writes numbers that rise from zero in each epoch: while the new one
		// writes, they never jump to those of the old.
		last := -1
		for range 50 {
			r := reader.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: "k"}, 0)
			n, err := strconv.Atoi(r.Value)
			if err != nil || n < last {
				t.Fatalf("round %d: the value went from %d to %q (%v)", round, last, r.Value, err)
			}
			last = n
		}
	}
	reader.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: "k"}, abi.ErrDenied)
	c.AssertSameState()
}

// awaitEpoch waits until an instance runs in an epoch.
func awaitEpoch(t *testing.T, cl *client.Client, id string, epoch uint64) (in *api.Instance) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("epoch %d of %s", epoch, id), func(ctx context.Context) error {
		res, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: id})
		if err != nil {
			return err
		}
		in = res.GetInstance()
		if in.GetEpoch() != epoch || in.GetStatus() != api.InstanceStatus_INSTANCE_STATUS_RUNNING {
			return fmt.Errorf("it is %s in epoch %d", in.GetStatus(), in.GetEpoch())
		}
		return nil
	})
	return in
}

func agentNamed(t *testing.T, c *harness.Cluster, name string) *harness.Agent {
	t.Helper()
	for _, a := range c.Agents() {
		if a.Name == name {
			return a
		}
	}
	t.Fatalf("no agent %s", name)
	return nil
}
