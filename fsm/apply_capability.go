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
	if err := t.checkGrant(&a.Grant); err != nil {
		return err
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
	t.moveGrants(i)
	t.remember(c.Request, i.ID)
	t.instanceFact(wasmatrix.FactAssigned, i, describeAssignment(&put))
	return &put
}

// checkGrant reports why nothing can be granted so: the provider must be there,
// and of the grant's type.
func (t *tx) checkGrant(g *wasmatrix.Grant) *wasmatrix.Error {
	if t.rules < 3 {
		return nil
	}
	p, ok := wasmatrix.ProviderOf(t, g.ProviderID())
	switch {
	case !ok:
		return noProvider(g.ProviderID())
	case p.Type != g.Type:
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "provider %q is of type %s, not %s", p.ID, p.Type, g.Type).
			With(wasmatrix.DetailField, "provider")
	default:
		return nil
	}
}

func noProvider(id wasmatrix.ProviderID) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "no provider %q", id)
}

// moveGrants notes that the assignments of an instance have changed. The index is
// higher after each change, also where several share a log index: who has a set
// of assignments can tell by it whether another is newer.
func (t *tx) moveGrants(old *wasmatrix.Instance) {
	if t.rules < 3 {
		return
	}
	i := *old
	i.GrantsIndex = max(t.index, old.GrantsIndex+1)
	t.putInstance(old, &i) // ModifyIndex stays: it orders the indexes of those that wait and those that are final
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
	t.moveGrants(i)
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
	case c.Create && exists:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q exists, at revision %d", p.ID, old.Revision)
	case p.Revision != 0 && !exists:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q does not exist, revision %d was expected", p.ID, p.Revision)
	case p.Revision != 0 && p.Revision != old.Revision:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q is at revision %d, not %d", p.ID, old.Revision, p.Revision)
	}
	if t.rules >= 3 {
		if now, ok := wasmatrix.ProviderOf(t, p.ID); ok && now.Type != p.Type {
			return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q is of type %s and cannot become one of type %s", p.ID, now.Type, p.Type)
		}
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
	if err := t.checkRemoval(c.Provider); err != nil {
		return err
	}
	t.providers.Delete(c.Provider)
	t.remember(c.Request)
	t.fact(wasmatrix.Fact{Kind: wasmatrix.FactProviderRemoved, Reason: string(c.Provider)})
	return nil
}

// checkRemoval reports why a provider cannot be removed. Of a default one only the
// record goes: without it, the provider is as it was before it was changed.
func (t *tx) checkRemoval(id wasmatrix.ProviderID) *wasmatrix.Error {
	if t.rules < 3 {
		if _, ok := t.Provider(id); !ok {
			return noProvider(id)
		}
		return nil
	}
	p, ok := wasmatrix.ProviderOf(t, id)
	switch {
	case !ok:
		return noProvider(id)
	case !p.Stopped:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q is running: stop it first", id)
	case id == wasmatrix.DefaultProvider(p.Type):
		return nil
	}
	if i, c := t.user(id); i != "" {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "provider %q is in use by capability %q of instance %q", id, c, i)
	}
	return nil
}

// user returns an assignment of a live instance that names a provider; "" if there
// is none. It looks at all of them.
func (t *tx) user(p wasmatrix.ProviderID) (user wasmatrix.InstanceID, by wasmatrix.CapabilityID) {
	t.assignments.Scan(func(id wasmatrix.InstanceID, all []*wasmatrix.Assignment) bool {
		for _, a := range all {
			if a.ProviderID() != p {
				continue
			}
			if i, ok := t.Instance(id); ok && !i.Status.Final() {
				user, by = id, a.ID
				return false
			}
		}
		return true
	})
	return user, by
}
