package client

import (
	"context"
	"net/http"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Agents calls node processes at the addresses of their records. It repeats
// nothing. Where nothing listens at an address, the error wraps
// [syscall.ECONNREFUSED].
type Agents struct {
	nodes apiconnect.NodeAgentServiceClient
}

// executeTimeout bounds what a node answers at once, where the context does not:
// it takes orders before it carries them out.
const executeTimeout = 10 * time.Second

// NewAgents makes the client over a transport such as that of [NewTransport],
// which stays the caller's.
func NewAgents(rt http.RoundTripper) *Agents {
	return &Agents{nodes: apiconnect.NewNodeAgentServiceClient(newRouter(rt, nil), baseURL, internal...)}
}

// Execute hands orders of the leader of a term, which were read from the state at
// a log index, to a node and returns once it has taken them. It may have taken
// them although it fails.
func (a *Agents) Execute(ctx context.Context, node *wasmatrix.Node, term, index uint64, orders []wasmatrix.Order) error {
	ctx, cancel := context.WithTimeout(ctx, executeTimeout)
	defer cancel()
	_, err := a.nodes.Execute(withTarget(ctx, node.Addr), wire.OrdersTo(term, node.Boot, index, orders))
	return err
}

// SetGrants replaces what instances were given on a node, by the state at a log
// index, and returns when every call under way that is not allowed any more has
// ended there. The context bounds it; the node may have obeyed although it fails.
func (a *Agents) SetGrants(ctx context.Context, node *wasmatrix.Node, term, index uint64, sets []*wasmatrix.GrantSet) error {
	_, err := a.nodes.SetGrants(withTarget(ctx, node.Addr), &api.SetGrantsRequest{
		Term: term, BootId: string(node.Boot), Index: index, Sets: wire.GrantSetsTo(sets),
	})
	return err
}

// SetProviders tells a node of all providers, by the state at a log index.
func (a *Agents) SetProviders(ctx context.Context, node *wasmatrix.Node, term, index uint64, providers []wasmatrix.PlacedProvider) error {
	ctx, cancel := context.WithTimeout(ctx, executeTimeout)
	defer cancel()
	_, err := a.nodes.SetProviders(withTarget(ctx, node.Addr), &api.SetProvidersRequest{
		Term: term, BootId: string(node.Boot), Index: index, Providers: wire.PlacedProvidersTo(providers),
	})
	return err
}

// Ping returns the boot of the process that answers at the node's address. A
// process of another node there is NODE_NOT_FOUND.
func (a *Agents) Ping(ctx context.Context, node *wasmatrix.Node) (wasmatrix.BootID, error) {
	res, err := a.nodes.Ping(withTarget(ctx, node.Addr), &api.PingRequest{})
	if err != nil {
		return "", err
	}
	if id := wasmatrix.NodeID(res.GetNodeId()); id != node.ID {
		return "", wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "node %s answers at %s, the address of %s", id, node.Addr, node.ID)
	}
	return wasmatrix.BootID(res.GetBootId()), nil
}

// Attach opens a stream to a node and returns when it breaks, which it does at
// once when the node's process ends. The error is never nil.
func (a *Agents) Attach(ctx context.Context, node *wasmatrix.Node, term uint64) error {
	stream, err := a.nodes.Attach(withTarget(ctx, node.Addr), &api.AttachRequest{Term: term})
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if boot := wasmatrix.BootID(stream.Msg().GetBootId()); boot != node.Boot {
			return wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "node %s is process %s now, no longer %s", node.ID, boot, node.Boot)
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "node %s ended the stream", node.ID)
}

// Invoke calls a function of an instance on the node at addr. The context bounds
// it; the request says how long the node may take.
func (a *Agents) Invoke(ctx context.Context, addr string, m *api.InvokeInstanceRequest) (*api.InvokeInstanceResponse, error) {
	res, err := a.nodes.Invoke(withTarget(ctx, addr), &api.InvokeRequest{Request: m})
	if err != nil {
		return nil, err
	}
	return res.GetResponse(), nil
}

// CrashDetails returns what the node at addr remembers of an instance's crashes.
func (a *Agents) CrashDetails(ctx context.Context, addr string, id wasmatrix.InstanceID) ([]*api.CrashDetail, error) {
	res, err := a.nodes.GetCrashDetails(withTarget(ctx, addr), &api.GetCrashDetailsRequest{InstanceId: string(id)})
	if err != nil {
		return nil, err
	}
	return res.GetDetails(), nil
}

// Usage returns what the process of the node at addr takes, after a garbage
// collection if collect.
func (a *Agents) Usage(ctx context.Context, addr string, collect bool) (*api.NodeUsage, error) {
	res, err := a.nodes.GetUsage(withTarget(ctx, addr), &api.GetUsageRequest{Collect: collect})
	if err != nil {
		return nil, err
	}
	return res.GetUsage(), nil
}

// Prepare offers a module to the node at addr, and returns whether it takes it on.
func (a *Agents) Prepare(ctx context.Context, addr string, d wasmatrix.Digest) (bool, error) {
	res, err := a.nodes.PrepareModule(withTarget(ctx, addr), &api.PrepareModuleRequest{Module: d.String()})
	return res.GetAccepted(), err
}

// Logs calls emit for each piece of an instance's output that the node at addr
// sends.
func (a *Agents) Logs(ctx context.Context, addr string, q *api.StreamLogsRequest, emit func(*api.StreamLogsResponse) error) error {
	stream, err := a.nodes.Logs(withTarget(ctx, addr), q)
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if err := emit(stream.Msg()); err != nil {
			return err
		}
	}
	return stream.Err()
}
