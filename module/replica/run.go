package replica

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

const (
	// settle is how long Run lets changes of the state gather. Those who push
	// do not wait for it: the leader sends its copies itself.
	settle = 200 * time.Millisecond
	// fetchers is how many modules Run fetches at a time.
	fetchers = 4

	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Run keeps the disk in step with the state until ctx is done: it fetches the
// modules that the state names and the disk misses, deletes those that it has
// not named for the grace period, and verifies one file after another.
func (r *Replicator) Run(ctx context.Context) {
	k := &keeper{Replicator: r, gaps: make(map[wasmatrix.Digest]*gap), scrubAt: time.Now().Add(r.cfg.Scrub)}
	defer k.fetches.Wait()
	for ctx.Err() == nil {
		changed := r.cfg.State.Changed()
		next := k.pass(ctx, r.cfg.State.Snapshot())
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.wake:
		case <-changed:
			timer.Reset(settle)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
		timer.Stop()
	}
}

// keeper is what one Run knows. It belongs to Run's goroutine, except where a
// fetch reports to its gap.
type keeper struct {
	*Replicator
	fetches sync.WaitGroup

	gapMu sync.Mutex
	gaps  map[wasmatrix.Digest]*gap

	scrubAt  time.Time
	scrubbed wasmatrix.Digest // the last one verified
}

// gap is a module that the state names and the disk misses. It is guarded by
// keeper.gapMu.
type gap struct {
	fetching bool
	failures int
	next     time.Time // when to try again
}

// pass does what can be done now and returns when there will be more to do
// unless something changes before.
func (k *keeper) pass(ctx context.Context, snap wasmatrix.Snapshot) time.Time {
	now := time.Now()
	next := k.scrub(ctx, now)
	named := make(map[wasmatrix.Digest]bool)
	for m := range snap.Modules() {
		named[m.Digest] = true
	}
	for _, at := range []time.Time{k.fill(ctx, named, now), k.collect(snap, named, now)} {
		if at.Before(next) {
			next = at
		}
	}
	return next
}

// never is later than any time that a pass has something to do at.
func never(now time.Time) time.Time { return now.Add(time.Hour) }

// fill begins to fetch what is named and missing.
func (k *keeper) fill(ctx context.Context, named map[wasmatrix.Digest]bool, now time.Time) time.Time {
	next := never(now)
	k.gapMu.Lock()
	defer k.gapMu.Unlock()
	under := 0
	for d, g := range k.gaps {
		switch {
		case g.fetching:
			under++
		case !named[d] || k.cfg.Store.Has(d):
			delete(k.gaps, d)
		}
	}
	for d := range named {
		if k.cfg.Store.Has(d) {
			continue
		}
		g := k.gaps[d]
		if g == nil {
			g = &gap{next: now}
			k.gaps[d] = g
		}
		switch {
		case g.fetching:
		case k.isBusy(d):
			// It is being handed over. Should that fail, nothing wakes us.
			next = earlier(next, now.Add(firstRetry))
		case now.Before(g.next):
			next = earlier(next, g.next)
		case under < fetchers: // beyond that, the end of a fetch wakes us
			under++
			g.fetching = true
			k.fetches.Go(func() { k.fillOne(ctx, d, g) })
		}
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (k *keeper) fillOne(ctx context.Context, d wasmatrix.Digest, g *gap) {
	defer k.poke()
	err := k.fetch(ctx, d)
	k.gapMu.Lock()
	defer k.gapMu.Unlock()
	g.fetching = false
	if err == nil || ctx.Err() != nil {
		return
	}
	delay := min(lastRetry, firstRetry<<min(g.failures, 10))
	g.failures++
	delay += time.Duration(rand.Int64N(int64(delay) / 4))
	g.next = time.Now().Add(delay)
	k.log.Warn("cannot fetch a module that the cluster keeps", "module", d, "retry", delay, "error", err)
}

// collect deletes what has not been named for the grace period. Both clocks
// must say so, this server's and the state's: a server that lags behind the log
// must not delete what an entry ahead of it names.
func (k *keeper) collect(snap wasmatrix.Snapshot, named map[wasmatrix.Digest]bool, now time.Time) time.Time {
	next := never(now)
	k.mu.Lock()
	defer k.mu.Unlock()
	there := k.cfg.Store.List()
	unnamed := make(map[wasmatrix.Digest]time.Time)
	for _, e := range there {
		if named[e.Digest] || k.busy[e.Digest] > 0 {
			continue
		}
		since, seen := k.unnamed[e.Digest]
		if !seen {
			since = now
			if state := snap.Now().Std(); state.After(since) {
				since = state
			}
		}
		due := since.Add(k.cfg.Grace)
		switch {
		case now.Before(due):
			next = earlier(next, due)
		case snap.Now().Std().Before(due): // a change of the state wakes us
		default:
			k.log.Info("deleting a module that the cluster does not keep any more", "module", e.Digest)
			err := k.cfg.Store.Remove(e.Digest)
			if err == nil {
				continue
			}
			k.log.Error("cannot delete a module", "module", e.Digest, "error", err)
			since = now // not again at once
			next = earlier(next, now.Add(k.cfg.Grace))
		}
		unnamed[e.Digest] = since
	}
	k.unnamed = unnamed
	return next
}

// scrub verifies the file after the one it verified last, when it is time.
func (k *keeper) scrub(ctx context.Context, now time.Time) time.Time {
	if k.cfg.Scrub < 0 {
		return never(now)
	}
	if now.Before(k.scrubAt) {
		return k.scrubAt
	}
	k.scrubAt = now.Add(k.cfg.Scrub)
	e, ok := after(k.cfg.Store.List(), k.scrubbed)
	if !ok {
		return k.scrubAt
	}
	k.scrubbed = e.Digest
	err := k.cfg.Store.Verify(ctx, e.Digest)
	// The store has told of a damaged file, which is missing now.
	if err != nil && ctx.Err() == nil && wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
		k.log.Error("cannot verify a module", "module", e.Digest, "error", err)
	}
	return k.scrubAt
}

// after returns the first of entries, which are sorted, beyond d, or the first
// of all.
func after(entries []module.Entry, d wasmatrix.Digest) (module.Entry, bool) {
	for _, e := range entries {
		if bytes.Compare(e.Digest[:], d[:]) > 0 {
			return e, true
		}
	}
	if len(entries) == 0 {
		return module.Entry{}, false
	}
	return entries[0], true
}
