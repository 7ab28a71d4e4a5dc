package rpc

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// instances serves InstanceService; starting, watching, logs, invocations and
// crashes have files of their own.
type instances struct{ *Server }

// Bounds of StopInstanceRequest.timeout.
const maxStopTimeout = time.Hour

// StopInstance asks for the stop, and then waits for the node to confirm it.
func (i *instances) StopInstance(ctx context.Context, m *api.StopInstanceRequest) (*api.StopInstanceResponse, error) {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return nil, err
	}
	timeout := wire.DefaultStopTimeout
	if m.GetTimeout() != nil {
		if timeout, err = wire.DurationFrom(m.GetTimeout(), "timeout"); err != nil {
			return nil, err
		}
	}
	if timeout < 0 || timeout > maxStopTimeout {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "timeout %s is not between 0 and %s", timeout, maxStopTimeout).
			With(wasmatrix.DetailField, "timeout")
	}
	req, err := wire.Request(m)
	if err != nil {
		return nil, err
	}
	committing, cancel := context.WithTimeout(ctx, i.cfg.CallTimeout)
	err = i.cfg.Scheduler.Stop(committing, req, id)
	cancel()
	if err != nil {
		return nil, err
	}
	inst, err := i.awaitFinal(ctx, id, timeout)
	if err != nil {
		return nil, err
	}
	return &api.StopInstanceResponse{Instance: wire.InstanceTo(inst)}, nil
}

// awaitFinal waits until an instance that was asked to stop has. The stop is
// committed, whatever comes.
func (i *instances) awaitFinal(ctx context.Context, id wasmatrix.InstanceID, timeout time.Duration) (*wasmatrix.Instance, error) {
	told, forget := i.feed.watch(id)
	defer forget()
	i.feed.enter()
	defer i.feed.leave()
	waited := time.NewTimer(timeout)
	defer waited.Stop()
	for {
		inst, ok := i.cfg.State.Snapshot().Instance(id)
		if !ok {
			return nil, instanceNotFound(id)
		}
		if inst.Status.Final() || timeout == 0 {
			return inst, nil
		}
		committed := func(code wasmatrix.Code, format string, args ...any) error {
			return wasmatrix.Errorf(code, format, args...).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeCommitted).With("node", string(inst.Node))
		}
		select {
		case <-told:
		case <-waited.C:
			return nil, committed(wasmatrix.CodeTimeout, "node %s has not confirmed within %s that instance %s stopped; it will be stopped all the same", inst.Node, timeout, id)
		case <-ctx.Done():
			return nil, committed(wasmatrix.CodeTimeout, "the deadline passed before node %s confirmed that instance %s stopped; it will be stopped all the same", inst.Node, id)
		case <-i.closing.Done():
			return nil, committed(wasmatrix.CodeCommunication, "this server is shutting down; instance %s will be stopped all the same", id)
		}
	}
}

func (i *instances) RestartInstance(ctx context.Context, m *api.RestartInstanceRequest) (*api.RestartInstanceResponse, error) {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return nil, err
	}
	req, err := wire.Request(m)
	if err != nil {
		return nil, err
	}
	inst, err := i.cfg.Scheduler.Restart(ctx, req, id)
	if err != nil {
		return nil, err
	}
	return &api.RestartInstanceResponse{Instance: wire.InstanceTo(inst)}, nil
}

// readMode reports whether a stale answer will do.
func readMode(m api.ReadMode) (stale bool, err error) {
	switch m {
	case api.ReadMode_READ_MODE_UNSPECIFIED, api.ReadMode_READ_MODE_LINEARIZABLE:
		return false, nil
	case api.ReadMode_READ_MODE_STALE:
		return true, nil
	default:
		return false, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "unknown read mode %d", int32(m)).With(wasmatrix.DetailField, "read_mode")
	}
}

// readInstance finds an instance in the state that a read mode asks for.
func (i *instances) readInstance(ctx context.Context, name string, mode api.ReadMode) (wasmatrix.Snapshot, *wasmatrix.Instance, error) {
	id, err := instanceID(name)
	if err != nil {
		return nil, nil, err
	}
	stale, err := readMode(mode)
	if err != nil {
		return nil, nil, err
	}
	snap, err := i.read(ctx, stale)
	if err != nil {
		return nil, nil, err
	}
	inst, ok := snap.Instance(id)
	if !ok {
		return nil, nil, instanceNotFound(id)
	}
	return snap, inst, nil
}

