package rpc

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// logPatience is how long a follower waits, after the node of an instance broke
// off, for the instance to be placed anew: longer than the loss of a node takes
// to be noticed.
const logPatience = 15 * time.Second

// StreamLogs passes on what the node of an instance has. It follows an instance
// to the node where it is placed next.
func (i *instances) StreamLogs(ctx context.Context, m *api.StreamLogsRequest, stream *connect.ServerStream[api.StreamLogsResponse]) error {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return err
	}
	if err := checkLogStream(m.GetStream()); err != nil {
		return err
	}
	told, forget := i.feed.watch(id)
	defer forget()
	i.feed.enter()
	defer i.feed.leave()
	// Following ends with the server, too.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(i.closing, func() { cancel(errClosing()) })() //nolint:contextcheck // the server's life, not the call's

	f := &logFollower{instances: i, id: id, request: m, stream: stream, told: told}
	err = f.run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ctx.Err()) {
		return cause
	}
	return err
}

func checkLogStream(s api.LogStream) error {
	if _, ok := api.LogStream_name[int32(s)]; !ok {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "unknown stream %d", int32(s)).With(wasmatrix.DetailField, "stream")
	}
	return nil
}

// logFollower passes on the output of one instance from wherever it is placed.
type logFollower struct {
	*instances
	id      wasmatrix.InstanceID
	request *api.StreamLogsRequest
	stream  *connect.ServerStream[api.StreamLogsResponse]
	told    <-chan struct{}
}

func (f *logFollower) run(ctx context.Context) error {
	inst, err := f.instance(f.id)
	for err == nil {
		if inst.Node == "" {
			if !f.request.GetFollow() || inst.Status.Final() {
				return nil // never placed: there is no output
			}
			inst, err = f.changed(ctx, inst, nil)
			continue
		}
		err = f.node(ctx, inst)
		lost := wasmatrix.CodeOf(err) == wasmatrix.CodeCommunication && !inst.Status.Final()
		if err != nil && !lost || !f.request.GetFollow() || ctx.Err() != nil {
			return err
		}
		// The node had nothing more to send, or is gone.
		was := inst
		if inst, err = f.changed(ctx, was, err); err == nil && inst.Epoch == was.Epoch && inst.Node == was.Node {
			if inst.Status.Final() {
				return nil
			}
		}
	}
	return err
}

// changed waits until the instance is final or placed elsewhere. A failure of its
// node is returned unless that happens soon.
func (f *logFollower) changed(ctx context.Context, was *wasmatrix.Instance, failure error) (*wasmatrix.Instance, error) {
	var patience <-chan time.Time
	if failure != nil {
		t := time.NewTimer(logPatience)
		defer t.Stop()
		patience = t.C
	}
	for {
		inst, err := f.instance(f.id)
		if err != nil || inst.Status.Final() || inst.Node != "" && (inst.Node != was.Node || inst.Epoch != was.Epoch) {
			return inst, err
		}
		select {
		case <-f.told:
		case <-patience:
			return nil, failure
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// node passes on what the node of the instance sends, until it ends the stream.
func (f *logFollower) node(ctx context.Context, inst *wasmatrix.Instance) error {
	node, ok := f.cfg.State.Snapshot().Node(inst.Node)
	if !ok {
		return wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "node %s, which had instance %s, is not known any more", inst.Node, f.id)
	}
	if node.Status == wasmatrix.NodeDown {
		down := wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "node %s, which had instance %s and its output, is down", node.ID, f.id)
		if f.request.GetFollow() && !inst.Status.Final() {
			down.Code = wasmatrix.CodeCommunication // it may be placed elsewhere
		}
		return down
	}
	err := f.agents.Logs(ctx, node.Addr, f.request, f.stream.Send)
	if err != nil && wasmatrix.CodeOf(err) == wasmatrix.CodeCommunication {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "node %s at %s, which has the output of instance %s: %w", node.ID, node.Addr, f.id, err)
	}
	return err
}
