package node

import (
	"context"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

const (
	maxBatch      = 1000    // reports in one message
	maxBatchBytes = 1 << 20 // of their texts, about
	// reportTimeout is short, since a leader that stalls is soon succeeded by one
	// that answers, and a report that arrives twice does no harm.
	reportTimeout = 3 * time.Second
	// maxPending bounds the unacknowledged reports of one instance. It is even,
	// since they go by pairs.
	maxPending = 16
)

// outbox is the instances that have something to report, in the order in which
// they came to. It is guarded by Node.mu.
type outbox struct {
	queue    []*instance
	inFlight bool
	drained  chan struct{} // not nil while somebody waits for it to be empty
}

func (o *outbox) add(in *instance) {
	if !in.queued {
		in.queued = true
		o.queue = append(o.queue, in)
	}
}

// settle tells those who wait that everything is acknowledged, if it is.
func (o *outbox) settle() {
	if o.drained != nil && len(o.queue) == 0 && !o.inFlight {
		close(o.drained)
		o.drained = nil
	}
}

// state takes a statement about an instance, fills in what orders it among
// others, and has it sent.
func (n *Node) state(in *instance, r wasmatrix.Report) {
	if r.At == 0 {
		r.At = wasmatrix.TimeOf(time.Now())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.buried {
		return
	}
	in.status = r.Status
	in.seq++
	r.Instance, r.Epoch, r.Attempt, r.Seq = in.id, in.epoch, in.attempt, in.seq
	if r.Crash != nil {
		r.Crash.Attempt = in.attempt
	}
	in.last = &r
	if len(in.pending) >= maxPending {
		// The oldest are a start and an end, or an end and the start after it.
		// The package comment says why the rest is enough.
		in.pending = slices.Delete(in.pending, 0, 2)
	}
	in.pending = append(in.pending, r)
	n.outbox.add(in)
	poke(n.wake)
}

// batch is what one message carries.
type batch struct {
	reports []wasmatrix.Report
	parts   []part
}

// part says how far a batch goes for one instance.
type part struct {
	in  *instance
	seq uint64
}

// take makes a batch of what waits, or nil.
func (n *Node) take() *batch {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := &n.outbox
	if !n.enrolled || len(o.queue) == 0 {
		o.settle()
		return nil
	}
	b := &batch{}
	size, taken := 0, 0
	for _, in := range o.queue {
		fit := 0
		for i := range in.pending {
			size += reportSize(&in.pending[i])
			if len(b.reports)+fit >= maxBatch || size > maxBatchBytes && len(b.reports)+fit > 0 {
				break
			}
			fit++
		}
		if fit > 0 {
			b.reports = append(b.reports, in.pending[:fit]...)
			b.parts = append(b.parts, part{in, in.pending[fit-1].Seq})
		}
		if fit < len(in.pending) {
			break // stays in the queue, for the next batch
		}
		in.queued = false
		taken++
	}
	o.queue = slices.Delete(o.queue, 0, taken)
	if len(b.reports) == 0 {
		o.settle()
		return nil
	}
	o.inFlight = true
	return b
}

func reportSize(r *wasmatrix.Report) int {
	n := 64 + len(r.Instance) + len(r.Reason)
	if c := r.Crash; c != nil {
		n += 64 + len(c.Message)
		for _, f := range c.Stack {
			n += len(f)
		}
	}
	return n
}

// acknowledged drops what a batch carried. An instance whose final report is
// acknowledged is no longer held.
func (n *Node) acknowledged(b *batch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outbox.inFlight = false
	for _, p := range b.parts {
		in := p.in
		if in.buried {
			continue
		}
		in.pending = slices.DeleteFunc(in.pending, func(r wasmatrix.Report) bool { return r.Seq <= p.seq })
		if len(in.pending) == 0 {
			in.pending = nil
			in.settle()
			if in.status.Final() {
				n.bury(in)
			}
		}
	}
	n.outbox.settle()
}

// unsent puts a batch back, ahead of what came meanwhile.
func (n *Node) unsent(b *batch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outbox.inFlight = false
	var again []*instance
	for _, p := range b.parts {
		if !p.in.buried && !p.in.queued {
			p.in.queued = true
			again = append(again, p.in)
		}
	}
	n.outbox.queue = append(again, n.outbox.queue...)
}

// sendReports sends what there is as soon as it is there, one message at a
// time: what comes while one is under way goes together with the next.
func (n *Node) sendReports(ctx context.Context) {
	retry := backoff{first: 20 * time.Millisecond, limit: 2 * time.Second}
	for {
		b := n.take()
		if b == nil {
			select {
			case <-n.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		sending, cancel := context.WithTimeout(ctx, reportTimeout)
		err := n.cfg.Control.Report(sending, n.cfg.ID, n.cfg.Boot, b.reports)
		cancel()
		if err == nil {
			n.acknowledged(b)
			retry.reset()
			continue
		}
		n.unsent(b)
		if ctx.Err() != nil {
			return
		}
		n.log.Debug("reporting failed", "reports", len(b.reports), "error", err)
		if unknownNode(err) {
			n.setEnrolled(false)
			poke(n.register)
		}
		if !retry.wait(ctx, n.contact) {
			return
		}
	}
}

// flush waits until every report is acknowledged, or ctx ends. It does not wait
// while no leader knows the node.
func (n *Node) flush(ctx context.Context) {
	n.mu.Lock()
	o := &n.outbox
	if !n.enrolled || len(o.queue) == 0 && !o.inFlight {
		n.mu.Unlock()
		return
	}
	if o.drained == nil {
		o.drained = make(chan struct{})
	}
	drained := o.drained
	n.mu.Unlock()
	select {
	case <-drained:
	case <-ctx.Done():
	case <-n.life.Done():
	}
}
