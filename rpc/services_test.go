package rpc_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// protocols are the ways in which the same client program speaks.
var protocols = map[string][]connect.ClientOption{
	"connect":      nil,
	"connect-json": {connect.WithProtoJSON()},
	"connect-get":  {connect.WithHTTPGet()},
	"grpc":         {connect.WithGRPC()},
	"grpc-web":     {connect.WithGRPCWeb()},
	"gzip":         {connect.WithSendGzip()},
}

// TestLifecycle runs one program through every protocol against a follower.
func TestLifecycle(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3)
			addNode(t, c, "n1", "127.0.0.1:1")
			cl := c.Client(func(cfg *client.Config) { cfg.Options = opts }, 1)
			ctx := t.Context()

			started, err := cl.Instances.StartInstance(ctx, &api.StartInstanceRequest{
				Module: &api.StartInstanceRequest_ModuleBytes{ModuleBytes: wasm}, InstanceId: "web", Count: 2,
				Labels:       map[string]string{"app": "web"},
				Capabilities: []*api.CapabilityGrant{{CapabilityId: "c", Type: "kv", Permissions: []string{"kv:read"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"web-1", "web-2"}; !slices.Equal(started.InstanceIds, want) || started.InstanceId != "web-1" {
				t.Fatalf("started %v, want %v", started, want)
			}
			report(t, c, "n1", "web-1", 1, wasmatrix.StatusRunning)

			q, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: "web-1"})
			if err != nil {
				t.Fatal(err)
			}
			if q.Instance.Status != api.InstanceStatus_INSTANCE_STATUS_RUNNING || len(q.Capabilities) != 1 {
				t.Fatalf("query says %v", q)
			}
			assigned, err := cl.Capabilities.AssignCapability(ctx, &api.AssignCapabilityRequest{
				InstanceId: "web-1", CapabilityId: "h", Type: "http", Permissions: []string{"http:domain:example.com"},
			})
			if err != nil || assigned.Capability.CapabilityId != "h" || assigned.Capability.CreatedAt == nil {
				t.Fatalf("assigned %v, %v", assigned, err)
			}
			if _, err := cl.Capabilities.RevokeCapability(ctx, &api.RevokeCapabilityRequest{InstanceId: "web-1", CapabilityId: "c"}); err != nil {
				t.Fatal(err)
			}
			caps, err := cl.Capabilities.ListCapabilities(ctx, &api.ListCapabilitiesRequest{InstanceId: "web-1"})
			if err != nil || len(caps.Capabilities) != 1 || caps.Capabilities[0].CapabilityId != "h" {
				t.Fatalf("capabilities %v, %v", caps, err)
			}
			list, err := cl.Instances.ListInstances(ctx, &api.ListInstancesRequest{Selectors: []string{"app=web"}, PageSize: 1})
			if err != nil || len(list.Instances) != 1 || list.NextPageToken != "web-1" {
				t.Fatalf("list %v, %v", list, err)
			}
			list, err = cl.Instances.ListInstances(ctx, &api.ListInstancesRequest{PageSize: 1, PageToken: list.NextPageToken})
			if err != nil || len(list.Instances) != 1 || list.Instances[0].InstanceId != "web-2" || list.NextPageToken != "" {
				t.Fatalf("second page %v, %v", list, err)
			}
			restarted, err := cl.Instances.RestartInstance(ctx, &api.RestartInstanceRequest{InstanceId: "web-2"})
			if err != nil || restarted.Instance.Epoch != 2 {
				t.Fatalf("restarted %v, %v", restarted, err)
			}
			if _, err := cl.Nodes.DrainNode(ctx, &api.DrainNodeRequest{NodeId: "n1", Drain: true}); err != nil {
				t.Fatal(err)
			}
			node, err := cl.Nodes.GetNode(ctx, &api.GetNodeRequest{NodeId: "n1"})
			if err != nil || !node.Node.Draining || node.Node.Used.Instances != 2 {
				t.Fatalf("node %v, %v", node, err)
			}
			crash, err := cl.Instances.GetCrashInfo(ctx, &api.GetCrashInfoRequest{InstanceId: "web-1"})
			if err != nil || crash.Crashed {
				t.Fatalf("crash info %v, %v", crash, err)
			}
			pushed, err := cl.PushModule(ctx, client.Push{Bytes: bytes.NewReader(wasm), Size: int64(len(wasm)), Name: "empty"})
			if err != nil || !pushed.Existed || !slices.Equal(pushed.Module.Names, []string{"empty"}) || pushed.Module.Users != 2 {
				t.Fatalf("pushed %v, %v", pushed, err)
			}
			for _, ref := range []string{"empty", pushed.Module.Digest, pushed.Module.Digest[:20], pushed.Module.Digest[7:15]} {
				if m, err := cl.Modules.InspectModule(ctx, &api.InspectModuleRequest{Module: ref}); err != nil || m.Module.Digest != pushed.Module.Digest {
					t.Fatalf("inspect %s: %v, %v", ref, m, err)
				}
			}
			events, err := cl.Events.ListEvents(ctx, &api.ListEventsRequest{Filter: &api.EventFilter{InstanceId: "web-1"}})
			if err != nil || len(events.Events) < 4 || events.Next == 0 {
				t.Fatalf("events %v, %v", events, err)
			}
			peers, err := cl.Cluster.ListPeers(ctx, &api.ListPeersRequest{})
			if err != nil || len(peers.Peers) != 3 || !peers.Peers[0].Leader {
				t.Fatalf("peers %v, %v", peers, err)
			}
			status, err := cl.Cluster.GetStatus(ctx, &api.GetStatusRequest{})
			group := &api.HostedGroup{
				Name: "kv", State: "follower", Term: 1, LeaderId: "s.1", CommitIndex: 2, AppliedIndex: 3, StateHash: "ab", StateIndex: 4,
				Voters: 5, Namespaces: 6, Keys: 7, Bytes: 8,
			}
			if err == nil && (len(status.Groups) != 1 || !proto.Equal(status.Groups[0], group)) {
				t.Errorf("hosted groups %v", status.Groups)
			}
			if err != nil || status.State != "follower" || status.NodesUp != 1 || status.InstancesByStatus["running"] != 1 {
				t.Fatalf("status %v, %v", status, err)
			}
		})
	}
}

