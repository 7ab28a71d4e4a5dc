package dispatch

import (
	"context"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// directive says that a node is to be told about an instance: what the state
// says when it is sent, or, where forget is an epoch, to forget that epoch.
type directive struct {
	instance wasmatrix.InstanceID
	forget   uint64
}

// orderQueue holds each directive once, in the order in which they came.
type orderQueue struct {
	list   []directive
	queued map[directive]struct{}
}

func (q *orderQueue) add(d directive) {
	if _, ok := q.queued[d]; ok {
		return
	}
	if q.queued == nil {
		q.queued = make(map[directive]struct{})
	}
	q.queued[d] = struct{}{}
	q.list = append(q.list, d)
}

// take removes up to n from the front.
func (q *orderQueue) take(n int) []directive {
	n = min(n, len(q.list))
	taken := q.list[:n:n]
	q.list = q.list[n:]
	for _, d := range taken {
		delete(q.queued, d)
	}
	if len(q.list) == 0 {
		q.list = nil // lets go of what was taken
	}
	return taken
}

// awaited is an order that was sent, and of which nothing has come yet.
type awaited struct {
	epoch uint64
	stop  bool
	sent  time.Time
	tries int
}

// direct queues instances for sending.
func (l *link) direct(ids ...wasmatrix.InstanceID) {
	if len(ids) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.orders.add(directive{instance: id})
	}
	l.send()
}

// forget queues orders to end epochs that are settled or superseded.
func (l *link) forget(stale []directive) {
	if len(stale) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range stale {
		l.orders.add(d)
	}
	l.send()
}

// send starts the sender unless it is at work already or cannot be. The caller
// holds mu.
func (l *link) send() {
	if l.sending || !l.up || l.replaced || len(l.orders.list) == 0 {
		return
	}
	l.sending = l.t.spawn(l.sendAll)
}

// sendAll sends until nothing is queued, one Execute at a time: what comes
// meanwhile goes with the next.
func (l *link) sendAll(ctx context.Context) {
	retry := backoff{first: 50 * time.Millisecond, limit: 2 * time.Second}
	limit := maxPushBatch
	for {
		node, batch := l.next(limit)
		if batch == nil {
			return
		}
		orders, rest := l.compose(node, batch)
		if len(rest) > 0 {
			l.putBack(rest)
		}
		if len(orders) == 0 {
			continue
		}
		sending, cancel := context.WithTimeout(ctx, l.t.cfg.PushTimeout)
		err := l.t.cfg.Agents.Execute(sending, node, l.t.term, orders)
		cancel()
		if err == nil {
			l.await(orders)
			retry.reset()
			limit = min(2*limit, maxPushBatch)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		l.t.log.Debug("push to node failed", "node", l.id, "orders", len(orders), "error", err)
		l.putBack(batch[:len(batch)-len(rest)])
		l.suspect("a push to it failed")
		// One order that the node cannot take must not hold up all others for
		// ever: they part, and go again after those that wait behind them.
		limit = max(1, len(orders)/2)
		if !retry.wait(ctx) {
			return
		}
	}
}

// next takes what is to be sent now. It returns nil when the sender is to end.
func (l *link) next(limit int) (*wasmatrix.Node, []directive) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || l.replaced || len(l.orders.list) == 0 || l.t.ctx.Err() != nil {
		l.sending = false
		return nil, nil
	}
	return l.node, l.orders.take(limit)
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
func (l *link) compose(node *wasmatrix.Node, batch []directive) (orders []wasmatrix.Order, rest []directive) {
	snap := l.t.cfg.State.Snapshot()
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
		default:
			size += specSize(i.Spec)
			if size > maxPushBytes && len(orders) > 0 {
				return orders, batch[n:]
			}
			orders = append(orders, wasmatrix.Order{Kind: wasmatrix.OrderStart, Instance: i.ID, Epoch: i.Epoch, Spec: i.Spec})
		}
	}
	return orders, nil
}

// await notes what the node has accepted.
func (l *link) await(orders []wasmatrix.Order) {
	at := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range orders {
		if o.Forget {
			continue
		}
		a := awaited{epoch: o.Epoch, stop: o.Kind == wasmatrix.OrderStop, sent: at}
		if before, ok := l.awaiting[o.Instance]; ok && before.epoch == a.epoch && before.stop == a.stop {
			a.tries = before.tries + 1
		}
		l.awaiting[o.Instance] = a
	}
}

// maxReminders is how often an order is pushed in vain before the node is asked
// to register, and so to say what it holds.
const maxReminders = 1

// remind pushes orders again of which nothing has come.
func (t *tenure) remind(ctx context.Context) {
	tick := time.NewTicker(t.cfg.RepushAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		snap := t.cfg.State.Snapshot()
		at := time.Now()
		for _, l := range t.all() {
			l.remind(snap, at)
		}
	}
}

func (l *link) remind(snap wasmatrix.Snapshot, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.awaiting {
		i, ok := snap.Instance(id)
		open := ok && i.Node == l.id && i.Epoch == a.epoch && i.Status.OnNode() && i.StopRequested == a.stop &&
			(a.stop || i.Status == wasmatrix.StatusStarting)
		switch {
		case !open:
			delete(l.awaiting, id)
		case at.Sub(a.sent) >= l.t.cfg.RepushAfter<<min(a.tries, 4):
			l.orders.add(directive{instance: id})
			if a.tries >= maxReminders {
				l.synced = false
			}
		}
	}
	l.send()
}
