package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// Push pushes a module file and returns its digest.
func Push(ctx context.Context, cl *client.Client, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	stream, err := cl.Modules.PushModule(ctx)
	if err != nil {
		return "", err
	}
	header := &api.PushModuleHeader{Digest: digest, SizeBytes: int64(len(b))}
	err = stream.Send(&api.PushModuleRequest{Part: &api.PushModuleRequest_Header{Header: header}})
	for chunk := range slices.Chunk(b, 256<<10) {
		if err != nil {
			break
		}
		err = stream.Send(&api.PushModuleRequest{Part: &api.PushModuleRequest_Data{Data: chunk}})
	}
	if _, closeErr := stream.CloseAndReceive(); closeErr != nil { // says why a send failed, too
		return "", closeErr
	}
	return digest, err
}

// List returns every instance, by ID, from a linearizable read.
func List(ctx context.Context, cl *client.Client) (map[string]*api.Instance, error) {
	all := map[string]*api.Instance{}
	for token := ""; ; {
		res, err := cl.Instances.ListInstances(ctx, &api.ListInstancesRequest{PageSize: 10_000, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, in := range res.GetInstances() {
			all[in.GetInstanceId()] = in
		}
		if token = res.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// Held asks every running node process itself which instances it runs: the
// nodes that hold each instance, by instance.
func (c *Cluster) Held(ctx context.Context) (map[string][]string, error) {
	held := map[string][]string{}
	for _, n := range c.running(c.Nodes) {
		res, err := n.agentClient().ListHoldings(ctx, &api.ListHoldingsRequest{})
		if err != nil {
			return nil, fmt.Errorf("holdings of %s: %w", n.Name, err)
		}
		for _, h := range res.GetHoldings() {
			if h.GetStatus() == api.InstanceStatus_INSTANCE_STATUS_RUNNING {
				held[h.GetInstanceId()] = append(held[h.GetInstanceId()], n.Name)
			}
		}
	}
	return held, nil
}

// CheckRunningOnce returns nil if every one of ids is recorded as running and
// is run by the node that the record names and by no other.
func (c *Cluster) CheckRunningOnce(ctx context.Context, cl *client.Client, ids []string) error {
	instances, err := List(ctx, cl)
	if err != nil {
		return err
	}
	held, err := c.Held(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		in := instances[id]
		switch {
		case in == nil:
			return fmt.Errorf("%s was acknowledged and is not known", id)
		case in.GetStatus() != api.InstanceStatus_INSTANCE_STATUS_RUNNING:
			return fmt.Errorf("%s is %s (%s)", id, in.GetStatus(), in.GetReason())
		case len(held[id]) != 1 || held[id][0] != in.GetNode():
			return fmt.Errorf("%s is recorded on %s and run by %v", id, in.GetNode(), held[id])
		}
	}
	return nil
}

// AssertRunningOnce waits until [Cluster.CheckRunningOnce] is content.
func (c *Cluster) AssertRunningOnce(cl *client.Client, ids []string) {
	c.tb.Helper()
	Eventually(c.tb, fmt.Sprintf("all %d acknowledged instances running, each once", len(ids)), func(ctx context.Context) error {
		return c.CheckRunningOnce(ctx, cl, ids)
	})
}