func TestModulesAreSentInPieces(t *testing.T) {
	c := newCluster(t, 2)
	big := append(slices.Clone(wasm), custom(900_000)...)
	cl := c.Client(nil, 1)
	var told []int64
	res, err := cl.PushModule(t.Context(), client.Push{
		Bytes: bytes.NewReader(big), Size: int64(len(big)), Name: "big", Progress: func(sent, _ int64) { told = append(told, sent) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Existed || res.Module.SizeBytes != int64(len(big)) || len(told) < 3 || told[len(told)-1] != int64(len(big)) {
		t.Errorf("pushed %v, progress %v", res, told)
	}
	transfer := client.NewTransfer(newTransport(t))
	var got bytes.Buffer
	if err := transfer.Fetch(t.Context(), c.Servers[1].Addr, wasmatrix.DigestOf(big), &got); err != nil || !bytes.Equal(got.Bytes(), big) {
		t.Errorf("fetched %d bytes of %d: %v", got.Len(), len(big), err)
	}
	other := append(slices.Clone(wasm), custom(300_000)...)
	d := wasmatrix.DigestOf(other)
	if err := transfer.Store(t.Context(), c.Servers[1].Addr, d, int64(len(other)), bytes.NewReader(other)); err != nil || !c.Modules.Has(d) {
		t.Errorf("stored: %v", err)
	}
	err = transfer.Fetch(t.Context(), c.Servers[0].Addr, wasmatrix.DigestOf([]byte("none")), &got)
	if wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
		t.Errorf("fetching what is not there: %v", err)
	}
	err = transfer.Store(t.Context(), c.Servers[1].Addr, d, int64(len(other)), bytes.NewReader(big))
	if wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("storing more than was announced: %v", err)
	}
}

// custom is a custom section of n bytes and a few.
func custom(n int) []byte {
	size := n + 2 // name length and name
	out := []byte{0}
	for v := size; ; v >>= 7 {
		if v < 0x80 {
			out = append(out, byte(v))
			break
		}
		out = append(out, byte(v)|0x80)
	}
	return append(append(out, 1, 'x'), bytes.Repeat([]byte{7}, n)...)
}

func TestStartIsAnsweredOnce(t *testing.T) {
	c := newCluster(t, 2)
	addNode(t, c, "n1", "127.0.0.1:1")
	addModule(t, c, "m")
	cl := c.Client(nil)
	req := &api.StartInstanceRequest{RequestId: "r1", Module: &api.StartInstanceRequest_ModuleName{ModuleName: "m"}}
	first, err := cl.Instances.StartInstance(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first.InstanceId, "i-") || len(first.InstanceId) != 15 {
		t.Errorf("instance ID %q was drawn", first.InstanceId)
	}
	c.SetLeader(1)
	again, err := cl.Instances.StartInstance(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if again.InstanceId != first.InstanceId || !again.Duplicate || first.Duplicate {
		t.Errorf("first %v, again %v", first, again)
	}
	req.Args = []string{"other"}
	if _, err := cl.Instances.StartInstance(t.Context(), req); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
		t.Errorf("another body under the same request ID: %v", err)
	}
}

func TestRemoveModuleIsAnsweredOnce(t *testing.T) {
	c := newCluster(t, 1)
	addModule(t, c, "m")
	cl := c.Client(nil)
	req := &api.RemoveModuleRequest{RequestId: "r1", Module: "m"}
	for range 2 {
		if _, err := cl.Modules.RemoveModule(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	req.RequestId = "r2"
	if _, err := cl.Modules.RemoveModule(t.Context(), req); wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
		t.Errorf("removing it once more: %v", err)
	}
}
