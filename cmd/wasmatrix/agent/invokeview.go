package agent

import (
	"context"

	"github.com/wasmatrix/wasmatrix"
)

// meteredNode is what a node that meters its guests does besides.
type meteredNode interface {
	Invoke(context.Context, wasmatrix.Invocation) (wasmatrix.InvocationResult, error)
	CrashDetails(wasmatrix.InstanceID) []wasmatrix.CrashDetail
	Usage(collect bool) wasmatrix.NodeUsage
	Prepare(wasmatrix.Digest) bool
}

// Invoke implements rpc.Agent.
func (v agentView) Invoke(ctx context.Context, inv wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
	if n, ok := any(v.Node).(meteredNode); ok {
		return n.Invoke(ctx, inv)
	}
	return wasmatrix.InvocationResult{}, wasmatrix.Errorf(wasmatrix.CodeValidation, "this node does not invoke functions")
}

// CrashDetails implements rpc.Agent.
func (v agentView) CrashDetails(id wasmatrix.InstanceID) []wasmatrix.CrashDetail {
	if n, ok := any(v.Node).(meteredNode); ok {
		return n.CrashDetails(id)
	}
	return nil
}

// Usage implements rpc.Agent.
func (v agentView) Usage(collect bool) wasmatrix.NodeUsage {
	if n, ok := any(v.Node).(meteredNode); ok {
		return n.Usage(collect)
	}
	return wasmatrix.NodeUsage{}
}

// Prepare implements rpc.Agent.
func (v agentView) Prepare(d wasmatrix.Digest) bool {
	n, ok := any(v.Node).(meteredNode)
	return ok && n.Prepare(d)
}
