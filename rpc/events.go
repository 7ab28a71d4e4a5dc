package rpc

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// events serves EventService.
type events struct{ *Server }

// eventFilter chooses facts; its zero value chooses all.
type eventFilter struct {
	instance wasmatrix.InstanceID
	node     wasmatrix.NodeID
	kinds    []string
}

func eventFilterOf(m *api.EventFilter) (*eventFilter, error) {
	f := &eventFilter{instance: wasmatrix.InstanceID(m.GetInstanceId()), node: wasmatrix.NodeID(m.GetNode()), kinds: m.GetKinds()}
	if f.instance != "" {
		if err := f.instance.Validate(); err != nil {
			return nil, field(err, "filter.instance_id")
		}
	}
	if f.node != "" {
		if err := f.node.Validate(); err != nil {
			return nil, field(err, "filter.node")
		}
	}
	if slices.Contains(f.kinds, "") {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a kind is empty").With(wasmatrix.DetailField, "filter.kinds")
	}
	return f, nil
}

func (f *eventFilter) matches(fact *wasmatrix.Fact) bool {
	return (f.instance == "" || fact.Instance == f.instance) && (f.node == "" || fact.Node == f.node) &&
		(len(f.kinds) == 0 || slices.Contains(f.kinds, string(fact.Kind)))
}

// page collects up to limit facts from an index on. Next is the index to go on
// from, missed how many from there on are kept no more.
func (f *eventFilter) page(snap wasmatrix.Snapshot, from uint64, limit int) (out []*api.Event, next, missed uint64) {
	first, last := snap.FactRange()
	if from < first {
		missed = first - from
		from = first
	}
	next = max(from, last+1)
	for fact := range snap.Facts(from) {
		if !f.matches(fact) {
			continue
		}
		if len(out) == limit {
			return out, fact.Index, missed
		}
		out = append(out, wire.EventTo(fact))
	}
	return out, next, missed
}

func (e *events) ListEvents(ctx context.Context, m *api.ListEventsRequest) (*api.ListEventsResponse, error) {
	filter, err := eventFilterOf(m.GetFilter())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(m.GetLimit(), "limit")
	if err != nil {
		return nil, err
	}
	snap, err := e.read(ctx, m.GetStale())
	if err != nil {
		return nil, err
	}
	first, _ := snap.FactRange()
	from := m.GetFrom()
	if from == 0 {
		from = first
	}
	res := &api.ListEventsResponse{First: first}
	res.Events, res.Next, res.Missed = filter.page(snap, from, limit)
	return res, nil
}

// eventBatch bounds one message of a watch, in facts.
const eventBatch = 256

// WatchEvents is served from the state of the server that was asked. The first
// message comes at once, with or without events, and says where the watch begins.
// An index that this server has not come to is the leader's to judge: this one
// may lag, or the facts before it may be gone with a state that was replaced.
func (e *events) WatchEvents(ctx context.Context, m *api.WatchEventsRequest, stream *connect.ServerStream[api.WatchEventsResponse]) error {
	filter, err := eventFilterOf(m.GetFilter())
	if err != nil {
		return err
	}
	restored := e.cfg.State.Restored()
	if _, last := e.cfg.State.Snapshot().FactRange(); m.GetFrom() > last+1 {
		current, err := e.read(ctx, false)
		if err != nil {
			return err
		}
		if _, last := current.FactRange(); m.GetFrom() > last+1 {
			return wasmatrix.Errorf(wasmatrix.CodeConflict, "fact %d is far from happening, the next is %d: the state may have been replaced by that of a snapshot", m.GetFrom(), last+1).
				With(wasmatrix.DetailField, "from")
		}
	}
	snap, newer := e.feed.enter()
	defer e.feed.leave()
	_, last := snap.FactRange()
	next := m.GetFrom()
	if next == 0 {
		next = last + 1
	}
	for first := true; ; first = false {
		for more := true; more; {
			from := next
			res := &api.WatchEventsResponse{}
			res.Events, res.Next, res.Missed = filter.page(snap, from, eventBatch)
			next = res.Next
			more = len(res.Events) == eventBatch
			if len(res.Events) == 0 && res.Missed == 0 && !first {
				continue
			}
			if err := stream.Send(res); err != nil {
				return err
			}
			first = false
		}
		select {
		case <-newer:
			snap, newer = e.feed.next()
		case <-restored:
			return errReplaced()
		case <-ctx.Done():
			return ctx.Err()
		case <-e.closing.Done():
			return errClosing()
		}
	}
}
