package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler"
)

type startCall = call[wasmatrix.StartItem, wasmatrix.StartResult]

// start has the request planned. One that was answered before is found then,
// in the state that the plan is made from.
func (t *tenure) start(ctx context.Context, item wasmatrix.StartItem) (wasmatrix.StartResult, error) {
	if item.Spec == nil || len(item.Placements) == 0 {
		return wasmatrix.StartResult{}, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a start request without a spec or instances")
	}
	return t.starts.do(ctx, item)
}

// answered looks for the effect of an earlier request with the same ID.
func answered(snap wasmatrix.Snapshot, req wasmatrix.Request) (wasmatrix.StartResult, bool, error) {
	if req.ID == "" {
		return wasmatrix.StartResult{}, false, nil
	}
	ids, ok, err := snap.Answered(req)
	return wasmatrix.StartResult{Instances: ids, Duplicate: ok}, ok && err == nil, err
}

// planner is the state of the loop that plans.
type planner struct {
	t *tenure
	// rescan says that unplaced instances are to be planned, not before calm.
	rescan bool
	calm   time.Time
	// wake is when to plan them in any case; zero is never.
	wake  time.Time
	retry backoff
}

// plan is the only place where nodes are chosen. While its proposals are under
// way all new work gathers, so no two plans are ever made from the same state.
func (t *tenure) plan(ctx context.Context) {
	p := planner{t: t, retry: backoff{first: 20 * time.Millisecond, limit: 5 * time.Second}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.arm(timer)
		select {
		case <-t.starts.ready:
		case <-t.capacity:
			p.rescan = true
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return // those that wait learn that nothing happened
		}
		at := time.Now()
		if !p.wake.IsZero() && !at.Before(p.wake) {
			p.rescan, p.wake = true, time.Time{}
		}
		p.cycle(ctx, at)
	}
}

// arm sets the timer to when there may be work that nothing else announces.
func (p *planner) arm(timer *time.Timer) {
	timer.Stop()
	if p.rescan {
		timer.Reset(time.Until(p.calm))
	} else if !p.wake.IsZero() {
		timer.Reset(time.Until(p.wake))
	}
}

// batch is what one cycle plans: the instances that wait for a place, then the
// requests that wait for an answer.
type batch struct {
	requests  []scheduler.Request
	decisions []scheduler.Decision
	waiting   [][]*wasmatrix.Instance // for the first requests
	starts    []*startCall            // for the others
	later     []*startCall            // repeat one of starts: its outcome answers them
}

// cycle plans once and waits for what it proposes.
func (p *planner) cycle(ctx context.Context, at time.Time) {
	t := p.t
	snap := t.cfg.State.Snapshot()
	var b batch
	scan := p.rescan && !at.Before(p.calm)
	if scan {
		p.rescan = false
		b.addUnplaced(t, snap)
	}
	b.addStarts(snap, t.takeStarts())
	defer func() {
		if len(b.later) > 0 {
			t.starts.again(b.later)
		}
	}()
	if len(b.requests) == 0 {
		return
	}
	policy := t.cfg.Policy
	policy.Avoid = append(slices.Clone(policy.Avoid), t.doubtful()...)
	b.decisions = scheduler.Plan(snap, b.requests, at, policy)

	var under sync.WaitGroup
	if scan {
		p.place(ctx, &under, &b, at)
	}
	under.Go(func() { t.commitStarts(ctx, snap, &b) })
	under.Wait()
}

// takeStarts takes as many calls as one command should hold.
func (t *tenure) takeStarts() []*startCall {
	instances, bytes, first := 0, 0, true
	return t.starts.take(func(it wasmatrix.StartItem) bool {
		instances += len(it.Placements)
		bytes += specSize(it.Spec)
		fits := first || instances <= maxStartBatch && bytes <= maxStartBytes
		first = false
		return fits
	})
}

// doubtful lists nodes that are being probed or marked down.
func (t *tenure) doubtful() []wasmatrix.NodeID {
	var ids []wasmatrix.NodeID
	for _, l := range t.all() {
		l.mu.Lock()
		if l.up && (l.condemned || l.probing || l.replaced) {
			ids = append(ids, l.id)
		}
		l.mu.Unlock()
	}
	return ids
}

// addUnplaced adds the instances that wait: lost ones first, since they ran
// before, then pending ones in the order in which they came.
func (b *batch) addUnplaced(t *tenure, snap wasmatrix.Snapshot) {
	if snap.StatusCount(wasmatrix.StatusLost)+snap.StatusCount(wasmatrix.StatusPending) == 0 {
		return
	}
	bySpec := make(map[*wasmatrix.Spec]int)
	fences := make(map[wasmatrix.NodeID]time.Time)
	add := func(i *wasmatrix.Instance, notBefore time.Time) {
		b.requests = append(b.requests, scheduler.Request{Spec: i.Spec, Partial: true, NotBefore: notBefore})
		b.waiting = append(b.waiting, nil)
		b.extend(len(b.requests)-1, i)
	}
	for i := range snap.Unplaced() {
		if i.Status != wasmatrix.StatusLost {
			continue
		}
		if i.Spec.Exclusive {
			fence, ok := fences[i.Node]
			if !ok {
				fence = t.fencedUntil(snap, i.Node)
				fences[i.Node] = fence
			}
			add(i, fence)
			continue
		}
		// Together, so that they are spread.
		if r, ok := bySpec[i.Spec]; ok {
			b.extend(r, i)
			continue
		}
		bySpec[i.Spec] = len(b.requests)
		add(i, time.Time{})
	}
	var last *wasmatrix.Spec
	for i := range snap.Unplaced() {
		switch {
		case i.Status != wasmatrix.StatusPending:
		case i.Spec == last:
			b.extend(len(b.requests)-1, i)
		default:
			add(i, time.Time{})
			last = i.Spec
		}
	}
}

