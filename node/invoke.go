package node

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// reportWait is how long the answer to an invocation under which the guest ended
// is held back until the control plane has that, so that who gets the answer and
// looks finds no instance that seems healthy.
const reportWait = time.Second

// Invoke calls a function of a reactor on this node and waits for the result.
// Invocations of an instance are executed one at a time, in the order in which
// they came. They wait while the instance starts or is restarted.
//
// INSTANCE_NOT_FOUND means that the instance is not here, CONFLICT that it has
// ended, RESOURCE_EXHAUSTED that too many wait. CRASH_DETECTED means that the guest
// crashed under the invocation; it tells the crash in its details. TIMEOUT without
// an outcome means that it did not begin; one whose outcome is unknown was ended
// together with its instance. When ctx ends first the call goes on, unless it
// has not begun.
func (n *Node) Invoke(ctx context.Context, v wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
	if err := v.Validate(); err != nil {
		return wasmatrix.InvocationResult{}, err
	}
	if v.Timeout == 0 {
		v.Timeout = wasmatrix.DefaultInvokeTimeout
	}
	in, err := n.enqueue(v.Instance)
	if err != nil {
		return wasmatrix.InvocationResult{}, err
	}
	leave := sync.OnceFunc(func() {
		n.mu.Lock()
		in.waiting--
		n.mu.Unlock()
	})
	defer leave()

	deadline := time.Now().Add(v.Timeout)
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	answered := make(chan answer, 1)
	call := &engine.Call{
		Invocation: v, Deadline: deadline,
		Begin: func() bool { leave(); return waiting.Err() == nil },
		Done: func(r wasmatrix.InvocationResult, err error) {
			give := func() { answered <- answer{r, err} }
			if endedRun(err) {
				in.owed = append(in.owed, give)
				return
			}
			give()
		},
	}
	select {
	case in.calls <- call:
	case <-in.commands:
		return wasmatrix.InvocationResult{}, wasmatrix.Errorf(wasmatrix.CodeValidation, "instance %s runs a command module, which takes no invocations", in.id)
	case <-in.done:
		return wasmatrix.InvocationResult{}, n.over(in)
	case <-waiting.Done():
		return wasmatrix.InvocationResult{}, notBegun(ctx, v.Timeout)
	}
	select {
	case a := <-answered:
		return n.told(ctx, in, a)
	case <-ctx.Done():
	case <-waiting.Done():
		// The guest is ended now, which is told at once; or it was never begun.
		select {
		case a := <-answered:
			return n.told(ctx, in, a)
		case <-time.After(reportWait):
		case <-ctx.Done():
		}
	}
	return wasmatrix.InvocationResult{}, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the invocation was not waited for any longer").
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// answer is what became of an invocation.
type answer struct {
	result wasmatrix.InvocationResult
	err    error
}

// enqueue finds an instance and counts an invocation in.
func (n *Node) enqueue(id wasmatrix.InstanceID) (*instance, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := n.instances[id]
	switch {
	case in == nil && n.ended.byID[id] != nil && n.ended.byID[id].final != nil:
		return nil, ended(id, n.ended.byID[id].final.Status)
	case in == nil || in.calls == nil && !in.status.Final():
		return nil, wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "instance %s is not on node %s", id, n.cfg.ID)
	case in.status.Final() || in.stopping:
		return nil, ended(id, in.status)
	case in.waiting >= n.cfg.InvokeQueue:
		return nil, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "%d invocations wait for instance %s, and no more may", in.waiting, id)
	}
	in.waiting++
	return in, nil
}

func ended(id wasmatrix.InstanceID, s wasmatrix.Status) error {
	return wasmatrix.Errorf(wasmatrix.CodeConflict, "instance %s takes no more invocations: it is %s", id, s).With("status", s.String())
}

// over says why an instance took no more invocations while one waited.
func (n *Node) over(in *instance) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.status.Final() || in.stopping {
		return ended(in.id, in.status)
	}
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "instance %s is not on node %s any more", in.id, n.cfg.ID).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

func notBegun(ctx context.Context, timeout time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the invocation waited for %s and was not begun", timeout).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// told returns an answer, after the control plane has what it says of the instance.
func (n *Node) told(ctx context.Context, in *instance, a answer) (wasmatrix.InvocationResult, error) {
	if !endedRun(a.err) {
		return a.result, a.err
	}
	n.mu.Lock()
	var settled <-chan struct{}
	if len(in.pending) > 0 {
		if in.settled == nil {
			in.settled = make(chan struct{})
		}
		settled = in.settled
	}
	n.mu.Unlock()
	if settled != nil {
		t := time.NewTimer(reportWait)
		defer t.Stop()
		select {
		case <-settled:
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return a.result, wasmatrix.AsError(a.err).With("instance", string(in.id)).With("node", string(n.cfg.ID))
}

// settle tells those who wait that all reports of an instance are acknowledged.
// The caller holds mu.
func (in *instance) settle() {
	if in.settled != nil {
		close(in.settled)
		in.settled = nil
	}
}

// endedRun reports whether an answer says that the guest ended under the call.
func endedRun(err error) bool { return err != nil && wasmatrix.AsError(err).Details["kind"] != "" }

// answer gives the answers that were held back until it was stated that the
// guest has ended.
func (s *supervisor) answer() {
	for _, give := range s.in.owed {
		give()
	}
	s.in.owed = nil
}
