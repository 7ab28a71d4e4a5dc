package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// link is what a leader knows of one node beyond the state, for one term.
type link struct {
	t  *tenure
	id wasmatrix.NodeID
	// turn is held while the node's record is being changed: by a registration,
	// or by marking it down. It is a channel so that waiting for it can end.
	turn chan struct{}

	mu        sync.Mutex // guards all below
	node      *wasmatrix.Node
	up        bool      // orders may be sent to node, and its lease runs
	condemned bool      // is being marked down; no lease is granted
	synced    bool      // has registered in this term, and need not again
	replaced  bool      // another process answers at its address; it must register
	renewed   time.Time // when the last request that its lease counts from came in
	fence     time.Time // when the leases of its earlier boots have run out for sure
	probing   bool
	doubt     time.Time // when it is to register again, because it may lack what it runs by the state; zero for never
	trusted   bool      // its lease may be extended: this leader or one before has made it give up what is not its own
	heard     bool      // it has said what it holds, in this term and since it is up
	clean     bool      // it has given up what this leader does not know of

	orders   orderQueue
	grants   grantQueue
	placed   uint64                 // version of the providers that it has taken; 0 is none
	voiding  map[directive]struct{} // what it is to give up before it is clean
	eased    chan struct{}          // closed when a caller may wait for less; nil while none waits
	sending  bool
	awaiting map[wasmatrix.InstanceID]awaited
	detach   context.CancelFunc // ends the stream; nil where there is none
}

// newLink makes the link of a node as a new term finds it; node is nil where it
// has no record.
func newLink(t *tenure, id wasmatrix.NodeID, node *wasmatrix.Node) *link {
	l := &link{
		t: t, id: id, node: node, turn: make(chan struct{}, 1),
		awaiting: make(map[wasmatrix.InstanceID]awaited),
		// Nobody knows here what the leader before granted, or when. So the lease
		// counts from now, and so does what a node that is down may still hold.
		renewed: t.began,
		fence:   t.leaseEnd(t.began),
	}
	l.up = node != nil && node.Status == wasmatrix.NodeUp
	l.trusted = l.up && !t.restored
	if t.restored {
		l.grants.doubt(t.initial.Index())
	}
	return l
}

// leaseEnd is when the holder of a lease that was last renewed at a time has
// surely noticed its end.
func (t *tenure) leaseEnd(renewed time.Time) time.Time {
	return renewed.Add(t.cfg.LeaseTTL + t.cfg.LeaseMargin)
}

// acquire reports false when ctx ended first.
func (l *link) acquire(ctx context.Context) bool {
	select {
	case l.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *link) release() { <-l.turn }

// takeOver attaches to a node that a new term finds up.
func (l *link) takeOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up {
		l.attach()
	}
}

// admit takes in that a node has registered with a request that came in at
// received. The caller holds turn.
func (l *link) admit(node *wasmatrix.Node, received time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = true
	l.enter(node, received)
}

// adopt takes in that a node is up by the state without having been admitted:
// its registration was committed, but the answer was lost. It has a lease's time
// to register again; if it is gone it must be noticed.
func (l *link) adopt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.t.cfg.State.Snapshot().Node(l.id)
	if !ok || n.Status != wasmatrix.NodeUp || l.up && l.node.Boot == n.Boot {
		return
	}
	l.synced = false
	l.enter(n, time.Now())
}

// enter takes in that a node is up, whose lease counts from a time. The caller
// holds mu.
func (l *link) enter(node *wasmatrix.Node, from time.Time) {
	other := l.node == nil || !l.up || l.node.Boot != node.Boot || l.node.Addr != node.Addr
	if l.node == nil || l.node.Boot != node.Boot {
		if l.node != nil {
			l.raiseFence()
			l.renewed = from
		}
		l.grants = grantQueue{} // none of what was sent or is due reaches this process
		clear(l.voiding)
	}
	if !l.up || l.node.Boot != node.Boot {
		l.trusted, l.heard, l.clean = false, false, false
	}
	if from.After(l.renewed) {
		l.renewed = from
	}
	l.node, l.up, l.condemned, l.replaced = node, true, false, false
	if other {
		clear(l.awaiting)
		l.placed = 0
		l.attach()
	}
	l.ease()
	l.send()
}

// resync has the node register again, so that what it holds is compared with the
// state once more.
func (l *link) resync() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = false
}

// drop takes in that a process of the node is down: its lease is over, and what is
// queued for it is void. When it comes back it registers. Another may have taken
// its place by the state without having been admitted; then marking the first
// down has changed nothing, and that one is not to be lost sight of.
func (l *link) drop(boot wasmatrix.BootID) {
	l.mu.Lock()
	if l.up && l.node.Boot == boot {
		l.lockedDrop()
	}
	l.mu.Unlock()
	l.adopt()
}

func (l *link) lockedDrop() {
	if l.up {
		l.raiseFence()
	}
	l.up, l.synced, l.condemned = false, false, false
	l.trusted, l.heard, l.clean = false, false, false
	l.orders = orderQueue{}
	l.grants.drop()
	clear(l.awaiting)
	clear(l.voiding)
	l.ease()
	if l.detach != nil {
		l.detach()
		l.detach = nil
	}
}

// doubtUntil has the node register again at a time, so that what it holds is
// compared with the state once more.
func (l *link) doubtUntil(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubt = at
}

// raiseFence notes when the lease that runs now will be over for sure.
func (l *link) raiseFence() {
	if end := l.t.leaseEnd(l.renewed); end.After(l.fence) {
		l.fence = end
	}
}

// fencedUntil is when an exclusive instance that snap shows as lost by a node
// may begin elsewhere. No lease of the boot that held it is granted any more:
// a renewal reads the state under the same lock that is taken here.
func (t *tenure) fencedUntil(snap wasmatrix.Snapshot, node wasmatrix.NodeID) time.Time {
	n, _ := snap.Node(node)
	l := t.link(node)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up && !isUp(n, l.node.Boot) {
		// The loss is committed, and the link is about to take it in.
		l.raiseFence()
	}
	return l.fence
}

// isUp reports whether a node is up with a boot, by its record in the state.
func isUp(n *wasmatrix.Node, boot wasmatrix.BootID) bool {
	return n != nil && n.Status == wasmatrix.NodeUp && n.Boot == boot
}

// dropIfDown is drop, unless the state has the node up.
func (l *link) dropIfDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, ok := l.t.cfg.State.Snapshot().Node(l.id); !ok || n.Status != wasmatrix.NodeUp {
		l.lockedDrop()
	}
}

// attach opens the stream to the node, in place of the one there was. The
// caller holds mu.
func (l *link) attach() {
	if l.detach != nil {
		l.detach()
	}
	ctx, cancel := context.WithCancel(l.t.ctx)
	l.detach = cancel
	node := l.node
	if !l.t.spawn(func(context.Context) {
		defer cancel()
		l.stayAttached(ctx, node)
	}) {
		cancel()
	}
}

// stayAttached keeps a stream to the node. Its end is the fastest sign of the
// node's.
func (l *link) stayAttached(ctx context.Context, node *wasmatrix.Node) {
	retry := backoff{first: 50 * time.Millisecond, limit: 5 * time.Second}
	for {
		opened := time.Now()
		err := l.t.cfg.Agents.Attach(ctx, node, l.t.term)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.t.log.Debug("stream to node broke", "node", l.id, "error", err)
		}
		l.suspect("the stream to it broke")
		if time.Since(opened) > retry.limit {
			retry.reset()
		}
		if !retry.wait(ctx) {
			return
		}
	}
}