func (i *instances) QueryInstance(ctx context.Context, m *api.QueryInstanceRequest) (*api.QueryInstanceResponse, error) {
	snap, inst, err := i.readInstance(ctx, m.GetInstanceId(), m.GetReadMode())
	if err != nil {
		return nil, err
	}
	res := &api.QueryInstanceResponse{Instance: wire.InstanceTo(inst)}
	for a := range snap.Assignments(inst.ID) {
		res.Capabilities = append(res.Capabilities, wire.CapabilityTo(a))
	}
	if m, ok := snap.Module(inst.Spec.Module); ok {
		for _, typ := range needs(m) {
			res.Needs = append(res.Needs, string(typ))
		}
	}
	return res, nil
}

// Sizes of a page.
const (
	defaultPage = 1000
	maxPage     = 10_000
)

func pageSize(n uint32, name string) (int, error) {
	switch {
	case n == 0:
		return defaultPage, nil
	case n > maxPage:
		return 0, wasmatrix.Errorf(wasmatrix.CodeValidation, "%s %d is above %d", name, n, maxPage).With(wasmatrix.DetailField, name)
	default:
		return int(n), nil
	}
}

// instanceFilter chooses instances; its zero value chooses all.
type instanceFilter struct {
	statuses  []wasmatrix.Status
	node      wasmatrix.NodeID
	selectors []wasmatrix.Constraint
}

func (f *instanceFilter) matches(i *wasmatrix.Instance) bool {
	if len(f.statuses) > 0 && !slices.Contains(f.statuses, i.Status) || f.node != "" && i.Node != f.node {
		return false
	}
	for _, c := range f.selectors {
		if !c.Matches(i.Spec.Labels) {
			return false
		}
	}
	return true
}

// candidates yields the instances above after that may match, by ID.
func (f *instanceFilter) candidates(snap wasmatrix.Snapshot, after wasmatrix.InstanceID) iter.Seq[*wasmatrix.Instance] {
	placed := len(f.statuses) > 0 && !slices.ContainsFunc(f.statuses, func(s wasmatrix.Status) bool { return !s.OnNode() })
	if f.node == "" || !placed {
		return snap.Instances(after)
	}
	return func(yield func(*wasmatrix.Instance) bool) {
		for i := range snap.InstancesOn(f.node) {
			if i.ID > after && !yield(i) {
				return
			}
		}
	}
}

func (i *instances) ListInstances(ctx context.Context, m *api.ListInstancesRequest) (*api.ListInstancesResponse, error) {
	size, err := pageSize(m.GetPageSize(), "page_size")
	if err != nil {
		return nil, err
	}
	filter := &instanceFilter{node: wasmatrix.NodeID(m.GetNode())}
	if filter.node != "" {
		if err := filter.node.Validate(); err != nil {
			return nil, field(err, "node")
		}
	}
	for _, s := range m.GetStatuses() {
		status, err := wire.StatusFrom(s)
		if err != nil {
			return nil, field(err, "statuses")
		}
		filter.statuses = append(filter.statuses, status)
	}
	if filter.selectors, err = wire.ConstraintsFrom(m.GetSelectors(), "selectors"); err != nil {
		return nil, err
	}
	after := wasmatrix.InstanceID(m.GetPageToken())
	if after != "" {
		if err := after.Validate(); err != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "page_token %q was not given by this API", after).With(wasmatrix.DetailField, "page_token")
		}
	}
	stale, err := readMode(m.GetReadMode())
	if err != nil {
		return nil, err
	}
	snap, err := i.read(ctx, stale)
	if err != nil {
		return nil, err
	}
	res := &api.ListInstancesResponse{Index: snap.Index()}
	looked := 0
	for inst := range filter.candidates(snap, after) {
		if looked++; looked%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !filter.matches(inst) {
			continue
		}
		if len(res.Instances) == size {
			// There is one more: the page is not the last.
			res.NextPageToken = res.Instances[size-1].GetInstanceId()
			break
		}
		res.Instances = append(res.Instances, wire.InstanceTo(inst))
	}
	return res, nil
}
