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

// void is forget for what a node says that it holds, all of it, when it registers:
// it has to have given that up before it is clean.
func (l *link) void(stale []directive) {
	l.mu.Lock()
	l.heard = true
	if !l.clean {
		for _, d := range stale {
			if l.voiding == nil {
				l.voiding = make(map[directive]struct{})
			}
			l.voiding[d] = struct{}{}
		}
		l.tidy()
		l.send()
	}
	l.mu.Unlock()
	l.forget(stale)
}

// tidy makes the link clean if nothing is left to give up, and no order that was
// sent before can arrive any more. The caller holds mu.
func (l *link) tidy() {
	if l.heard && !l.clean && len(l.voiding) == 0 && !l.grants.lurking {
		l.trusted, l.clean = true, true
		l.ease()
	}
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

// await notes what the node has accepted.
func (l *link) await(node *wasmatrix.Node, orders []wasmatrix.Order) {
	at := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || l.node.Boot != node.Boot {
		return
	}
	defer l.tidy()
	for _, o := range orders {
		if o.Forget {
			delete(l.voiding, directive{instance: o.Instance, forget: o.Epoch})
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
