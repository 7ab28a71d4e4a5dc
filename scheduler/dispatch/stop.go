package dispatch

import (
	"context"
	"iter"
	"slices"

	"github.com/wasmatrix/wasmatrix"
)

// stop commits stop requests, those together that came while the last proposal
// was under way.
func (t *tenure) stop(ctx context.Context) {
	for {
		select {
		case <-t.stops.ready:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return // those that wait learn that nothing happened
		}
		room := maxStopBatch
		calls := t.stops.take(func(wasmatrix.StopItem) bool { room--; return room >= 0 })
		if len(calls) == 0 {
			continue
		}
		items := make([]wasmatrix.StopItem, len(calls))
		for n, c := range calls {
			items[n] = c.value
		}
		errs, err := propose[[]*wasmatrix.Error](ctx, t, wasmatrix.StopInstances{At: now(), Items: items})
		for n, c := range calls {
			switch {
			case err != nil:
				c.finish(struct{}{}, err)
			case errs[n] != nil:
				c.finish(struct{}{}, errs[n])
			default:
				c.finish(struct{}{}, nil)
			}
		}
	}
}

// report commits what is news in the statements of a node. What is no news is
// left out, but acknowledged only after a commit as well: a server that leads no
// longer and has not noticed would take news for old, and the node, which then
// forgets it, would have told nobody.
func (t *tenure) report(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, reports []wasmatrix.Report) ([]bool, error) {
	changed := make([]bool, len(reports))
	snap := t.cfg.State.Snapshot()
	if err := t.checkBoot(snap, node, boot); err != nil {
		return nil, err
	}
	var news []wasmatrix.Report
	var places []int // of the news within reports
	var stale []directive
	for n, r := range reports {
		i, ok := snap.Instance(r.Instance)
		superseded := !ok || i.Node != node || i.Epoch != r.Epoch || !i.Status.OnNode()
		switch {
		case superseded && !r.Status.Final():
			// It runs what it should not: as when it was told to stop and restarts
			// an instance just then.
			stale = append(stale, directive{instance: r.Instance, forget: r.Epoch})
		case superseded || !i.After(r.Epoch, r.Attempt, r.Seq):
		default:
			news = append(news, r)
			places = append(places, n)
		}
	}
	if len(stale) > 0 {
		t.link(node).forget(stale)
	}
	if len(news) == 0 {
		_, err := propose[[]bool](ctx, t, wasmatrix.ApplyReports{At: now(), Node: node, Boot: boot})
		return changed, err
	}
	for chunk := range chunks(news, maxReportBatch) {
		got, err := propose[[]bool](ctx, t, wasmatrix.ApplyReports{At: now(), Node: node, Boot: boot, Reports: chunk})
		if err != nil {
			return nil, err
		}
		for n, c := range got {
			changed[places[n]] = c
		}
		places = places[len(chunk):]
	}
	return changed, nil
}

// checkBoot refuses what another process than the one on record says.
func (t *tenure) checkBoot(snap wasmatrix.Snapshot, node wasmatrix.NodeID, boot wasmatrix.BootID) error {
	record, known := snap.Node(node)
	switch {
	case !known:
		return wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "no node %q", node)
	case record.Boot != boot:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "node %q is boot %s by now, not %s", node, record.Boot, boot)
	default:
		return nil
	}
}

func chunks[T any](s []T, n int) iter.Seq[[]T] { return slices.Chunk(s, n) }
