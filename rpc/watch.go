package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// WatchInstances is served from the state of the server that was asked, which
// may lag behind the leader for a moment but misses nothing.
func (i *instances) WatchInstances(ctx context.Context, m *api.WatchInstancesRequest, stream *connect.ServerStream[api.WatchInstancesResponse]) error {
	filter := &instanceFilter{}
	var err error
	if filter.selectors, err = wire.ConstraintsFrom(m.GetSelectors(), "selectors"); err != nil {
		return err
	}
	var id wasmatrix.InstanceID
	if m.GetInstanceId() != "" {
		if id, err = instanceID(m.GetInstanceId()); err != nil {
			return err
		}
	}
	stale, err := readMode(m.GetReadMode())
	if err != nil {
		return err
	}
	// The view that the feed begins with is taken later, so it is no older.
	if _, err := i.read(ctx, stale); err != nil {
		return err
	}
	w := &instanceWatch{stream: stream, filter: filter, final: make(map[wasmatrix.InstanceID]struct{})}
	if id == "" {
		return i.watchAll(ctx, w)
	}
	return i.watchOne(ctx, w, id)
}

// instanceWatch sends what matches.
type instanceWatch struct {
	stream *connect.ServerStream[api.WatchInstancesResponse]
	filter *instanceFilter
	final  map[wasmatrix.InstanceID]struct{} // of those that were sent
}

func (w *instanceWatch) send(snap wasmatrix.Snapshot, inst *wasmatrix.Instance) error {
	if !w.filter.matches(inst) {
		return nil
	}
	if inst.Status.Final() {
		w.final[inst.ID] = struct{}{}
	}
	return w.stream.Send(&api.WatchInstancesResponse{Instance: wire.InstanceTo(inst), Index: snap.Index()})
}

func (w *instanceWatch) bookmark(snap wasmatrix.Snapshot) error {
	return w.stream.Send(&api.WatchInstancesResponse{Bookmark: true, Index: snap.Index()})
}

// removed tells that a record is gone.
func (w *instanceWatch) removed(snap wasmatrix.Snapshot, id wasmatrix.InstanceID) error {
	return w.stream.Send(&api.WatchInstancesResponse{Instance: &api.Instance{InstanceId: string(id)}, Index: snap.Index(), Removed: true})
}

// watchOne follows one instance, which may not exist yet.
func (i *instances) watchOne(ctx context.Context, w *instanceWatch, id wasmatrix.InstanceID) error {
	told, forget := i.feed.watch(id)
	defer forget()
	snap, _ := i.feed.enter()
	defer i.feed.leave()
	var sent *wasmatrix.Instance
	for first := true; ; first = false {
		inst, ok := snap.Instance(id)
		var err error
		switch {
		case ok && inst != sent:
			err = w.send(snap, inst)
		case !ok && sent != nil:
			err = w.removed(snap, id)
		}
		if sent = inst; err == nil && first {
			err = w.bookmark(snap)
		}
		if err != nil {
			return err
		}
		select {
		case <-told:
			snap = i.cfg.State.Snapshot()
		case <-ctx.Done():
			return ctx.Err()
		case <-i.closing.Done():
			return errClosing()
		}
	}
}

// sweepEvery is how often a watch of all looks whether records were collected,
// which no fact tells, and which others that came may hide. Only those of final
// instances are.
const sweepEvery = 5 * time.Second

// watchAll sends the instances of a view, and from then on those that facts are
// about.
func (i *instances) watchAll(ctx context.Context, w *instanceWatch) error {
	restored := i.cfg.State.Restored()
	snap, newer := i.feed.enter()
	defer i.feed.leave()
	if err := w.list(ctx, snap); err != nil {
		return err
	}
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		var err error
		select {
		case <-newer:
			before := snap
			snap, newer = i.feed.next()
			_, seen := before.FactRange()
			if first, _ := snap.FactRange(); first > seen+1 {
				err = w.list(ctx, snap) // more happened than is kept
			} else {
				err = w.changes(snap, seen)
			}
			if err == nil && snap.InstanceCount() < before.InstanceCount() {
				err = w.sweep(snap)
			}
		case <-restored:
			err = errReplaced()
		case <-sweep.C:
			err = w.sweep(i.cfg.State.Snapshot())
		case <-ctx.Done():
			err = ctx.Err()
		case <-i.closing.Done():
			err = errClosing()
		}
		if err != nil {
			return err
		}
	}
}

// list sends all that match, then a bookmark.
func (w *instanceWatch) list(ctx context.Context, snap wasmatrix.Snapshot) error {
	for inst := range snap.Instances("") {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.send(snap, inst); err != nil {
			return err
		}
	}
	return w.bookmark(snap)
}

// changes sends each instance that a fact after seen is about, once.
func (w *instanceWatch) changes(snap wasmatrix.Snapshot, seen uint64) error {
	done := make(map[wasmatrix.InstanceID]struct{})
	for fact := range snap.Facts(seen + 1) {
		if fact.Instance == "" {
			continue
		}
		if _, ok := done[fact.Instance]; ok {
			continue
		}
		done[fact.Instance] = struct{}{}
		if inst, ok := snap.Instance(fact.Instance); ok {
			if err := w.send(snap, inst); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep tells of the records that were collected.
func (w *instanceWatch) sweep(snap wasmatrix.Snapshot) error {
	for id := range w.final {
		if _, ok := snap.Instance(id); ok {
			continue
		}
		delete(w.final, id)
		if err := w.removed(snap, id); err != nil {
			return err
		}
	}
	return nil
}
