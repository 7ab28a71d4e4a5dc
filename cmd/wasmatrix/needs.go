package main

import (
	"slices"

	"github.com/wasmatrix/wasmatrix/gen/api"
)

// needsTable shows what an instance's module needs and what the instance was given
// side by side, by type: capabilities that nothing needs as well, and types of
// which it has none. It is nil where there is neither.
func needsTable(needs []string, caps []*api.Capability) *table {
	types := slices.Clone(needs)
	for _, k := range caps {
		types = append(types, k.GetType())
	}
	slices.Sort(types)
	types = slices.Compact(types)
	if len(types) == 0 {
		return nil
	}
	t := newTable(row([]string{"TYPE", "NEEDED", "CAPABILITY"}, grantHead)...)
	for _, typ := range types {
		needed, granted := yesNo(slices.Contains(needs, typ)), false
		for _, k := range caps {
			if k.GetType() == typ {
				granted = true
				t.add(row([]string{typ, needed, k.GetCapabilityId()}, grantCells(k))...)
			}
		}
		if !granted {
			t.add(row([]string{typ, needed, "not granted"}, slices.Repeat([]string{"-"}, len(grantHead)))...)
		}
	}
	return t
}
