package rpc

import (
	"context"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// nodes serves NodeService.
type nodes struct{ *Server }

func nodeID(s string) (wasmatrix.NodeID, error) {
	id := wasmatrix.NodeID(s)
	return id, field(id.Validate(), "node_id")
}

func nodeNotFound(id wasmatrix.NodeID) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "there is no node %s", id)
}

func (n *nodes) ListNodes(ctx context.Context, m *api.ListNodesRequest) (*api.ListNodesResponse, error) {
	snap, err := n.read(ctx, m.GetStale())
	if err != nil {
		return nil, err
	}
	res := &api.ListNodesResponse{}
	for node := range snap.Nodes() {
		res.Nodes = append(res.Nodes, wire.NodeTo(node, snap.Usage(node.ID)))
	}
	return res, nil
}

func (n *nodes) GetNode(ctx context.Context, m *api.GetNodeRequest) (*api.GetNodeResponse, error) {
	id, err := nodeID(m.GetNodeId())
	if err != nil {
		return nil, err
	}
	snap, err := n.read(ctx, m.GetStale())
	if err != nil {
		return nil, err
	}
	node, ok := snap.Node(id)
	if !ok {
		return nil, nodeNotFound(id)
	}
	res := &api.GetNodeResponse{Node: wire.NodeTo(node, snap.Usage(id))}
	if node.Status == wasmatrix.NodeUp {
		asking, cancel := detailContext(ctx)
		defer cancel()
		if res.Usage, err = n.agents.Usage(asking, node.Addr, false); err != nil {
			n.cfg.Logger.Debug("a node did not tell what it uses", "node", id, "error", err)
		}
	}
	return res, nil
}

func (n *nodes) DrainNode(ctx context.Context, m *api.DrainNodeRequest) (*api.DrainNodeResponse, error) {
	id, err := nodeID(m.GetNodeId())
	if err != nil {
		return nil, err
	}
	req, err := wire.Request(m)
	if err != nil {
		return nil, err
	}
	answer, err := n.cfg.Log.Propose(ctx, wasmatrix.DrainNode{At: now(), Request: req, Node: id, Drain: m.GetDrain()})
	if err != nil {
		return nil, err
	}
	node, _ := answer.(*wasmatrix.Node)
	snap := n.cfg.State.Snapshot()
	if node == nil { // a repeated request
		var ok bool
		if node, ok = snap.Node(id); !ok {
			return nil, nodeNotFound(id)
		}
	}
	return &api.DrainNodeResponse{Node: wire.NodeTo(node, snap.Usage(id))}, nil
}
