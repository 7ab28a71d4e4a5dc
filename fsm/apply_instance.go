package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// maxAssignments bounds what one instance may use.
const maxAssignments = 256

func (t *tx) startInstances(c wasmatrix.StartInstances) any {
	results := make([]wasmatrix.StartResult, len(c.Items))
	for n := range c.Items {
		results[n] = t.start(&c.Items[n])
	}
	return results
}

func (t *tx) start(it *wasmatrix.StartItem) wasmatrix.StartResult {
	dup, err := t.seen(it.Request)
	switch {
	case err != nil:
		return wasmatrix.StartResult{Err: err}
	case dup != nil:
		return wasmatrix.StartResult{Instances: slices.Clip(dup.instances), Duplicate: true}
	}
	if err := t.checkStart(it); err != nil {
		return wasmatrix.StartResult{Err: err}
	}

	spec := t.specs.intern(it.Spec)
	m := t.ownModule(spec.Module)
	used := *m.module
	used.UsedAt = t.now
	m.module = &used

	ids := make([]wasmatrix.InstanceID, len(it.Placements))
	for n, p := range it.Placements {
		ids[n] = p.Instance
		i := &wasmatrix.Instance{
			ID: p.Instance, Spec: spec, Status: wasmatrix.StatusPending,
			CreatedAt: t.now, ChangedAt: t.now, CreateIndex: t.index, ModifyIndex: t.index,
		}
		if t.rules >= 3 && len(it.Assignments) > 0 {
			i.GrantsIndex = t.index
		}
		kind := wasmatrix.FactRequested
		if p.Node != "" {
			node, _ := t.Node(p.Node)
			i.Status, i.Node, i.Epoch = wasmatrix.StatusStarting, node.ID, 1
			kind = wasmatrix.FactPlaced
		}
		t.putInstance(nil, i)
		t.instanceFact(kind, i, "")
		t.assignAll(i, it.Assignments)
	}
	t.remember(it.Request, ids...)
	return wasmatrix.StartResult{Instances: slices.Clip(ids)}
}

// checkStart reports why an item cannot be carried out as a whole.
func (t *tx) checkStart(it *wasmatrix.StartItem) *wasmatrix.Error {
	switch {
	case it.Spec == nil || it.Spec.Limits.Memory > maxCapacity:
		return malformed("spec")
	case len(it.Placements) == 0:
		return malformed("no instances to start")
	case len(it.Assignments) > maxAssignments:
		return malformed("too many assignments")
	}
	for n, a := range it.Assignments {
		if a == nil || badID(a.ID) || slices.ContainsFunc(it.Assignments[:n], func(b *wasmatrix.Assignment) bool { return a.ID == b.ID }) {
			return malformed("assignment")
		}
	}
	if _, ok := t.Module(it.Spec.Module); !ok {
		return wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "no module %s", it.Spec.Module)
	}
	for _, a := range it.Assignments {
		if err := t.checkGrant(&a.Grant); err != nil {
			return err
		}
	}
	// What the item's earlier instances take of each node, which is not yet in
	// the state. One instance, the common case, needs no such memory.
	var ids map[wasmatrix.InstanceID]struct{}
	var taken map[wasmatrix.NodeID]wasmatrix.Capacity
	if len(it.Placements) > 1 {
		ids = make(map[wasmatrix.InstanceID]struct{}, len(it.Placements))
		taken = make(map[wasmatrix.NodeID]wasmatrix.Capacity)
	}
	for _, p := range it.Placements {
		if badID(p.Instance) {
			return malformed("instance ID")
		}
		_, exists := t.Instance(p.Instance)
		if _, twice := ids[p.Instance]; exists || twice {
			return wasmatrix.Errorf(wasmatrix.CodeConflict, "instance %q exists", p.Instance)
		}
		if ids != nil {
			ids[p.Instance] = struct{}{}
		}
		if p.Node == "" {
			continue
		}
		if err := t.checkRoom(p.Node, it.Spec, taken[p.Node]); err != nil {
			return err
		}
		if taken != nil {
			taken[p.Node] = taken[p.Node].Plus(it.Spec.Demand())
		}
	}
	return nil
}

// checkRoom reports why a node cannot take one more instance of a spec beside
// what it has and what else is taken already.
func (t *tx) checkRoom(id wasmatrix.NodeID, spec *wasmatrix.Spec, taken wasmatrix.Capacity) *wasmatrix.Error {
	e, ok := t.nodes.Get(id)
	if !ok {
		return exhausted(id, "is not known")
	}
	if !e.node.Eligible() {
		return exhausted(id, "takes no instances")
	}
	if !e.usage.Plus(taken).Fits(spec.Demand(), e.node.Capacity) {
		return exhausted(id, "has no room")
	}
	for _, c := range spec.Constraints {
		if !c.Matches(e.node.Labels) {
			return exhausted(id, "does not match "+c.String())
		}
	}
	return nil
}

func exhausted(id wasmatrix.NodeID, why string) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "node %q %s", id, why).With("node", string(id))
}

