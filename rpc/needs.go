package rpc

import (
	"slices"
	"strings"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
)

// needs returns the types of capability without which some of a module's imports
// are denied, sorted.
func needs(m *wasmatrix.Module) []wasmatrix.ProviderType {
	var out []wasmatrix.ProviderType
	for _, imported := range m.Imports {
		name, ours := strings.CutPrefix(imported, abi.Module+".")
		if typ := wasmatrix.ProviderType(abi.Functions[name]); ours && typ != "" && !slices.Contains(out, typ) {
			out = append(out, typ)
		}
	}
	slices.Sort(out)
	return out
}

// checkStrict refuses a module that needs a type of capability of which nothing is
// assigned.
func checkStrict(m *wasmatrix.Module, assignments []*wasmatrix.Assignment) error {
	missing := slices.DeleteFunc(needs(m), func(typ wasmatrix.ProviderType) bool {
		return slices.ContainsFunc(assignments, func(a *wasmatrix.Assignment) bool { return a.Type == typ })
	})
	if len(missing) == 0 {
		return nil
	}
	names := make([]string, len(missing))
	for i, typ := range missing {
		names[i] = string(typ)
	}
	list := strings.Join(names, ",")
	return wasmatrix.Errorf(wasmatrix.CodeValidation, "module %s imports functions of %s, and no capability of that type is assigned", m.Digest.Short(), strings.Join(names, " and ")).
		With(wasmatrix.DetailField, "strict").With("missing", list)
}
