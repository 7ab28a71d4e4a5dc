package node

import (
	"context"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// roomWait is how long a start waits for the place of instances that are on
// their way out, such as older epochs. The leader places no more than fits, so
// that a longer wait means that the two disagree.
const roomWait = 30 * time.Second

// room is the capacity of the node. It is guarded by Node.mu.
type room struct {
	limit, used wasmatrix.Capacity
	waiting     []*claim // first come, first served
}

type claim struct {
	demand wasmatrix.Capacity
	ready  chan struct{} // closed when it is granted
}

// occupy takes demand of the capacity, and waits for it where older epochs
// still hold it. Errors are RESOURCE_EXHAUSTED, or that of ctx.
func (n *Node) occupy(ctx context.Context, demand wasmatrix.Capacity) error {
	n.mu.Lock()
	r := &n.room
	if !(wasmatrix.Capacity{}).Fits(demand, r.limit) {
		n.mu.Unlock()
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the instance needs %s of memory, and the node offers %s",
			wasmatrix.FormatBytes(demand.Memory), wasmatrix.FormatBytes(r.limit.Memory))
	}
	c := &claim{demand: demand, ready: make(chan struct{})}
	r.waiting = append(r.waiting, c)
	r.grant()
	n.mu.Unlock()
	select {
	case <-c.ready:
		return nil
	default:
	}

	timeout := time.NewTimer(roomWait)
	defer timeout.Stop()
	var err error
	select {
	case <-c.ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timeout.C:
		err = wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the node had no room within %s", roomWait)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(r.waiting, c); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	} else {
		r.used = r.used.Minus(demand) // granted just now
	}
	r.grant()
	return err
}

// vacate gives capacity back.
func (n *Node) vacate(demand wasmatrix.Capacity) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.room.used = n.room.used.Minus(demand)
	n.room.grant()
}

func (r *room) grant() {
	for len(r.waiting) > 0 && r.used.Fits(r.waiting[0].demand, r.limit) {
		c := r.waiting[0]
		r.waiting = slices.Delete(r.waiting, 0, 1)
		r.used = r.used.Plus(c.demand)
		close(c.ready)
	}
}
