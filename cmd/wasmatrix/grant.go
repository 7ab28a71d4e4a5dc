package main

import (
	"slices"
	"strings"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// grantForm is how a flag writes what an instance is given. The options stand
// among the permissions, which they cannot be taken for: a permission has a colon
// in its first word.
const grantForm = "ID=TYPE:PERMISSION,PERMISSION...[,provider=NAME][,namespace=NAME][,stale]"

// parseCaps reads grants of one instance, and checks them as the servers will.
func parseCaps(caps []string) ([]*api.CapabilityGrant, error) {
	var grants []*api.CapabilityGrant
	seen := map[string]bool{}
	for _, s := range caps {
		g, err := parseGrant(s)
		if err != nil {
			return nil, err
		}
		if seen[g.GetCapabilityId()] {
			return nil, usagef("--cap: %q is given twice", g.GetCapabilityId())
		}
		seen[g.GetCapabilityId()] = true
		grants = append(grants, g)
	}
	return grants, nil
}

func parseGrant(s string) (*api.CapabilityGrant, error) {
	id, rest, ok := strings.Cut(s, "=")
	typ, list, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return nil, usagef("--cap: %q is not of the form %s", s, grantForm)
	}
	g := &api.CapabilityGrant{CapabilityId: id, Type: typ}
	for item := range strings.SplitSeq(list, ",") {
		option, err := setOption(g, item)
		if err != nil {
			return nil, usagef("--cap %q: %s", s, err)
		}
		if !option {
			g.Permissions = append(g.Permissions, item)
		}
	}
	if err := checkGrant("instance", id, g); err != nil {
		return nil, usagef("--cap %q: %s", s, wasmatrix.AsError(err).Message)
	}
	return g, nil
}

// optionError says what is wrong with an option of a grant.
type optionError string

func (e optionError) Error() string { return string(e) }

// setOption reads an item that is an option, and reports whether it is one.
func setOption(g *api.CapabilityGrant, item string) (bool, error) {
	name, value, hasValue := strings.Cut(item, "=")
	if item == "stale" {
		if g.GetStale() {
			return true, optionError("stale is given twice")
		}
		g.Stale = true
		return true, nil
	}
	var to *string
	switch name {
	case "provider":
		to = &g.Provider
	case "namespace":
		to = &g.Namespace
	}
	switch {
	case to == nil || !hasValue:
		return false, nil
	case value == "":
		return true, optionError(name + " is empty")
	case *to != "":
		return true, optionError(name + " is given twice")
	}
	*to = value
	return true, nil
}

// grant is what all messages that describe one have in common.
type grant interface {
	GetType() string
	GetPermissions() []string
	GetProvider() string
	GetNamespace() string
	GetStale() bool
}

// checkGrant checks an assignment as the servers will.
func checkGrant(instance, id string, g grant) error {
	_, err := wasmatrix.NewAssignment(wasmatrix.InstanceID(instance), wasmatrix.CapabilityID(id), wire.GrantFrom(g))
	return err
}

// everything is a grant of each type that allows all that the type can do.
var everything = map[wasmatrix.ProviderType]string{
	wasmatrix.ProviderKV:        "kv:kv:read,kv:write,kv:delete",
	wasmatrix.ProviderHTTP:      "http:http:request",
	wasmatrix.ProviderMessaging: "messaging:msg:publish,msg:subscribe",
}

// grantFlags are the flags that would give an instance types of capability that it
// lacks. The program alone knows the ID by which it calls each.
func grantFlags(types []string) string {
	var flags []string
	for _, typ := range types {
		if g, ok := everything[wasmatrix.ProviderType(typ)]; ok {
			flags = append(flags, "--cap ID="+g)
		}
	}
	return strings.Join(flags, " ")
}

// typeNames are the types of capability.
func typeNames() []string {
	names := make([]string, len(wasmatrix.ProviderTypes))
	for i, t := range wasmatrix.ProviderTypes {
		names[i] = string(t)
	}
	return names
}

// grantCells are the cells of a table that say how far a grant reaches: its
// permissions, provider, namespace, and whether its reads may lag.
func grantCells(g grant) []string {
	root := wire.GrantFrom(g)
	namespace, stale := "-", "-"
	if root.Type == wasmatrix.ProviderKV {
		namespace, stale = root.Namespace, yesNo(root.Stale)
		if namespace == "" {
			namespace = "(own)" // no name is written so
		}
	}
	return []string{strings.Join(g.GetPermissions(), ","), string(root.ProviderID()), namespace, stale}
}

// grantHead are the heads of grantCells.
var grantHead = []string{"PERMISSIONS", "PROVIDER", "NAMESPACE", "STALE"}

// row joins cells.
func row(first []string, more ...[]string) []string {
	return slices.Concat(append([][]string{first}, more...)...)
}
