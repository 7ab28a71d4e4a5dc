package dispatch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// assignWait is how long Assign waits for the node to be told.
const assignWait = 2 * time.Second

// Assign adds or replaces an assignment and returns it as it was recorded. It
// waits, for two seconds at most, until the node that has the instance was told.
func (d *Dispatcher) Assign(ctx context.Context, req wasmatrix.Request, a *wasmatrix.Assignment) (*wasmatrix.Assignment, error) {
	t, err := d.tenure()
	if err != nil {
		return nil, err
	}
	ctx, cancel := t.within(ctx)
	defer cancel()
	recorded, err := propose[*wasmatrix.Assignment](ctx, t, wasmatrix.AssignCapability{At: now(), Request: req, Assignment: a})
	if err != nil {
		return nil, err
	}
	snap := t.cfg.State.Snapshot()
	t.oweGrants(snap, a.Instance)
	if i, ok := snap.Instance(a.Instance); ok && i.Status.OnNode() {
		l := t.link(i.Node)
		waiting, cancel := context.WithTimeout(ctx, assignWait)
		defer cancel()
		// It stands, whether or not the node could be told by now.
		_ = l.wait(waiting, func() (bool, time.Time) { return l.told(a.Instance), time.Time{} })
	}
	return recorded, nil
}

// Revoke removes an assignment. When it returns nil no call under it succeeds any
// more, on any node: each that may have the instance, or had it, has acknowledged,
// or its lease is over. Where ctx ends before that, the error is TIMEOUT with the
// outcome committed and the node in question. A request that is sent again waits
// for the same.
func (d *Dispatcher) Revoke(ctx context.Context, req wasmatrix.Request, id wasmatrix.InstanceID, capability wasmatrix.CapabilityID) error {
	t, err := d.tenure()
	if err != nil {
		return err
	}
	ctx, cancel := t.within(ctx)
	defer cancel()
	_, err = t.cfg.Log.Propose(ctx, wasmatrix.RevokeCapability{At: now(), Request: req, Instance: id, Capability: capability})
	if err != nil {
		return t.outcome(ctx, err)
	}
	return t.awaitRevoked(ctx, id, capability)
}

// awaitRevoked returns when no node acts on an assignment that is revoked.
func (t *tenure) awaitRevoked(ctx context.Context, id wasmatrix.InstanceID, capability wasmatrix.CapabilityID) error {
	snap := t.cfg.State.Snapshot()
	if i, ok := snap.Instance(id); ok && i.Status.OnNode() {
		t.link(i.Node).owe(i)
	}
	// A node that is clear stays so: orders that it is given from now on are of a
	// state that has the revocation, and it gets no lease before it is clean.
	for _, l := range t.all() {
		if err := l.wait(ctx, func() (bool, time.Time) { return l.cleared(id) }); err != nil {
			return t.unconfirmed(id, capability, l.id)
		}
	}
	return nil
}

func (t *tenure) unconfirmed(id wasmatrix.InstanceID, capability wasmatrix.CapabilityID, node wasmatrix.NodeID) error {
	code, why := wasmatrix.CodeTimeout, "has not confirmed it"
	if t.ctx.Err() != nil {
		code, why = wasmatrix.CodeCommunication, "had not confirmed it when this server stopped leading"
	}
	return wasmatrix.Errorf(code, "capability %q of instance %q is revoked, but node %q %s and may still act on it", capability, id, node, why).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeCommitted).With("node", string(node))
}

// ReportDenials makes facts of capability calls that a node has refused. Seq tells
// the reports of one boot apart: one that is repeated has its effect once.
// NODE_NOT_FOUND and CONFLICT are as for Report.
func (d *Dispatcher) ReportDenials(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, seq uint64, denials []wasmatrix.Denial) error {
	t, err := d.tenure()
	if err != nil {
		return err
	}
	ctx, cancel := t.within(ctx)
	defer cancel()
	if err := t.checkBoot(t.cfg.State.Snapshot(), node, boot); err != nil {
		return err
	}
	part := 0
	for chunk := range chunks(denials, maxDenialBatch) {
		cmd := wasmatrix.RecordDenials{At: now(), Request: denialRequest(node, boot, seq, part), Node: node, Boot: boot, Denials: chunk}
		if _, err := propose[int](ctx, t, cmd); err != nil {
			return err
		}
		part++
	}
	return nil
}

// denialRequest names a part of a report by what tells it from all others.
func denialRequest(node wasmatrix.NodeID, boot wasmatrix.BootID, seq uint64, part int) wasmatrix.Request {
	sum := sha256.Sum256(fmt.Appendf(nil, "denials %q %q %d %d", node, boot, seq, part))
	return wasmatrix.Request{ID: wasmatrix.RequestID(fmt.Sprintf("denials-%x", sum[:16])), Body: [16]byte(sum[16:])}
}
