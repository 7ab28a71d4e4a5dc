package dispatch

import (
	"context"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// Dispatcher does the leader's work while its server leads. Its methods may be
// called from any goroutine at any time; but for Lead they answer NOT_LEADER
// while it does not lead.
type Dispatcher struct {
	cfg     Config
	leading chan struct{} // holds a token while Lead runs

	mu   sync.Mutex
	term *tenure // guarded by mu; nil while not leading
	last uint64  // guarded by mu; the last term that it led in
}

// New makes a Dispatcher that does not lead. It needs no closing: all it ever
// starts belongs to a call of Lead.
func New(cfg Config) *Dispatcher {
	return &Dispatcher{cfg: cfg.withDefaults(), leading: make(chan struct{}, 1)}
}

// Lead does the leader's work for one term until ctx ends, and has joined every
// goroutine it started when it returns. Call it once this server has applied
// everything committed before its term. A second call waits for the first. One
// for the same term says that the state was replaced under the first.
func (d *Dispatcher) Lead(ctx context.Context, term uint64) {
	select {
	case d.leading <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-d.leading }()
	t := newTenure(ctx, d.cfg, term, d.ledBefore(term))
	d.set(t)
	t.run() //nolint:contextcheck // the tenure holds ctx: what it starts ends with the term
	d.set(nil)
	t.close()
}

// ledBefore notes a term, and reports whether it was led in already.
func (d *Dispatcher) ledBefore(term uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.last == term
	d.last = term
	return before
}

func (d *Dispatcher) set(t *tenure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.term = t
}

func (d *Dispatcher) tenure() (*tenure, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.term == nil {
		return nil, errNotLeader()
	}
	return d.term, nil
}

// Start creates and places the instances of item, whose Placements hold IDs
// with Node "". It returns once that is committed; the order is on its way
// then. Where not all instances fit none is created, and the error is
// RESOURCE_EXHAUSTED with the reasons, unless item.Spec.Queue: then those that
// do not fit are pending. When ctx ends first the error is TIMEOUT, and its
// outcome tells whether the request may take effect nevertheless.
func (d *Dispatcher) Start(ctx context.Context, item wasmatrix.StartItem) (wasmatrix.StartResult, error) {
	t, err := d.tenure()
	if err != nil {
		return wasmatrix.StartResult{}, err
	}
	return t.start(ctx, item)
}

// Stop asks for an instance to stop. It returns once that is committed; the
// order to its node is on its way then.
func (d *Dispatcher) Stop(ctx context.Context, req wasmatrix.Request, id wasmatrix.InstanceID) error {
	t, err := d.tenure()
	if err != nil {
		return err
	}
	_, err = t.stops.do(ctx, wasmatrix.StopItem{Request: req, Instance: id})
	return err
}

// Restart begins a new epoch of a placed instance on its node. It returns once
// that is committed.
func (d *Dispatcher) Restart(ctx context.Context, req wasmatrix.Request, id wasmatrix.InstanceID) (*wasmatrix.Instance, error) {
	t, err := d.tenure()
	if err != nil {
		return nil, err
	}
	ctx, cancel := t.within(ctx)
	defer cancel()
	return propose[*wasmatrix.Instance](ctx, t, wasmatrix.RestartInstance{At: now(), Request: req, Instance: id})
}

// Register records a node where that is news, compares what it holds with the
// state, and grants it a lease. A node that was down, restarted or moved must
// answer a Ping at its address first.
func (d *Dispatcher) Register(ctx context.Context, reg wasmatrix.Registration) (wasmatrix.Lease, error) {
	t, err := d.tenure()
	if err != nil {
		return wasmatrix.Lease{}, err
	}
	ctx, cancel := t.within(ctx)
	defer cancel()
	return t.register(ctx, reg)
}

// Renew extends a node's lease. A Lease with Resync and no TTL grants nothing.
func (d *Dispatcher) Renew(_ context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID) (wasmatrix.Lease, error) {
	t, err := d.tenure()
	if err != nil {
		return wasmatrix.Lease{}, err
	}
	return t.renew(node, boot), nil
}

// Report commits the statements of a node and tells of each whether it changed
// the state. When it returns without error the node may forget them all.
// NODE_NOT_FOUND and CONFLICT say that the process is not the one on record,
// and has to register.
func (d *Dispatcher) Report(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, reports []wasmatrix.Report) ([]bool, error) {
	t, err := d.tenure()
	if err != nil {
		return nil, err
	}
	ctx, cancel := t.within(ctx)
	defer cancel()
	return t.report(ctx, node, boot, reports)
}

// Suspect says that a node may be gone. It is probed, and marked down if it
// does not answer. Suspect returns at once.
func (d *Dispatcher) Suspect(node wasmatrix.NodeID, reason string) {
	if t, err := d.tenure(); err == nil {
		if l := t.lookup(node); l != nil {
			l.suspect(reason)
		}
	}
}
