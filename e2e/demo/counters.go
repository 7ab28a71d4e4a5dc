package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

const (
	counterWriters = 3
	countEach      = 400
)

func counterID(n int) string { return "counter-" + strconv.Itoa(n) }

// counters starts guests that count in one key of the embedded kv, by compare-and-
// swap, while everything that follows happens.
func (d *demo) counters(ctx context.Context, path string) error {
	digest, err := harness.Push(ctx, d.client, path)
	if err != nil {
		return err
	}
	began := time.Now()
	for n := range counterWriters {
		if _, err := d.client.Instances.StartInstance(ctx, &api.StartInstanceRequest{
			InstanceId: counterID(n), Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
			Args:    []string{"-writer", counterID(n), "-n", strconv.Itoa(countEach), "-pause", "2ms"},
			Restart: &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ON_FAILURE},
			Capabilities: []*api.CapabilityGrant{{
				CapabilityId: "kv", Type: "kv", Permissions: []string{"kv:read:counter", "kv:write:counter"}, Namespace: "demo",
			}},
		}); err != nil {
			return err
		}
	}
	d.took(began, "%d guests count in one key of the embedded kv", counterWriters)
	return nil
}

// counted sees that they have counted exactly, each to its number: what one
// prints as the sum of all is nowhere more, and in the end no less.
func (d *demo) counted(ctx context.Context) error {
	most := 0
	for n := range counterWriters {
		if err := d.await(ctx, counterID(n), api.InstanceStatus_INSTANCE_STATUS_STOPPED); err != nil {
			return err
		}
		out, err := d.logs(ctx, counterID(n))
		if err != nil {
			return err
		}
		var name string
		var own, all int
		if _, err := fmt.Sscanf(lastLine(out), "%s counted to %d, all to %d", &name, &own, &all); err != nil {
			return fmt.Errorf("%s printed %q: %w", counterID(n), out, err)
		}
		if own != countEach || all > counterWriters*countEach {
			return fmt.Errorf("%s counted to %d of %d, and all to %d", counterID(n), own, countEach, all)
		}
		most = max(most, all)
	}
	if most != counterWriters*countEach {
		return fmt.Errorf("all counted to %d, not %d", most, counterWriters*countEach)
	}
	d.say("the counters counted through both kills, to exactly %d", most)
	return nil
}
