package dispatch

import (
	"context"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// collect removes what has been kept for long enough. It proposes only where
// there is something to remove.
func (t *tenure) collect(ctx context.Context) {
	tick := time.NewTicker(t.cfg.CollectEvery)
	defer tick.Stop()
	g := collector{t: t}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for g.due(t.cfg.State.Snapshot(), now()) {
			at := now()
			n, err := propose[int](ctx, t, wasmatrix.CollectGarbage{
				At: at, FinalBefore: before(at, t.cfg.KeepFinal), MaxFinal: t.cfg.MaxFinal,
				ModulesBefore: before(at, t.cfg.KeepModules), Limit: collectLimit,
			})
			if err != nil && ctx.Err() == nil {
				t.log.Warn("could not collect garbage", "error", err)
			}
			if err != nil || n == 0 {
				break
			}
			t.log.Debug("collected garbage", "records", n)
		}
		t.forgetNodes(ctx, now())
	}
}

// forgetNodes drops the records of nodes that have been down for long. They hold
// nothing; one that comes back registers as if it were new.
func (t *tenure) forgetNodes(ctx context.Context, at wasmatrix.Time) {
	cutoff := before(at, t.cfg.KeepNodes)
	for n := range t.cfg.State.Snapshot().Nodes() {
		if n.Status != wasmatrix.NodeDown || n.ChangedAt >= cutoff {
			continue
		}
		if _, err := t.cfg.Log.Propose(ctx, wasmatrix.ForgetNode{At: at, Node: n.ID}); err != nil {
			if ctx.Err() == nil {
				t.log.Warn("could not forget a node", "node", n.ID, "error", err)
			}
			return
		}
		t.log.Info("forgot a node that is gone", "node", n.ID, "down_since", n.ChangedAt.Std())
	}
}

type collector struct {
	t *tenure
	// nextFinal is before when no final instance is due, known from the last
	// look at all of them: those that ended since are due later.
	nextFinal wasmatrix.Time
}

// due reports whether a collection at a time would remove anything.
func (g *collector) due(snap wasmatrix.Snapshot, at wasmatrix.Time) bool {
	final := snap.StatusCount(wasmatrix.StatusStopped) + snap.StatusCount(wasmatrix.StatusCrashed)
	if final > g.t.cfg.MaxFinal || final > 0 && g.finalDue(snap, at) {
		return true
	}
	cutoff := before(at, g.t.cfg.KeepModules)
	for m := range snap.Modules() {
		if m.UsedAt < cutoff && snap.ModuleUsers(m.Digest) == 0 && len(snap.ModuleNames(m.Digest)) == 0 {
			return true
		}
	}
	return false
}

func (g *collector) finalDue(snap wasmatrix.Snapshot, at wasmatrix.Time) bool {
	if at <= g.nextFinal {
		return false
	}
	cutoff := before(at, g.t.cfg.KeepFinal)
	oldest := at
	for i := range snap.Instances("") {
		if !i.Status.Final() {
			continue
		}
		if i.ChangedAt < cutoff {
			return true
		}
		oldest = min(oldest, i.ChangedAt)
	}
	g.nextFinal = oldest + wasmatrix.Time(g.t.cfg.KeepFinal)
	return false
}

func before(at wasmatrix.Time, d time.Duration) wasmatrix.Time { return at - wasmatrix.Time(d) }
