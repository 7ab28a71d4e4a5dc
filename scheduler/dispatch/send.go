package dispatch

import (
	"context"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// send starts the sender unless it is at work already or cannot be. The caller
// holds mu.
func (l *link) send() {
	if l.sending || !l.up || l.replaced || !l.due() {
		return
	}
	l.sending = l.t.spawn(l.sendAll)
}

// due reports whether there is anything to tell the node. The caller holds mu.
func (l *link) due() bool {
	return len(l.orders.list) > 0 || len(l.grants.owed) > 0 || l.raises() || l.placed < l.t.providers.newest()
}

// raises reports whether the node is to refuse what may still be on its way to it
// before anything else can be. The caller holds mu.
func (l *link) raises() bool { return l.grants.lurking && l.heard && !l.clean }

// errand is what the sender does in one round.
type errand struct {
	node      *wasmatrix.Node
	grants    []wasmatrix.InstanceID
	raise     bool // SetGrants is due, whether or not there are grants
	providers bool
	orders    []directive
}

// sendAll sends until nothing is due, one call at a time: what comes meanwhile
// goes with the next. So whatever one call says is older than what the next does.
func (l *link) sendAll(ctx context.Context) {
	s := sender{l: l, retry: backoff{first: 50 * time.Millisecond, limit: 2 * time.Second}, orders: maxPushBatch, grants: maxGrantBatch}
	for {
		e := l.next(s.orders, s.grants)
		if e == nil {
			return
		}
		good := true
		if e.raise || len(e.grants) > 0 {
			good = s.sendGrants(ctx, e)
		}
		if e.providers {
			good = s.sendProviders(ctx, e.node) && good
		}
		if len(e.orders) > 0 {
			good = s.sendOrders(ctx, e.node, e.orders) && good
		}
		switch {
		case good:
			s.retry.reset()
		case !s.retry.wait(ctx):
			return
		}
	}
}

// sender is what the loop of a link knows from one round to the next.
type sender struct {
	l              *link
	retry          backoff
	orders, grants int // how many to take
	conflicts      int // orders that were refused in a row because the node knew of a later state
}

// next takes what is to be sent now. It returns nil when the sender is to end.
func (l *link) next(orders, grants int) *errand {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || l.replaced || !l.due() || l.t.ctx.Err() != nil {
		l.sending = false
		return nil
	}
	return &errand{
		node: l.node, grants: l.grants.some(grants), raise: l.raises(),
		providers: l.placed < l.t.providers.newest(), orders: l.orders.take(orders),
	}
}

// call gives a context for one call to the node.
func (s *sender) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.l.t.cfg.PushTimeout)
}

// failed takes in that a call to the node failed. It returns false.
func (s *sender) failed(ctx context.Context, what string, err error) bool {
	if ctx.Err() == nil {
		s.l.t.log.Debug("telling a node failed", "node", s.l.id, "what", what, "error", err)
		s.l.suspect("a push to it failed")
	}
	return false
}

// sendOrders reports whether the node took the orders, or there were none.
func (s *sender) sendOrders(ctx context.Context, node *wasmatrix.Node, batch []directive) bool {
	l := s.l
	snap := l.t.cfg.State.Snapshot()
	orders, rest := l.compose(snap, node, batch)
	if len(rest) > 0 {
		l.putBack(rest)
		batch = batch[:len(batch)-len(rest)]
	}
	if len(orders) == 0 {
		return true
	}
	sending, cancel := s.call(ctx)
	err := l.t.cfg.Agents.Execute(sending, node, l.t.term, snap.Index(), orders)
	cancel()
	if err == nil {
		l.await(node, orders)
		s.conflicts = 0
		s.orders = min(2*s.orders, maxPushBatch)
		return true
	}
	l.putBack(batch)
	if wasmatrix.CodeOf(err) == wasmatrix.CodeConflict {
		// Nothing was taken. The node may know of a later state than this index
		// tells, though nothing that it was told is missing in ours: another command
		// moves the index on.
		if s.conflicts++; s.conflicts%2 == 1 {
			return l.t.advance(ctx) == nil
		}
		return s.failed(ctx, "orders", err)
	}
	s.conflicts = 0
	l.lurk(node, snap.Index())
	// One order that the node cannot take must not hold up all others for
	// ever: they part, and go again after those that wait behind them.
	s.orders = max(1, len(orders)/2)
	return s.failed(ctx, "orders", err)
}

func (l *link) putBack(batch []directive) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up {
		return
	}
	for _, d := range batch {
		l.orders.add(d)
	}
}

// compose reads from the state what to tell the node. Directives that did not
// fit into one message are returned as rest.
func (l *link) compose(snap wasmatrix.Snapshot, node *wasmatrix.Node, batch []directive) (orders []wasmatrix.Order, rest []directive) {
	size := 0
	for n, d := range batch {
		if d.forget > 0 {
			orders = append(orders, wasmatrix.Order{Kind: wasmatrix.OrderStop, Instance: d.instance, Epoch: d.forget, Forget: true})
			continue
		}
		i, ok := snap.Instance(d.instance)
		switch {
		case !ok || i.Node != node.ID || !i.Status.OnNode():
		case i.StopRequested:
			orders = append(orders, wasmatrix.Order{Kind: wasmatrix.OrderStop, Instance: i.ID, Epoch: i.Epoch})
		case !l.t.mayBegin(i):
			// It is directed again once it may.
		default:
			grants := wasmatrix.GrantsOf(snap, i)
			size += specSize(i.Spec) + grantSize(grants)
			if size > maxPushBytes && len(orders) > 0 {
				return orders, batch[n:]
			}
			orders = append(orders, wasmatrix.Order{Kind: wasmatrix.OrderStart, Instance: i.ID, Epoch: i.Epoch, Spec: i.Spec, Grants: grants})
		}
	}
	return orders, nil
}
