package dispatch

import (
	"context"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// grantQueue is what a node is yet to be told of the assignments of instances. It
// is guarded by its link's mutex.
type grantQueue struct {
	// owed has, for each instance whose assignments the node has to acknowledge,
	// the index of their newest change.
	owed map[wasmatrix.InstanceID]uint64
	// lurking says that an Execute whose outcome is unknown may yet be taken in by
	// the node; its orders were composed at unsure or before. A SetGrants of a
	// higher index puts an end to that.
	lurking bool
	unsure  uint64
}

// doubt notes that orders composed at an index may still be on their way.
func (q *grantQueue) doubt(index uint64) {
	q.lurking, q.unsure = true, max(q.unsure, index)
}

// drop forgets what is owed to a node that is down. What lurks, lurks on.
func (q *grantQueue) drop() { clear(q.owed) }

func (q *grantQueue) some(n int) []wasmatrix.InstanceID {
	var ids []wasmatrix.InstanceID
	for id := range q.owed {
		if len(ids) == n {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

// oweGrants has the node of an instance told of its assignments, if it has one
// and cannot know them.
func (t *tenure) oweGrants(snap wasmatrix.Snapshot, id wasmatrix.InstanceID) {
	// What it was created with comes with the order to start it.
	if i, ok := snap.Instance(id); ok && i.Status.OnNode() && i.GrantsIndex != i.CreateIndex {
		t.link(i.Node).owe(i)
	}
}

func (l *link) owe(instances ...*wasmatrix.Instance) {
	if len(instances) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grants.owed == nil {
		l.grants.owed = make(map[wasmatrix.InstanceID]uint64)
	}
	for _, i := range instances {
		l.grants.owed[i.ID] = max(l.grants.owed[i.ID], i.GrantsIndex)
	}
	l.send()
}

// lurk notes that an Execute failed and may yet arrive.
func (l *link) lurk(node *wasmatrix.Node, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.node.Boot == node.Boot { // no other process takes it
		l.grants.doubt(index)
	}
}

// sendGrants reports whether the node took the grants that are due.
func (s *sender) sendGrants(ctx context.Context, e *errand) bool {
	l := s.l
	snap, err := l.settled(ctx)
	if err != nil {
		return s.failed(ctx, "grants", err)
	}
	var sets []*wasmatrix.GrantSet
	var gone []wasmatrix.InstanceID
	size := 0
	for _, id := range e.grants {
		i, ok := snap.Instance(id)
		if !ok {
			gone = append(gone, id)
			continue
		}
		set := wasmatrix.GrantsOf(snap, i)
		if size += grantSize(set); size > maxPushBytes && len(sets) > 0 {
			break // the others go with the next
		}
		sets = append(sets, set)
	}
	if len(sets) > 0 || e.raise {
		sending, cancel := s.call(ctx)
		err = l.t.cfg.Agents.SetGrants(sending, e.node, l.t.term, snap.Index(), sets)
		cancel()
	}
	if err != nil {
		// One call that does not end must not hold up what concerns others.
		s.grants = max(1, len(sets)/2)
		return s.failed(ctx, "grants", err)
	}
	s.grants = min(2*s.grants, maxGrantBatch)
	l.acknowledge(e.node, snap.Index(), sets, gone)
	return true
}

// settled returns a state whose index is above that of all orders that may still
// be on their way.
func (l *link) settled(ctx context.Context) (wasmatrix.Snapshot, error) {
	for {
		l.mu.Lock()
		lurking, unsure := l.grants.lurking, l.grants.unsure
		l.mu.Unlock()
		snap := l.t.cfg.State.Snapshot()
		if !lurking || snap.Index() > unsure {
			return snap, nil
		}
		if err := l.t.advance(ctx); err != nil {
			return nil, err
		}
	}
}

// acknowledge takes in that the node has sets, read from the state at an index.
func (l *link) acknowledge(node *wasmatrix.Node, index uint64, sets []*wasmatrix.GrantSet, gone []wasmatrix.InstanceID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.node.Boot != node.Boot {
		return
	}
	for _, set := range sets {
		if l.grants.owed[set.Instance] <= set.Index {
			delete(l.grants.owed, set.Instance)
		}
	}
	for _, id := range gone {
		delete(l.grants.owed, id)
	}
	if index > l.grants.unsure {
		l.grants.lurking = false
	}
	l.ease()
	l.tidy()
}

// ease wakes who waits for the node to acknowledge something, or to be gone. The
// caller holds mu.
func (l *link) ease() {
	if l.eased != nil {
		close(l.eased)
		l.eased = nil
	}
}

// wait returns when done does, which is called with mu held and may say when it
// will by the passing of time alone; or with the error of ctx.
func (l *link) wait(ctx context.Context, done func() (ok bool, at time.Time)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.mu.Lock()
		ok, at := done()
		if !ok && l.eased == nil {
			l.eased = make(chan struct{})
		}
		eased := l.eased
		l.mu.Unlock()
		if ok {
			return nil
		}
		var passed <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			passed = timer.C
		}
		select {
		case <-eased:
		case <-passed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitClean waits until the node has given up what is not its own.
func (l *link) awaitClean(ctx context.Context, boot wasmatrix.BootID) error {
	gone := false
	err := l.wait(ctx, func() (bool, time.Time) {
		gone = !l.up || l.node.Boot != boot
		return gone || l.clean, time.Time{}
	})
	switch {
	case err != nil:
		return l.t.outcome(ctx, err)
	case gone:
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "node %q was lost again before it had given up what it holds of instances that are elsewhere", l.id)
	default:
		return nil
	}
}

// told reports whether the node has the newest assignments of an instance that
// it has. The caller holds mu.
func (l *link) told(id wasmatrix.InstanceID) bool {
	_, owed := l.grants.owed[id]
	return !owed || !l.up
}

// cleared reports whether no call of an instance succeeds any more on the node
// that the state does not allow, or when that will be so by the passing of time.
// The caller holds mu.
func (l *link) cleared(id wasmatrix.InstanceID) (bool, time.Time) {
	if !l.told(id) {
		return false, time.Time{}
	}
	// Read after up, so that it shows what became of a node that is not.
	i, ok := l.t.cfg.State.Snapshot().Instance(id)
	if ok && !l.t.restored && i.Epoch <= 1 && (i.Node != l.id || i.Status.OnNode()) {
		return true, time.Time{} // no process has it, or had it, but the one that was told
	}
	if l.up && !l.clean {
		return false, time.Time{}
	}
	return !l.fence.After(time.Now()), l.fence
}