// assignAll gives a new instance its assignments.
func (t *tx) assignAll(i *wasmatrix.Instance, wanted []*wasmatrix.Assignment) {
	if len(wanted) == 0 {
		return
	}
	all := make([]*wasmatrix.Assignment, len(wanted))
	for n, w := range wanted {
		a := *w
		a.Instance, a.CreatedAt, a.CreateIndex = i.ID, t.now, t.index
		all[n] = &a
	}
	slices.SortFunc(all, func(a, b *wasmatrix.Assignment) int { return strings.Compare(string(a.ID), string(b.ID)) })
	t.putAssignments(i.ID, all)
	for _, a := range all {
		t.instanceFact(wasmatrix.FactAssigned, i, describeAssignment(a))
	}
}

func (t *tx) placeInstances(c wasmatrix.PlaceInstances) any {
	errs := make([]*wasmatrix.Error, len(c.Items))
	for n, it := range c.Items {
		errs[n] = t.place(it)
	}
	return errs
}

func (t *tx) place(it wasmatrix.PlaceItem) *wasmatrix.Error {
	old, ok := t.Instance(it.Instance)
	switch {
	case !ok:
		return instanceNotFound(it.Instance)
	case !old.Status.Unplaced() || old.Epoch != it.Epoch:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "instance %q is %s in epoch %d, not waiting in epoch %d", it.Instance, old.Status, old.Epoch, it.Epoch)
	}
	if err := t.checkRoom(it.Node, old.Spec, wasmatrix.Capacity{}); err != nil {
		return err
	}
	node, _ := t.Node(it.Node)
	i := t.nextEpoch(old)
	i.Node = node.ID
	i.Reason = ""
	kind := wasmatrix.FactPlaced
	if old.Epoch > 0 {
		kind = wasmatrix.FactMoved
	}
	t.putInstance(old, i)
	t.touchModule(i.Spec.Module)
	t.instanceFact(kind, i, "")
	return nil
}

// nextEpoch returns an instance that is to begin anew.
func (t *tx) nextEpoch(old *wasmatrix.Instance) *wasmatrix.Instance {
	i := *old
	if i.Epoch > 0 {
		i.Restarts++
	}
	i.Epoch++
	i.Attempt, i.Seq, i.StartedAt = 0, 0, 0
	t.setStatus(&i, wasmatrix.StatusStarting)
	i.ModifyIndex = t.index
	return &i
}

// setStatus notes when the status changed.
func (t *tx) setStatus(i *wasmatrix.Instance, s wasmatrix.Status) {
	if i.Status != s {
		i.Status, i.ChangedAt = s, t.now
	}
}

// touchModule notes that an instance of a module was started.
func (t *tx) touchModule(d wasmatrix.Digest) {
	e := t.ownModule(d)
	m := *e.module
	m.UsedAt = t.now
	e.module = &m
}

func (t *tx) stopInstances(c wasmatrix.StopInstances) any {
	errs := make([]*wasmatrix.Error, len(c.Items))
	for n, it := range c.Items {
		errs[n] = t.stop(it)
	}
	return errs
}

func (t *tx) stop(it wasmatrix.StopItem) *wasmatrix.Error {
	dup, err := t.seen(it.Request)
	if err != nil || dup != nil {
		return err
	}
	old, ok := t.Instance(it.Instance)
	if !ok {
		return instanceNotFound(it.Instance)
	}
	t.remember(it.Request, old.ID)
	if old.Status.Final() || old.StopRequested {
		return nil
	}
	i := *old
	i.StopRequested = true
	i.ModifyIndex = t.index
	if i.Status.Unplaced() {
		t.setStatus(&i, wasmatrix.StatusStopped)
		i.Reason = "stopped before it was placed"
		if i.Epoch > 0 {
			i.Reason = "stopped before it was placed anew"
		}
	}
	t.putInstance(old, &i)
	t.instanceFact(wasmatrix.FactStopRequested, &i, "")
	if i.Status.Final() {
		t.instanceFact(wasmatrix.FactStopped, &i, i.Reason)
	}
	return nil
}

func (t *tx) restartInstance(c wasmatrix.RestartInstance) any {
	dup, err := t.seen(c.Request)
	if err != nil {
		return err
	}
	old, ok := t.Instance(c.Instance)
	switch {
	case !ok:
		return instanceNotFound(c.Instance)
	case dup != nil:
		return old
	case c.MinEpoch > wasmatrix.MaxMinEpoch:
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "epoch %d is above %d", c.MinEpoch, uint64(wasmatrix.MaxMinEpoch))
	case old.Status.Final():
		return wasmatrix.Errorf(wasmatrix.CodeRestartPolicyViolation, "instance %q is %s: start a new one", c.Instance, old.Status)
	case old.StopRequested:
		return wasmatrix.Errorf(wasmatrix.CodeRestartPolicyViolation, "instance %q is being stopped", c.Instance)
	}
	t.remember(c.Request, old.ID)
	if old.Status.Unplaced() {
		return old // it will begin anew as soon as it has a place
	}
	i := t.nextEpoch(old)
	i.Reason = "restart requested"
	note := ""
	if i.Epoch < c.MinEpoch {
		note = fmt.Sprintf("epochs below %d were used before", c.MinEpoch)
		i.Epoch, i.Reason = c.MinEpoch, note
	}
	t.putInstance(old, i)
	t.touchModule(i.Spec.Module)
	t.instanceFact(wasmatrix.FactRestartRequested, i, note)
	return i
}
