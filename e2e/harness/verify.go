package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
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
	if errors.Is(err, io.EOF) {
		err = nil // the server had it, and answered before it was sent
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
	for _, n := range c.running(c.Agents()) {
		if !n.Node {
			continue
		}
		agent := apiconnect.NewNodeAgentServiceClient(http.DefaultClient, fmt.Sprintf("http://%s:%d", n.Host(), n.Ports.Node))
		res, err := agent.ListHoldings(ctx, &api.ListHoldingsRequest{})
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

// AwaitNode waits until the state of a node's record is status, "up" or "down".
func (c *Cluster) AwaitNode(n *Agent, status string) {
	c.tb.Helper()
	cl := c.Client()
	Eventually(c.tb, "node "+n.Name+" "+status, func(ctx context.Context) error {
		res, err := cl.Nodes.GetNode(ctx, &api.GetNodeRequest{NodeId: n.Name})
		if err != nil {
			return err
		}
		if got := res.GetNode().GetStatus(); got != status {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// AwaitStatus waits until an instance has a status.
func (c *Cluster) AwaitStatus(cl *client.Client, id string, want api.InstanceStatus) *api.Instance {
	c.tb.Helper()
	var in *api.Instance
	Eventually(c.tb, fmt.Sprintf("%s %s", id, want), func(ctx context.Context) error {
		res, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: id})
		if err != nil {
			return err
		}
		if in = res.GetInstance(); in.GetStatus() != want {
			return fmt.Errorf("it is %s (%s)", in.GetStatus(), in.GetReason())
		}
		return nil
	})
	return in
}

// AssertSameState waits until the running servers have applied the same index
// and sees that their state has the same hash there.
func (c *Cluster) AssertSameState() (hash string) {
	c.tb.Helper()
	servers := c.running(c.Servers)
	clients := make([]*client.Client, len(servers))
	for i, s := range servers {
		clients[i] = c.Client(s)
	}
	Eventually(c.tb, "the same state on all servers", func(ctx context.Context) error {
		var index uint64
		for i, cl := range clients {
			st, err := cl.Cluster.GetStatus(ctx, &api.GetStatusRequest{})
			if err != nil {
				return err
			}
			switch {
			case i == 0:
				index, hash = st.GetStateIndex(), st.GetStateHash()
			case st.GetStateIndex() != index:
				return fmt.Errorf("%s is at index %d, %s at %d", servers[i].Name, st.GetStateIndex(), servers[0].Name, index)
			case st.GetStateHash() != hash:
				c.tb.Fatalf("%s and %s disagree at index %d: %s, %s", servers[i].Name, servers[0].Name, index, st.GetStateHash(), hash)
			}
		}
		return nil
	})
	return hash
}
