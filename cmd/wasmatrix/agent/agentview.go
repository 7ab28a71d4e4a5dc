package agent

import (
	"context"

	"github.com/wasmatrix/wasmatrix/node"
	"github.com/wasmatrix/wasmatrix/rpc"
)

// agentView is the node as servers see it.
type agentView struct{ *node.Node }

var streamsTo = map[node.LogStream]rpc.LogStream{node.LogStdout: rpc.LogStdout, node.LogStderr: rpc.LogStderr}

var streamsFrom = map[rpc.LogStream]node.LogStream{rpc.LogStdout: node.LogStdout, rpc.LogStderr: node.LogStderr}

// Logs converts between the two rooms' forms of the same.
func (v agentView) Logs(ctx context.Context, q rpc.LogQuery, emit func(rpc.LogPiece) error) error {
	opts := node.LogOptions{Stream: streamsFrom[q.Stream], TailLines: q.Tail, Follow: q.Follow}
	return v.Node.Logs(ctx, q.Instance, opts, func(c node.LogChunk) error {
		return emit(rpc.LogPiece{Stream: streamsTo[c.Stream], Data: c.Data, Time: c.Time, Dropped: c.Dropped})
	})
}
