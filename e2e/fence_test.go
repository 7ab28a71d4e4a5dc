package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// TestRestoredEpochBelowTheFence goes back to a state in which an exclusive
// instance has an earlier epoch than those that kv still takes calls of. It comes to
// run above the fence, where its calls succeed.
func TestRestoredEpochBelowTheFence(t *testing.T) {
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("kv led elsewhere=%t", apart), func(t *testing.T) {
			servers := 1
			if apart {
				servers = 3
			}
			c := harness.Start(t, harness.Options{Servers: servers, Nodes: 2})
			cl := c.Client()
			x := startProbe(t, c, cl, "x", always, func(r *api.StartInstanceRequest) { r.Exclusive = true }, withCaps(grant("kv", "kv", "kv:read", "kv:write")))
			x.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: "k", Value: "1"}, 0)
			snap := filepath.Join(t.TempDir(), "state.snap")
			c.CLI(c.Servers[0], "cluster", "snapshot", "save", snap)
			const fence = 3
			for epoch := uint64(2); epoch <= fence; epoch++ {
				c.CLI(c.Servers[0], "restart", "x")
				awaitEpoch(t, cl, "x", epoch)
				x.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: "k", Value: fmt.Sprint(epoch)}, 0)
			}
			if apart {
				leadElsewhere(t, c)
			}

			c.CLI(c.Servers[0], "cluster", "snapshot", "restore", "--force", snap)
			set := probeRequest{Op: "kv.set", Cap: "kv", Key: "k", Value: "restored"}
			harness.Eventually(t, "x runs above the fence, and kv takes its calls", func(ctx context.Context) error {
				epoch, err := runningEpoch(ctx, x)
				if err != nil {
					return err
				}
				if epoch <= fence {
					return fmt.Errorf("it is in epoch %d", epoch)
				}
				r, err := x.call(ctx, set)
				if err != nil {
					return err
				}
				return r.err()
			})
			epoch, err := runningEpoch(t.Context(), x)
			if err != nil || epoch != fence+1 {
				t.Errorf("it runs in epoch %d: %v", epoch, err)
			}
			if r := x.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: "k"}, 0); r.Value != "restored" {
				t.Errorf("it reads %q", r.Value)
			}
			x.must(t, probeRequest{Op: "kv.delete", Cap: "kv", Key: "k"}, abi.ErrDenied)

			// That is the end of it: all leases of before are over, and all that a
			// term looks at once has been.
			for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				if again, err := runningEpoch(t.Context(), x); err != nil || again != epoch {
					t.Fatalf("it went from epoch %d to %d: %v", epoch, again, err)
				}
				x.must(t, set, 0)
			}
			c.AssertRunningOnce(cl, []string{"x"})
			c.AssertSameState()
			assertSameKV(t, c)
		})
	}
}

// runningEpoch is the epoch in which an instance runs.
func runningEpoch(ctx context.Context, p probe) (uint64, error) {
	res, err := p.cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: p.id})
	if err != nil {
		return 0, err
	}
	if s := res.GetInstance().GetStatus(); s != api.InstanceStatus_INSTANCE_STATUS_RUNNING {
		return 0, fmt.Errorf("it is %s in epoch %d", s, res.GetInstance().GetEpoch())
	}
	return res.GetInstance().GetEpoch(), nil
}

// leadElsewhere has another server lead the control plane than leads kv.
func leadElsewhere(t *testing.T, c *harness.Cluster) {
	t.Helper()
	harness.Eventually(t, "two servers lead", func(context.Context) error {
		kv := kvLeader(t, c)
		if kv != c.Leader() {
			return nil
		}
		for _, s := range c.Servers {
			if s != kv {
				c.CLI(s, "cluster", "transfer-leadership", s.Name)
				break
			}
		}
		return fmt.Errorf("%s led both", kv.Name)
	})
}
