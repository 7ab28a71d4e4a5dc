package dispatch

import (
	"context"
	"maps"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// renew extends the lease of a node that is up, and asks one that has not
// registered in this term to do so.
func (t *tenure) renew(id wasmatrix.NodeID, boot wasmatrix.BootID) wasmatrix.Lease {
	lease := wasmatrix.Lease{Term: t.term, Resync: true}
	l := t.lookup(id)
	if l == nil {
		return lease
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || l.condemned || l.node.Boot != boot {
		return lease
	}
	if n, _ := t.cfg.State.Snapshot().Node(id); !isUp(n, boot) || !l.trusted {
		return lease
	}
	l.renewed = time.Now()
	if !l.doubt.IsZero() && l.renewed.After(l.doubt) {
		l.doubt, l.synced = time.Time{}, false
	}
	lease.TTL = int64(t.cfg.LeaseTTL)
	lease.Resync = !l.synced
	return lease
}

// register admits a node. It is granted a lease only once it has given up what it
// holds and the state does not know: a call that it made with the lease for an
// instance that has been placed anew would be one too many.
func (t *tenure) register(ctx context.Context, reg wasmatrix.Registration) (wasmatrix.Lease, error) {
	received := time.Now()
	if err := reg.ID.Validate(); err != nil {
		return wasmatrix.Lease{}, err
	}
	if reg.Boot == "" || reg.Addr == "" {
		return wasmatrix.Lease{}, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "registration of node %q has no boot or no address", reg.ID)
	}
	if err := wasmatrix.ValidateLabels(reg.Labels); err != nil {
		return wasmatrix.Lease{}, err
	}
	labels := make(map[string]string, len(reg.Labels)+1)
	maps.Copy(labels, reg.Labels)
	labels[wasmatrix.LabelNode] = string(reg.ID)
	reg.Labels = labels

	l := t.link(reg.ID)
	node, err := t.admit(ctx, l, reg, received)
	if err != nil {
		return wasmatrix.Lease{}, err
	}
	if err := l.awaitClean(ctx, node.Boot); err != nil {
		return wasmatrix.Lease{}, err
	}
	return wasmatrix.Lease{TTL: int64(t.cfg.LeaseTTL), Term: t.term}, nil
}

// admit records a node where that is news, and begins to tell it what differs
// between what it holds and the state.
func (t *tenure) admit(ctx context.Context, l *link, reg wasmatrix.Registration, received time.Time) (*wasmatrix.Node, error) {
	if !l.acquire(ctx) {
		return nil, t.outcome(ctx, ctx.Err())
	}
	defer l.release()
	node, known := t.cfg.State.Snapshot().Node(reg.ID)
	if !known || !sameRecord(node, &reg) {
		if err := t.checkReachable(ctx, node, &reg); err != nil {
			return nil, err
		}
		record := reg
		record.Holding = nil
		var err error
		node, err = propose[*wasmatrix.Node](ctx, t, wasmatrix.RegisterNode{At: now(), Registration: record})
		if err != nil {
			return nil, err
		}
		t.log.Info("node registered", "node", reg.ID, "addr", reg.Addr, "boot", reg.Boot, "holding", len(reg.Holding))
		// Also where only its address, capacity or labels changed, which is no fact.
		t.placeProviders()
		t.replan()
	}
	l.admit(node, received) //nolint:contextcheck // the stream it opens outlives the request, and ends with the term
	t.reconcile(l, reg, received)
	return node, nil
}

// sameRecord reports whether the state says of the node what it says itself.
func sameRecord(n *wasmatrix.Node, reg *wasmatrix.Registration) bool {
	return n.Status == wasmatrix.NodeUp && n.Boot == reg.Boot && n.Addr == reg.Addr && n.Version == reg.Version &&
		n.Capacity == reg.Capacity && maps.Equal(n.Labels, reg.Labels)
}

// checkReachable refuses a node to which no order could be sent, and a second
// process that uses the name of one which is alive elsewhere. Either would make
// the record change to and fro for ever.
func (t *tenure) checkReachable(ctx context.Context, old *wasmatrix.Node, reg *wasmatrix.Registration) error {
	if old != nil && old.Status == wasmatrix.NodeUp && old.Boot == reg.Boot && old.Addr == reg.Addr {
		return nil
	}
	if old != nil && old.Status == wasmatrix.NodeUp && old.Boot != reg.Boot && old.Addr != reg.Addr {
		if boot, err := t.ping(ctx, old); err == nil && boot == old.Boot {
			return wasmatrix.Errorf(wasmatrix.CodeConflict, "node name %q is in use by the process at %s", reg.ID, old.Addr)
		}
	}
	boot, err := t.ping(ctx, &wasmatrix.Node{
		ID: reg.ID, Boot: reg.Boot, Addr: reg.Addr, Version: reg.Version, Labels: reg.Labels, Capacity: reg.Capacity,
	})
	switch {
	case err != nil:
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "the leader cannot reach node %q at %s: %w", reg.ID, reg.Addr, err)
	case boot != reg.Boot:
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "another process than node %q answers at %s", reg.ID, reg.Addr)
	default:
		return nil
	}
}

