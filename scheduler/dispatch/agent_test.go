package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// process is a node's process that follows the protocol: it registers, renews,
// obeys orders by epoch, and reports until it is heard.
type process struct {
	w    *world
	node wasmatrix.NodeID
	boot wasmatrix.BootID
	addr string
	cap  wasmatrix.Capacity

	dead chan struct{} // closed when it is killed
	done chan struct{} // closed when its goroutine has ended
	news chan struct{} // has a token when there are reports

	mu      sync.Mutex
	labels  map[string]string
	resumed chan struct{} // not nil while it is paused; closed when it goes on
	cut     bool          // the network between it and the servers is gone
	term    uint64
	lease   time.Time // when its lease is over
	held    map[wasmatrix.InstanceID]*holding
	reports []wasmatrix.Report
	floor   uint64 // orders of lower indexes are refused
	placed  uint64 // index of providers
	// providers are all lists that it was given.
	providers   [][]wasmatrix.PlacedProvider
	setGrants   int   // SetGrants calls so far
	unplaceable error // answer of every SetProviders
	astray      bool  // Execute calls are kept in strays and never answered
	strays      []func()
	stuck       bool // SetGrants puts the sets in force and never returns
	mute        bool // SetGrants fails and does nothing

	// What it does wrong, set by tests.
	ignore    int   // Execute calls that it accepts and forgets
	failing   error // answer of every Execute
	deaf      int   // Execute calls that it obeys and answers with a failure
	slowStart bool  // never says that an instance runs
	executes  int   // Execute calls so far
	refused   int   // of them because the node knew of a later state
	orders    int   // in all of them
}

type holding struct {
	epoch     uint64
	seq       uint64
	status    wasmatrix.Status
	exclusive bool
	grants    *wasmatrix.GrantSet
}

// boots starts a process for a node, in place of the one that listens there.
func (w *world) boot(id string, instances uint32) *process {
	w.mu.Lock()
	w.boots++
	p := &process{
		w: w, node: wasmatrix.NodeID(id), boot: wasmatrix.BootID(fmt.Sprintf("%s-boot%d", id, w.boots)), addr: id + ":7483",
		cap:  wasmatrix.Capacity{Memory: uint64(instances) * wasmatrix.DefaultLimits.Memory, Instances: instances},
		dead: make(chan struct{}), done: make(chan struct{}), news: make(chan struct{}, 1),
		held: make(map[wasmatrix.InstanceID]*holding), labels: map[string]string{"zone": "a"},
	}
	w.processes[p.addr] = p
	w.mu.Unlock()
	go p.run()
	return p
}

// up waits for nodes to be up.
func (w *world) up(processes ...*process) {
	w.t.Helper()
	for _, p := range processes {
		w.await(string(p.node)+" is up", func() bool {
			n, ok := w.state().Node(p.node)
			return ok && n.Status == wasmatrix.NodeUp && n.Boot == p.boot
		})
	}
}

func (w *world) nodeStatus(id wasmatrix.NodeID) wasmatrix.NodeStatus {
	n, ok := w.state().Node(id)
	if !ok {
		return wasmatrix.NodeUnknown
	}
	return n.Status
}

// kill ends the process at once.
func (p *process) kill() {
	p.w.set(func() {
		if p.w.processes[p.addr] == p {
			delete(p.w.processes, p.addr)
		}
	})
	p.mu.Lock()
	select {
	case <-p.dead:
	default:
		close(p.dead)
	}
	p.mu.Unlock()
	<-p.done
}

func (p *process) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resumed == nil {
		p.resumed = make(chan struct{})
	}
}

func (p *process) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resumed != nil {
		close(p.resumed)
		p.resumed = nil
	}
}

func (p *process) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

var errDead = errors.New("connection reset by peer")

