package fsm

import (
	"slices"
	"strconv"
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

func (t *tx) assignCapability(c wasmatrix.AssignCapability) any {
	a := c.Assignment
	if a == nil || badID(a.Instance) || badID(a.ID) {
		return malformed("assignment")
	}
	dup, err := t.seen(c.Request)
	if err != nil {
		return err
	}
	if dup != nil {
		if now, ok := t.Assignment(a.Instance, a.ID); ok {
			return now
		}
		// It was revoked since; the answer is still that it was assigned.
		then := *a
		then.CreatedAt = dup.at
		return &then
	}
	i, ok := t.Instance(a.Instance)
	switch {
	case !ok:
		return instanceNotFound(a.Instance)
	case i.Status.Final():
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "instance %q is %s", i.ID, i.Status)
	}
	old, _ := t.assignments.Get(i.ID)
	at, replaces := findAssignment(old, a.ID)
	if !replaces && len(old) >= maxAssignments {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "instance %q has %d assignments, at most %d are allowed", i.ID, len(old), maxAssignments)
	}
	put := *a
	put.Instance, put.CreatedAt, put.CreateIndex = i.ID, t.now, t.index
	all := slices.Clone(old)
	if replaces {
		all[at] = &put
	} else {
		all = slices.Insert(all, at, &put)
	}
	t.putAssignments(i.ID, all)
	t.remember(c.Request, i.ID)
	t.instanceFact(wasmatrix.FactAssigned, i, describeAssignment(&put))
	return &put
}

// describeAssignment tells people what a fact is about.
func describeAssignment(a *wasmatrix.Assignment) string {
	var b strings.Builder
	b.WriteString(string(a.ID))
	b.WriteByte('=')
	b.WriteString(string(a.Type))
	for n, p := range a.Permissions {
		if b.Len() > wasmatrix.MaxReason {
			break
		}
		if n == 0 {
			b.WriteByte(' ')
		} else {
			b.WriteByte(',')
		}
		b.WriteString(string(p))
	}
	return b.String()
}

func (t *tx) revokeCapability(c wasmatrix.RevokeCapability) any {
	dup, err := t.seen(c.Request)
	if err != nil || dup != nil {
		return orNil(err)
	}
	i, ok := t.Instance(c.Instance)
	if !ok {
		return instanceNotFound(c.Instance)
	}
	old, _ := t.assignments.Get(i.ID)
	at, ok := findAssignment(old, c.Capability)
	if !ok {
		return wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "instance %q has no assignment %q", i.ID, c.Capability)
	}
	t.putAssignments(i.ID, slices.Delete(slices.Clone(old), at, at+1))
	t.remember(c.Request, i.ID)
	t.instanceFact(wasmatrix.FactRevoked, i, string(c.Capability))
	return nil
}

func (t *tx) putProvider(c wasmatrix.PutProvider) any {
	if c.Provider == nil || badID(c.Provider.ID) {
		return malformed("provider")
	}
	p := *c.Provider
	dup, err := t.seen(c.Request)
	if err != nil {
		return err
	}
	old, exists := t.Provider(p.ID)
	switch {
	case dup != nil && exists:
		return old
	case dup != nil:
		// It was removed since; the answer is still that it was put.
		p.Revision++
		p.ChangedAt = dup.at
		return &p
	case p.Revision != 0 && !exists:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q does not exist, revision %d was expected", p.ID, p.Revision)
	case p.Revision != 0 && p.Revision != old.Revision:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q is at revision %d, not %d", p.ID, old.Revision, p.Revision)
	}
	p.Revision, p.CreateIndex = 1, t.index
	if exists {
		p.Revision, p.CreateIndex = old.Revision+1, old.CreateIndex
	}
	p.ChangedAt, p.ModifyIndex = t.now, t.index
	t.providers.Set(p.ID, &p)
	t.remember(c.Request)
	state := "running"
	if p.Stopped {
		state = "stopped"
	}
	t.fact(wasmatrix.Fact{
		Kind:   wasmatrix.FactProviderChanged,
		Reason: string(p.ID) + "=" + string(p.Type) + " revision " + strconv.FormatUint(p.Revision, 10) + ", " + state,
	})
	return &p
}

func (t *tx) removeProvider(c wasmatrix.RemoveProvider) any {
	dup, err := t.seen(c.Request)
	if err != nil || dup != nil {
		return orNil(err)
	}
	if _, ok := t.providers.Delete(c.Provider); !ok {
		return wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "no provider %q", c.Provider)
	}
	t.remember(c.Request)
	t.fact(wasmatrix.Fact{Kind: wasmatrix.FactProviderRemoved, Reason: string(c.Provider)})
	return nil
}
