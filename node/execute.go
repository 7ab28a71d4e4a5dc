package node

import (
	"context"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Execute takes orders in and returns before they are carried out. Orders of an
// epoch older than what the node knows, and repeated ones, change nothing;
// where the node has already stated what became of the instance, a repeated
// order makes it state that again for a while. Index is that of the state which the
// orders were read from. CONFLICT means that the orders are for another process, of a
// leader that has been succeeded, or of a state before that of the last SetGrants;
// nothing was taken in then, nor with any other error.
func (n *Node) Execute(ctx context.Context, term uint64, boot wasmatrix.BootID, index uint64, orders []wasmatrix.Order) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range orders {
		if err := checkOrder(&orders[i]); err != nil {
			return err
		}
	}
	ended, err := n.takeIn(term, boot, index, orders)
	for _, in := range ended {
		in.cancel()
	}
	return err
}

func checkOrder(o *wasmatrix.Order) error {
	if err := o.Instance.Validate(); err != nil {
		return err
	}
	switch {
	case o.Kind != wasmatrix.OrderStart && o.Kind != wasmatrix.OrderStop:
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "order of unknown kind %d for instance %s", o.Kind, o.Instance)
	case o.Epoch == 0:
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "order without an epoch for instance %s", o.Instance)
	case o.Kind == wasmatrix.OrderStart && o.Spec == nil:
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "start order without a spec for instance %s", o.Instance)
	}
	return nil
}

// takeIn does what Execute says, and returns the instances to cancel.
func (n *Node) takeIn(term uint64, boot wasmatrix.BootID, index uint64, orders []wasmatrix.Order) ([]*instance, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.obeys(term, boot); err != nil {
		return nil, err
	}
	if index < n.floor {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "orders of the state at index %d: node %s has grants of index %d", index, n.cfg.ID, n.floor)
	}
	var ended []*instance
	for i := range orders {
		o := &orders[i]
		cur := n.instances[o.Instance]
		if cur != nil && cur.epoch < o.Epoch {
			n.bury(cur)
			ended = append(ended, cur)
			cur = nil
		}
		if o.Kind == wasmatrix.OrderStart {
			n.start(o, cur)
		} else if stopped := n.stop(o, cur); stopped != nil {
			ended = append(ended, stopped)
		}
	}
	return ended, nil
}

// obeys checks that what a leader of a term tells the process of a boot is for
// this one, which is not about to end. The caller holds mu.
func (n *Node) obeys(term uint64, boot wasmatrix.BootID) error {
	if boot != n.cfg.Boot {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "meant for boot %s of node %s, which is boot %s", boot, n.cfg.ID, n.cfg.Boot)
	}
	if err := n.fence(term); err != nil {
		return err
	}
	if n.closing {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "node %s is shutting down", n.cfg.ID)
	}
	return nil
}

// fence refuses terms below the highest that was seen. The caller holds mu.
func (n *Node) fence(term uint64) error {
	if term < n.term {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "term %d is over: node %s has heard from the leader of term %d", term, n.cfg.ID, n.term)
	}
	n.term = term
	return nil
}

// start carries out a start. cur is what the node holds of the instance, of the
// order's epoch or a newer one. The caller holds mu.
func (n *Node) start(o *wasmatrix.Order, cur *instance) {
	if cur != nil {
		if cur.epoch == o.Epoch {
			n.repeat(cur)
		}
		return
	}
	in := &instance{id: o.Instance, epoch: o.Epoch, spec: o.Spec, attempt: 1}
	if in.grants = o.Grants; in.grants == nil {
		in.grants = &wasmatrix.GrantSet{Instance: o.Instance, Epoch: o.Epoch, Exclusive: o.Spec.Exclusive}
	}
	var prev <-chan struct{}
	if g := n.ended.byID[o.Instance]; g != nil {
		if g.epoch >= o.Epoch && time.Since(g.dug) < lateOrder {
			if g.epoch == o.Epoch && g.final != nil {
				n.restate(g)
			}
			return
		}
		prev = g.done
		if g.epoch < o.Epoch {
			in.logs, in.crashes = g.logs, g.crashes
		} else {
			g.discardLogs()
		}
		n.ended.remove(o.Instance)
	}
	n.launch(in, prev)
}

// stop carries out a stop; cur is as for start. It returns the instance to
// cancel, or nil. The caller holds mu.
func (n *Node) stop(o *wasmatrix.Order, cur *instance) *instance {
	if cur != nil {
		switch {
		case cur.epoch > o.Epoch:
			return nil
		case o.Forget:
			n.bury(cur)
		case cur.status.Final():
			n.repeat(cur)
			return nil
		default:
			cur.stopping = true
		}
		return cur
	}
	in := &instance{id: o.Instance, epoch: o.Epoch, attempt: 1, stopping: true}
	var prev <-chan struct{}
	if g := n.ended.byID[o.Instance]; g != nil {
		if g.epoch > o.Epoch || g.epoch == o.Epoch && o.Forget {
			return nil
		}
		if g.epoch == o.Epoch {
			if g.final != nil {
				n.restate(g)
				return nil
			}
			// It must be newer than whatever was accepted of this epoch.
			in.attempt, in.seq = max(1, g.attempt), g.seq
		}
		in.logs, in.crashes, prev = g.logs, g.crashes, g.done
		n.ended.remove(o.Instance)
	}
	if o.Forget {
		// A start of this epoch may still be on its way.
		n.ended.put(&grave{id: o.Instance, epoch: o.Epoch, done: prev, logs: in.logs, crashes: in.crashes})
		return nil
	}
	// The leader believes that the instance is here. Once nothing of it runs,
	// that it is stopped is true, and saying so makes the two agree.
	n.launch(in, prev)
	return nil
}

// repeat states again what was last stated of an instance: the leader would not
// order what it knows to be done. The caller holds mu.
func (n *Node) repeat(in *instance) {
	if in.last == nil || len(in.pending) > 0 {
		return
	}
	in.pending = append(in.pending, *in.last)
	n.outbox.add(in)
	poke(n.wake)
}

// restate makes an ended instance one that waits for acknowledgement again. The
// caller holds mu.
func (n *Node) restate(g *grave) {
	in := &instance{
		id: g.id, epoch: g.epoch, attempt: g.attempt, seq: g.seq, status: g.final.Status, last: g.final,
		logs: g.logs, crashes: g.crashes, cancel: func() {}, done: closedChan,
	}
	if in.logs == nil {
		in.logs = newLogRing(&n.logs)
	}
	n.ended.remove(g.id)
	n.instances[g.id] = in
	n.repeat(in)
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Holding lists what the node runs, or has ended without acknowledgement.
func (n *Node) Holding() []wasmatrix.Holding {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.holding()
}

// holding is Holding for a caller who holds mu.
func (n *Node) holding() []wasmatrix.Holding {
	list := make([]wasmatrix.Holding, 0, len(n.instances))
	for id, in := range n.instances {
		h := wasmatrix.Holding{Instance: id, Epoch: in.epoch, Status: in.status}
		if in.client != nil {
			h.GrantsIndex = in.client.Index()
		}
		list = append(list, h)
	}
	return list
}
