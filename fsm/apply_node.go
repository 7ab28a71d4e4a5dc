package fsm

import (
	"maps"

	"github.com/wasmatrix/wasmatrix"
)

// Reasons that people read.
const (
	reasonRebooted = "the node's process was restarted"
	reasonDown     = "the node is down"
)

func (t *tx) initCluster(c wasmatrix.InitCluster) any {
	if t.cluster != "" {
		return t.cluster
	}
	if badID(c.Cluster) {
		return malformed("cluster ID")
	}
	t.cluster = c.Cluster
	t.fact(wasmatrix.Fact{Kind: wasmatrix.FactClusterFormed, Reason: string(c.Cluster)})
	return t.cluster
}

func (t *tx) registerNode(c wasmatrix.RegisterNode) any {
	r := c.Registration
	if badID(r.ID) || badID(r.Boot) || len(r.Labels) > 2*wasmatrix.MaxLabels || r.Capacity.Memory > maxCapacity {
		return malformed("registration")
	}
	n := &wasmatrix.Node{
		ID: r.ID, Boot: r.Boot, Addr: truncate(r.Addr, wasmatrix.MaxReason), Version: truncate(r.Version, wasmatrix.MaxReason),
		Labels: nodeLabels(r), Capacity: r.Capacity, Status: wasmatrix.NodeUp,
		RegisteredAt: t.now, ChangedAt: t.now, CreateIndex: t.index, ModifyIndex: t.index,
	}
	old, known := t.Node(r.ID)
	if !known {
		t.putNode(n)
		t.nodeFact(wasmatrix.FactNodeUp, n, "")
		return n
	}
	n.ID = old.ID // one copy of the string for all records
	n.CreateIndex = old.CreateIndex
	n.Draining = old.Draining
	wasUp := old.Status == wasmatrix.NodeUp
	if old.Boot == n.Boot {
		n.RegisteredAt = old.RegisteredAt
		if wasUp {
			n.ChangedAt = old.ChangedAt
			if n.Addr == old.Addr && n.Version == old.Version && n.Capacity == old.Capacity && maps.Equal(n.Labels, old.Labels) {
				return old
			}
		}
	} else if wasUp {
		t.nodeFact(wasmatrix.FactNodeDown, old, reasonRebooted)
		t.loseAll(old.ID, reasonRebooted)
	}
	t.putNode(n)
	if !wasUp || old.Boot != n.Boot {
		t.nodeFact(wasmatrix.FactNodeUp, n, "")
	}
	return n
}

// maxCapacity bounds a node's memory and an instance's, in bytes, so that sums
// of them do not overflow.
const maxCapacity = 1 << 50

func nodeLabels(r wasmatrix.Registration) map[string]string {
	labels := make(map[string]string, len(r.Labels)+1)
	maps.Copy(labels, r.Labels)
	labels[wasmatrix.LabelNode] = string(r.ID)
	return labels
}

func (t *tx) nodeFact(kind wasmatrix.FactKind, n *wasmatrix.Node, reason string) {
	t.fact(wasmatrix.Fact{Kind: kind, Node: n.ID, Reason: reason})
}

func (t *tx) markNodeDown(c wasmatrix.MarkNodeDown) any {
	old, ok := t.Node(c.Node)
	if !ok {
		return nodeNotFound(c.Node)
	}
	if old.Boot != c.Boot || old.Status == wasmatrix.NodeDown {
		return 0
	}
	reason := truncate(c.Reason, wasmatrix.MaxReason)
	n := *old
	n.Status, n.Reason = wasmatrix.NodeDown, reason
	n.ChangedAt, n.ModifyIndex = t.now, t.index
	t.putNode(&n)
	t.nodeFact(wasmatrix.FactNodeDown, &n, reason)
	if reason == "" {
		reason = reasonDown
	}
	return t.loseAll(n.ID, reason)
}

// loseAll takes every instance from a node and returns how many it held.
func (t *tx) loseAll(node wasmatrix.NodeID, reason string) int {
	e, _ := t.nodes.Get(node)
	held := e.held.Values()
	for _, i := range held {
		t.lose(i, reason)
	}
	return len(held)
}

// lose records that the node of an instance holds it no more: it is to be
// placed anew, or has come to its end.
func (t *tx) lose(old *wasmatrix.Instance, reason string) {
	i := *old
	i.Reason = reason
	i.StartedAt = 0
	i.ChangedAt, i.ModifyIndex = t.now, t.index
	switch {
	case old.StopRequested:
		i.Status = wasmatrix.StatusStopped
		t.putInstance(old, &i)
		t.instanceFact(wasmatrix.FactStopped, &i, reason)
	case old.Spec.Restart.Survives():
		i.Status = wasmatrix.StatusLost
		t.putInstance(old, &i)
		t.instanceFact(wasmatrix.FactLost, &i, reason)
	default:
		i.Status = wasmatrix.StatusCrashed
		i.LastError = wasmatrix.CodeCrashDetected
		i.ExitCode = nil
		i.Crashes++
		crash := &wasmatrix.Crash{
			Kind: wasmatrix.CrashNodeLost, Message: reason,
			Node: old.Node, Epoch: old.Epoch, Attempt: old.Attempt, At: t.now,
		}
		if old.StartedAt != 0 {
			crash.Uptime = int64(t.now - old.StartedAt)
		}
		t.putInstance(old, &i)
		t.addCrash(i.ID, crash)
		t.instanceFact(wasmatrix.FactCrashed, &i, reason)
		t.instanceFact(wasmatrix.FactFailed, &i, reason)
	}
}

func (t *tx) drainNode(c wasmatrix.DrainNode) any {
	dup, err := t.seen(c.Request)
	if err != nil {
		return err
	}
	old, ok := t.Node(c.Node)
	if !ok {
		return nodeNotFound(c.Node)
	}
	if dup != nil {
		return old
	}
	t.remember(c.Request)
	if old.Draining == c.Drain {
		return old
	}
	n := *old
	n.Draining, n.ModifyIndex = c.Drain, t.index
	t.putNode(&n)
	kind := wasmatrix.FactNodeUndrain
	if c.Drain {
		kind = wasmatrix.FactNodeDrain
	}
	t.nodeFact(kind, &n, "")
	return &n
}

func (t *tx) forgetNode(c wasmatrix.ForgetNode) any {
	dup, err := t.seen(c.Request)
	if err != nil || dup != nil {
		return orNil(err)
	}
	e, ok := t.nodes.Get(c.Node)
	switch {
	case !ok:
		return nodeNotFound(c.Node)
	case e.node.Status != wasmatrix.NodeDown:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "node %q is up", c.Node)
	case e.held.Len() > 0:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "node %q holds %d instances", c.Node, e.held.Len())
	}
	t.nodes.Delete(c.Node)
	t.remember(c.Request)
	t.nodeFact(wasmatrix.FactNodeForgotten, e.node, "")
	return nil
}