func (t *tenure) ping(ctx context.Context, node *wasmatrix.Node) (wasmatrix.BootID, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.PingTimeout)
	defer cancel()
	return t.cfg.Agents.Ping(ctx, node)
}

// registerAge is how old the list of what a node holds may be when it comes in:
// for so long a node waits for the answer to a registration, and sends the same
// list to one server after another.
const registerAge = 10 * time.Second

// reconcile compares what a node holds with the state, and tells it what
// differs.
func (t *tenure) reconcile(l *link, reg wasmatrix.Registration, received time.Time) {
	// The node may have been told of an instance after it listed what it holds.
	// But where the state says for longer than a node waits for an answer that
	// it has the instance, it has not.
	age := max(registerAge, t.cfg.LeaseTTL)
	sure := wasmatrix.TimeOf(received.Add(-age))
	snap := t.cfg.State.Snapshot()
	held := make(map[wasmatrix.InstanceID]uint64, len(reg.Holding))
	var stale []directive
	var outdated []*wasmatrix.Instance
	var vanished []wasmatrix.InstanceID
	for _, h := range reg.Holding {
		i, ok := snap.Instance(h.Instance)
		if !ok || i.Node != reg.ID || i.Epoch != h.Epoch || !i.Status.OnNode() {
			stale = append(stale, directive{instance: h.Instance, forget: h.Epoch})
			continue
		}
		held[h.Instance] = h.Epoch
		switch {
		case h.GrantsIndex < i.GrantsIndex:
			outdated = append(outdated, i)
		case h.GrantsIndex > i.GrantsIndex && !i.StopRequested:
			// The state was replaced by one of before. What the node knows of its
			// assignments counts as newer than any that it can be told, until it
			// begins anew.
			vanished = append(vanished, i.ID)
		}
	}
	l.owe(outdated...)
	l.void(stale)

	var ids []wasmatrix.InstanceID
	var stopped []wasmatrix.Report
	doubtful := false
	for i := range snap.InstancesOn(reg.ID) {
		_, holds := held[i.ID]
		absent := !holds && i.ChangedAt < sure
		switch {
		case absent && i.StopRequested:
			stopped = append(stopped, wasmatrix.Report{
				Instance: i.ID, Epoch: i.Epoch, Attempt: max(1, i.Attempt), Seq: i.Seq + 1,
				Status: wasmatrix.StatusStopped, Reason: "the node does not hold it", At: now(),
			})
		case absent && i.Attempt > 0:
			vanished = append(vanished, i.ID)
		case i.StopRequested, i.Status == wasmatrix.StatusStarting:
			ids = append(ids, i.ID)
		case !holds:
			// It may have ended what it began, as when the state was restored to a
			// time before that: an order of the same epoch would begin nothing.
			doubtful = true
		}
	}
	l.direct(ids...)
	if doubtful {
		l.doubtUntil(received.Add(age))
	}
	if len(stopped)+len(vanished) > 0 {
		t.spawn(func(ctx context.Context) { t.settle(ctx, reg.ID, reg.Boot, stopped, vanished) })
	}
}

// settle ends instances that were to stop and that their node does not hold,
// and begins those anew that it ran and does not hold, since under their old epoch
// its reports would be taken for old ones, or with assignments of another future. Where that fails they are as they
// were, and the next registration leads here again.
func (t *tenure) settle(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, stopped []wasmatrix.Report, vanished []wasmatrix.InstanceID) {
	for chunk := range chunks(stopped, maxReportBatch) {
		if _, err := propose[[]bool](ctx, t, wasmatrix.ApplyReports{At: now(), Node: node, Boot: boot, Reports: chunk}); err != nil {
			t.log.Warn("could not settle instances that are to stop", "node", node, "error", err)
			return
		}
	}
	for _, id := range vanished {
		if _, err := propose[*wasmatrix.Instance](ctx, t, wasmatrix.RestartInstance{At: now(), Instance: id}); err != nil {
			t.log.Warn("could not begin an instance anew that its node does not hold", "node", node, "instance", id, "error", err)
		}
	}
}

// expire marks nodes down whose lease has run out.
func (t *tenure) expire(ctx context.Context) {
	for {
		at := time.Now()
		// A lease that begins while this sleeps runs for a TTL at least.
		next := at.Add(t.cfg.LeaseTTL)
		for _, l := range t.all() {
			end, runs := l.expiry()
			switch {
			case !runs:
			case !end.After(at):
				l.condemn("its lease ran out", l.expired)
			case end.Before(next):
				next = end
			}
		}
		if !sleep(ctx, time.Until(next)) {
			return
		}
	}
}

// expiry is when the lease that runs now is over; false where none runs, or it
// was found to be over already.
func (l *link) expiry() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || l.condemned {
		return time.Time{}, false
	}
	return l.lockedExpiry(), true
}

func (l *link) lockedExpiry() time.Time {
	end := l.renewed.Add(l.t.cfg.LeaseTTL)
	if l.renewed.Equal(l.t.began) {
		// It has to find the new leader first.
		end = end.Add(l.t.cfg.LeaseMargin)
	}
	return end
}

// expired is expiry for one that is condemned.
func (l *link) expired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up && !l.lockedExpiry().After(time.Now())
}