// gate waits while the process is paused.
func (p *process) gate(ctx context.Context) error {
	for {
		p.mu.Lock()
		resumed := p.resumed
		p.mu.Unlock()
		if resumed == nil {
			select {
			case <-p.dead:
				return errDead
			default:
				return ctx.Err()
			}
		}
		select {
		case <-resumed:
		case <-p.dead:
			return errDead
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reach waits for ever while the network is cut.
func (p *process) reach(ctx context.Context) error {
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut {
		<-ctx.Done()
		return ctx.Err()
	}
	return p.gate(ctx)
}

// run is the side that talks to servers.
func (p *process) run() {
	defer close(p.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-p.dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	registered := false
	renew := time.Now()
	for {
		if p.gate(ctx) != nil {
			return
		}
		switch {
		case !registered:
			registered = p.register(ctx)
		case !time.Now().Before(renew):
			registered = p.renew(ctx)
			renew = time.Now().Add(time.Second)
		default:
			p.send(ctx)
		}
		wait := time.Until(renew)
		if !registered {
			wait = 100 * time.Millisecond
		} else if p.unsent() {
			wait = 20 * time.Millisecond
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-t.C:
		case <-p.news:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// call limits a call to the leader, as a client's timeout does.
func (p *process) call(ctx context.Context) (context.Context, context.CancelFunc, bool) {
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	return ctx, cancel, !cut
}

func (p *process) register(ctx context.Context) bool {
	ctx, cancel, ok := p.call(ctx)
	defer cancel()
	if !ok {
		return false
	}
	p.mu.Lock()
	reg := wasmatrix.Registration{ID: p.node, Boot: p.boot, Addr: p.addr, Version: "1", Labels: p.labels, Capacity: p.cap}
	for id, h := range p.held {
		reg.Holding = append(reg.Holding, wasmatrix.Holding{Instance: id, Epoch: h.epoch, Status: h.status, GrantsIndex: h.grants.Index})
	}
	p.mu.Unlock()
	sent := time.Now()
	lease, err := p.w.d().Register(ctx, reg)
	if err != nil || p.gate(ctx) != nil {
		return false
	}
	p.take(lease, sent)
	return true
}

func (p *process) renew(ctx context.Context) bool {
	ctx, cancel, ok := p.call(ctx)
	defer cancel()
	if !ok {
		return true
	}
	sent := time.Now()
	lease, err := p.w.d().Renew(ctx, p.node, p.boot)
	if err != nil {
		return true
	}
	if p.gate(ctx) != nil {
		return true
	}
	p.take(lease, sent)
	return !lease.Resync
}

func (p *process) take(lease wasmatrix.Lease, sent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.term = max(p.term, lease.Term)
	if end := sent.Add(time.Duration(lease.TTL)); lease.TTL > 0 && end.After(p.lease) {
		p.lease = end
	}
}

func (p *process) unsent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.reports) > 0
}

func (p *process) send(ctx context.Context) {
	ctx, cancel, ok := p.call(ctx)
	defer cancel()
	p.mu.Lock()
	reports := slices.Clone(p.reports)
	p.mu.Unlock()
	if !ok || len(reports) == 0 {
		return
	}
	if _, err := p.w.d().Report(ctx, p.node, p.boot, reports); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reports = p.reports[len(reports):]
	for _, r := range reports {
		if h := p.held[r.Instance]; h != nil && h.epoch == r.Epoch && r.Status.Final() {
			delete(p.held, r.Instance)
		}
	}
}

// say queues a report. The caller holds mu.
func (p *process) say(id wasmatrix.InstanceID, h *holding, status wasmatrix.Status) {
	h.seq++
	h.status = status
	p.reports = append(p.reports, wasmatrix.Report{
		Instance: id, Epoch: h.epoch, Attempt: 1, Seq: h.seq, Status: status, At: wasmatrix.TimeOf(time.Now()),
	})
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// end has an instance exit by itself.
func (p *process) end(id wasmatrix.InstanceID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.held[id]; h != nil && !h.status.Final() {
		p.say(id, h, wasmatrix.StatusStopped)
	}
}

// obey carries out an order. The caller holds mu.
func (p *process) obey(o wasmatrix.Order) {
	h := p.held[o.Instance]
	if h != nil && o.Epoch < h.epoch {
		return
	}
	switch o.Kind {
	case wasmatrix.OrderStart:
		if h != nil && h.epoch == o.Epoch {
			return
		}
		h = &holding{epoch: o.Epoch, status: wasmatrix.StatusStarting, exclusive: o.Spec.Exclusive, grants: o.Grants}
		p.held[o.Instance] = h
		if !p.slowStart {
			p.say(o.Instance, h, wasmatrix.StatusRunning)
		}
	case wasmatrix.OrderStop:
		switch {
		case h == nil || h.epoch != o.Epoch:
		case o.Forget:
			delete(p.held, o.Instance)
		case !h.status.Final():
			p.say(o.Instance, h, wasmatrix.StatusStopped)
		}
	}
}

// checkExclusive notes when an exclusive instance begins while another process
// could still act for an older epoch of it.
func (w *world) checkExclusive(p *process, o wasmatrix.Order) {
	if o.Kind != wasmatrix.OrderStart || !o.Spec.Exclusive {
		return
	}
	p.mu.Lock()
	own := p.held[o.Instance]
	runs := own != nil && own.epoch == o.Epoch && own.status != wasmatrix.StatusStopped
	p.mu.Unlock()
	if !runs {
		return
	}
	w.mu.Lock()
	var others []*process
	for _, q := range w.processes {
		if q != p {
			others = append(others, q)
		}
	}
	w.mu.Unlock()
	for _, q := range others {
		q.mu.Lock()
		h := q.held[o.Instance]
		if h != nil && !h.status.Final() && h.epoch < o.Epoch && q.lease.After(time.Now()) {
			w.set(func() {
				w.lapsed = append(w.lapsed, fmt.Sprintf("%s epoch %d begins on %s while %s may act in epoch %d for %s",
					o.Instance, o.Epoch, p.node, q.node, h.epoch, time.Until(q.lease)))
			})
		}
		q.mu.Unlock()
	}
}
