package fsm

import (
	"slices"

	"github.com/wasmatrix/wasmatrix"
)

func (t *tx) addModule(c wasmatrix.AddModule) any {
	if c.Module == nil || c.Module.Digest.IsZero() || len(c.Name) > maxID {
		return malformed("module")
	}
	dup, err := t.seen(c.Request)
	if err != nil {
		return err
	}
	m := *c.Module
	old, exists := t.Module(m.Digest)
	switch {
	case dup != nil && exists:
		return old
	case dup != nil:
		m.CreatedAt, m.UsedAt = dup.at, dup.at
		return &m
	case exists:
		m = *old
	default:
		m.Imports = slices.Clip(m.Imports[:min(len(m.Imports), wasmatrix.MaxModuleImports)])
		m.Exports = slices.Clip(m.Exports[:min(len(m.Exports), wasmatrix.MaxModuleExports)])
		m.CreatedAt, m.CreateIndex = t.now, t.index
	}
	m.UsedAt = t.now
	t.putModule(&m)
	named := false
	if c.Name != "" {
		before, had := t.names.Get(c.Name)
		named = !had || before != m.Digest
		t.putName(c.Name, m.Digest)
	}
	t.remember(c.Request)
	if !exists || named {
		reason := m.Digest.String()
		if c.Name != "" {
			reason += " " + c.Name
		}
		t.fact(wasmatrix.Fact{Kind: wasmatrix.FactModuleAdded, Reason: reason})
	}
	return &m
}

func (t *tx) removeModule(c wasmatrix.RemoveModule) any {
	dup, err := t.seen(c.Request)
	if err != nil || dup != nil {
		return orNil(err)
	}
	e, ok := t.modules.Get(string(c.Digest[:]))
	switch {
	case !ok:
		return wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "no module %s", c.Digest)
	case e.users > 0:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "module %s is used by %d instances", c.Digest, e.users)
	}
	t.dropModule(c.Digest)
	t.remember(c.Request)
	t.fact(wasmatrix.Fact{Kind: wasmatrix.FactModuleRemoved, Reason: c.Digest.String()})
	return nil
}

func (t *tx) collectGarbage(c wasmatrix.CollectGarbage) any {
	removed := 0
	for range max(c.Limit, 0) {
		oldest, ok := t.final.Min()
		if !ok || oldest.ChangedAt >= c.FinalBefore && t.final.Len() <= max(c.MaxFinal, 0) {
			break
		}
		t.dropInstance(oldest)
		removed++
	}
	var unused []wasmatrix.Digest
	t.modules.Scan(func(_ string, e *moduleEntry) bool {
		if len(unused) >= c.Limit {
			return false
		}
		if e.users == 0 && len(e.names) == 0 && e.module.UsedAt < c.ModulesBefore {
			unused = append(unused, e.module.Digest)
		}
		return true
	})
	for _, d := range unused {
		t.dropModule(d)
		t.fact(wasmatrix.Fact{Kind: wasmatrix.FactModuleRemoved, Reason: d.String() + " was not used"})
	}
	return removed + len(unused)
}
