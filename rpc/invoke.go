package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

const (
	// placementPatience is how long an invocation waits for its instance to be
	// where it can be called: longer than the loss of a node takes to be noticed.
	placementPatience = 15 * time.Second
	// placementPoll is how often it looks again where nothing tells it to: a node
	// that was not reached, or that was not yet told of the instance, may answer
	// the next time.
	placementPoll = 100 * time.Millisecond
	// nodeMargin is what a node's answer may take beyond the call's own time.
	nodeMargin = 5 * time.Second
)

// invocation reads a request and checks all that can be checked without knowing
// the instance.
func invocation(m *api.InvokeInstanceRequest) (wasmatrix.Invocation, error) {
	if _, err := instanceID(m.GetInstanceId()); err != nil {
		return wasmatrix.Invocation{}, err
	}
	inv, err := wire.InvocationFrom(m)
	if err != nil {
		return inv, err
	}
	if err := inv.Validate(); err != nil {
		return inv, err
	}
	if inv.Timeout == 0 {
		inv.Timeout = wasmatrix.DefaultInvokeTimeout
	}
	return inv, nil
}

// InvokeInstance has the node of the instance execute the call, from whichever
// server was asked. It is never executed twice: the call is sent again only
// where the node cannot have begun it.
func (i *instances) InvokeInstance(ctx context.Context, m *api.InvokeInstanceRequest) (*api.InvokeInstanceResponse, error) {
	start := time.Now()
	inv, err := invocation(m)
	if err != nil {
		return nil, err
	}
	v := &invoker{instances: i, id: inv.Instance, request: m, start: start, deadline: start.Add(inv.Timeout)}
	defer v.forget()
	for {
		inst, err := i.instance(v.id)
		if err != nil {
			return nil, err
		}
		node, why, err := i.callable(inst)
		if err != nil {
			return nil, err
		}
		if why == nil {
			var res *api.InvokeInstanceResponse
			if res, why, err = v.call(ctx, node); why == nil {
				return res, err
			}
		}
		if err := v.wait(ctx, why); err != nil {
			return nil, err
		}
	}
}

// instance finds an instance, on the leader if it is not known here: an error of
// this server is sent only where the leader has the same.
func (i *instances) instance(id wasmatrix.InstanceID) (*wasmatrix.Instance, error) {
	if inst, ok := i.cfg.State.Snapshot().Instance(id); ok {
		return inst, nil
	}
	if err := leading(i.cfg.Leadership); err != nil {
		return nil, err
	}
	return nil, instanceNotFound(id)
}

// callable returns the node that can be asked to call a function of the
// instance; or why there is none at the moment; or the error that there will
// never be one.
func (i *instances) callable(inst *wasmatrix.Instance) (node *wasmatrix.Node, why *wasmatrix.Error, err error) {
	snap := i.cfg.State.Snapshot()
	if m, ok := snap.Module(inst.Spec.Module); ok && m.Kind == wasmatrix.ModuleCommand {
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "instance %s runs a command, which has no functions to call: it does its work and ends", inst.ID).
			With(wasmatrix.DetailField, "instance_id")
	}
	switch {
	case inst.Status.Final():
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "instance %s has %s", inst.ID, inst.Status).With("status", inst.Status.String())
	case inst.StopRequested:
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "instance %s is being stopped", inst.ID).With("status", inst.Status.String())
	case !inst.Status.OnNode():
		return nil, notNow("instance %s is %s: it is on no node", inst.ID, inst.Status), nil
	}
	node, ok := snap.Node(inst.Node)
	if !ok || node.Status != wasmatrix.NodeUp {
		return nil, notNow("node %s, which has instance %s, is down", inst.Node, inst.ID), nil
	}
	return node, nil, nil
}

// notNow is why a call could not be made, with no effect.
func notNow(format string, args ...any) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, format, args...).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// invoker is one call on its way to the node of its instance.
type invoker struct {
	*instances
	id       wasmatrix.InstanceID
	request  *api.InvokeInstanceRequest
	start    time.Time
	deadline time.Time // of the call

	told   <-chan struct{} // when something happened to the instance; nil before wait
	unwind func()
}

// call has a node execute the call. Why says that it did not, and that it, or
// another, may later.
func (v *invoker) call(ctx context.Context, node *wasmatrix.Node) (res *api.InvokeInstanceResponse, why *wasmatrix.Error, err error) {
	ctx, cancel := context.WithDeadline(ctx, v.deadline.Add(nodeMargin))
	defer cancel()
	left := time.Until(v.deadline)
	if left <= 0 {
		return nil, nil, v.late(nil)
	}
	// The message is this call's own; the data is not copied.
	m := &api.InvokeInstanceRequest{
		InstanceId: v.request.GetInstanceId(), Function: v.request.GetFunction(),
		Args: v.request.GetArgs(), Data: v.request.Data, Timeout: durationpb.New(left),
	}
	res, err = v.agents.Invoke(ctx, node.Addr, m)
	if err == nil {
		return res, nil, nil
	}
	e := wire.FromConnect(err)
	switch {
	case e.Code == wasmatrix.CodeInstanceNotFound:
		return nil, notNow("node %s does not have instance %s", node.ID, v.id), nil
	case e.Code == wasmatrix.CodeCommunication && e.Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeNone:
		return nil, notNow("node %s at %s, which has instance %s: %s", node.ID, node.Addr, v.id, e.Message), nil
	case e.Code == wasmatrix.CodeCommunication:
		e = wasmatrix.Errorf(e.Code, "node %s at %s, which has instance %s: %w", node.ID, node.Addr, v.id, err).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	}
	return nil, nil, e
}

// late says that the time of the call passed before it began.
func (v *invoker) late(why *wasmatrix.Error) error {
	reason := ""
	if why != nil {
		reason = ": " + why.Message
	}
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the call of %s did not begin within %s%s", v.id, v.deadline.Sub(v.start), reason).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// wait returns nil when it is worth looking again, and the error to answer with
// when it is not.
func (v *invoker) wait(ctx context.Context, why *wasmatrix.Error) error {
	if v.told == nil {
		told, forget := v.feed.watch(v.id)
		v.feed.enter()
		v.told, v.unwind = told, func() { v.feed.leave(); forget() }
		return nil // what happened before has to be looked for once
	}
	poll := time.NewTimer(placementPoll)
	defer poll.Stop()
	select {
	case <-v.told:
	case <-poll.C:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return v.late(why)
		}
		return ctx.Err()
	case <-v.closing.Done():
		return errClosing()
	}
	switch now := time.Now(); {
	case now.After(v.deadline):
		return v.late(why)
	case now.Sub(v.start) > placementPatience:
		return why
	default:
		return nil
	}
}

func (v *invoker) forget() {
	if v.unwind != nil {
		v.unwind()
	}
}