func (b *batch) extend(request int, i *wasmatrix.Instance) {
	r := &b.requests[request]
	r.Instances = append(r.Instances, i.ID)
	b.waiting[request] = append(b.waiting[request], i)
}

// addStarts adds calls, answering those that an earlier command has answered.
func (b *batch) addStarts(snap wasmatrix.Snapshot, calls []*startCall) {
	seen := make(map[wasmatrix.RequestID]struct{}, len(calls))
	for _, c := range calls {
		req := c.value.Request
		if r, ok, err := answered(snap, req); ok || err != nil {
			c.finish(r, err)
			continue
		}
		if _, twice := seen[req.ID]; twice && req.ID != "" {
			b.later = append(b.later, c)
			continue
		}
		seen[req.ID] = struct{}{}
		ids := make([]wasmatrix.InstanceID, len(c.value.Placements))
		for n, p := range c.value.Placements {
			ids[n] = p.Instance
		}
		b.requests = append(b.requests, scheduler.Request{Instances: ids, Spec: c.value.Spec, Partial: c.value.Spec.Queue})
		b.starts = append(b.starts, c)
	}
}

// place proposes places for instances that wait, and decides when to look at
// those again that got none.
func (p *planner) place(ctx context.Context, under *sync.WaitGroup, b *batch, at time.Time) {
	var items []wasmatrix.PlaceItem
	scanned := 0
	for r, waiting := range b.waiting {
		d := &b.decisions[r]
		scanned += len(waiting)
		for n, i := range waiting {
			if d.Nodes[n] != "" {
				items = append(items, wasmatrix.PlaceItem{Instance: i.ID, Epoch: i.Epoch, Node: d.Nodes[n]})
			}
		}
		if d.Failure != nil && !d.Failure.NotBefore.IsZero() && (p.wake.IsZero() || d.Failure.NotBefore.Before(p.wake)) {
			p.wake = d.Failure.NotBefore
		}
	}
	// Looking at a long queue in which little fits must not take up the leader,
	// however often capacity changes: a tenth of its time.
	took := time.Since(at)
	p.calm = time.Time{}
	if len(items)*4 < scanned {
		p.calm = time.Now().Add(10 * took)
	}
	if len(items) == 0 {
		return
	}
	if len(items) > maxPlaceBatch*maxPlaceCycle {
		items = items[:maxPlaceBatch*maxPlaceCycle]
		p.rescan = true
	}
	under.Go(func() {
		if p.t.commitPlaces(ctx, items) {
			p.retry.reset()
			return
		}
		// Whatever failed, the state tells what is still to do.
		again := time.Now().Add(p.retry.delay())
		if p.wake.IsZero() || again.Before(p.wake) {
			p.wake = again
		}
	})
}

// commitPlaces reports whether all items were placed or are void.
func (t *tenure) commitPlaces(ctx context.Context, items []wasmatrix.PlaceItem) bool {
	var under sync.WaitGroup
	var mu sync.Mutex
	good := true
	for chunk := range chunks(items, maxPlaceBatch) {
		under.Go(func() {
			errs, err := propose[[]*wasmatrix.Error](ctx, t, wasmatrix.PlaceInstances{At: now(), Items: chunk})
			if err != nil && ctx.Err() == nil {
				t.log.Warn("could not place instances", "instances", len(chunk), "error", err)
			}
			raced := slices.ContainsFunc(errs, func(e *wasmatrix.Error) bool {
				return e != nil && e.Code == wasmatrix.CodeResourceExhausted
			})
			if err != nil || raced {
				mu.Lock()
				good = false
				mu.Unlock()
			}
		})
	}
	under.Wait()
	t.log.Debug("placed instances anew", "instances", len(items))
	return good
}

// commitStarts proposes the calls that have a place or may queue, and answers
// all.
func (t *tenure) commitStarts(ctx context.Context, snap wasmatrix.Snapshot, b *batch) {
	pending := snap.StatusCount(wasmatrix.StatusPending)
	var items []wasmatrix.StartItem
	var proposed []*startCall
	for n, c := range b.starts {
		d := &b.decisions[len(b.waiting)+n]
		item := c.value
		item.Placements = slices.Clone(item.Placements)
		unplaced := 0
		for k, node := range d.Nodes {
			item.Placements[k].Node = node
			if node == "" {
				unplaced++
			}
		}
		switch {
		case unplaced > 0 && !item.Spec.Queue:
			c.finish(wasmatrix.StartResult{}, d.Failure.Err())
			continue
		case unplaced > 0 && pending+unplaced > t.cfg.MaxPending:
			c.finish(wasmatrix.StartResult{}, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted,
				"%s, and the queue is full with %d instances", d.Failure, pending))
			continue
		}
		pending += unplaced
		items = append(items, item)
		proposed = append(proposed, c)
	}
	if len(items) == 0 {
		return
	}
	results, err := propose[[]wasmatrix.StartResult](ctx, t, wasmatrix.StartInstances{At: now(), Items: items})
	if err == nil && len(results) != len(items) {
		err = wasmatrix.Errorf(wasmatrix.CodeInternal, "the state machine answered %d of %d start requests", len(results), len(items)).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	}
	var again []*startCall
	for n, c := range proposed {
		switch {
		case err != nil:
			c.finish(wasmatrix.StartResult{}, err)
		case results[n].Err == nil:
			c.finish(results[n], nil)
		case results[n].Err.Code == wasmatrix.CodeResourceExhausted && c.tries+1 < maxReplans:
			c.tries++
			again = append(again, c)
		default:
			c.finish(wasmatrix.StartResult{}, results[n].Err)
		}
	}
	if len(again) > 0 {
		t.starts.again(again)
	}
}
