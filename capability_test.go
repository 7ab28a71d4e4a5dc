package wasmatrix_test

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestP18_NewAssignment(t *testing.T) {
	long := make([]string, wasmatrix.MaxPermissions+1)
	for i := range long {
		long[i] = fmt.Sprint("kv:read:", i)
	}
	for what, c := range map[string]struct {
		instance wasmatrix.InstanceID
		id       wasmatrix.CapabilityID
		typ      wasmatrix.ProviderType
		perms    []string
		want     wasmatrix.Code
	}{
		"no instance":      {"", "c", wasmatrix.ProviderKV, []string{"kv:read"}, wasmatrix.CodeInvalidRequest},
		"no capability":    {"i", "", wasmatrix.ProviderKV, []string{"kv:read"}, wasmatrix.CodeInvalidRequest},
		"no permissions":   {"i", "c", wasmatrix.ProviderKV, nil, wasmatrix.CodeInvalidRequest},
		"empty permission": {"i", "c", wasmatrix.ProviderKV, []string{"kv:read", ""}, wasmatrix.CodeInvalidRequest},
		"unknown type":     {"i", "c", "disk", []string{"kv:read"}, wasmatrix.CodeValidation},
		"unknown":          {"i", "c", wasmatrix.ProviderKV, []string{"kv:read", "kv:fly"}, wasmatrix.CodeValidation},
		"too many":         {"i", "c", wasmatrix.ProviderKV, long, wasmatrix.CodeValidation},
		"many":             {"i", "c", wasmatrix.ProviderKV, long[1:], ""},
	} {
		a, err := wasmatrix.NewAssignment(c.instance, c.id, grant(c.typ, c.perms...))
		if wasmatrix.CodeOf(err) != c.want || (a == nil) != (err != nil) {
			t.Errorf("%s: %v, %v, want %q", what, a, err, c.want)
		}
	}
}

// TestP5_AssignmentHasWhatItWasGiven gives permissions in any order, and some
// of them twice.
func TestP5_AssignmentHasWhatItWasGiven(t *testing.T) {
	perm := rapid.StringMatching(`kv:(read|write|delete)(:[a-z:/]{1,3})?`)
	rapid.Check(t, func(t *rapid.T) {
		perms := rapid.SliceOfN(perm, 1, 20).Draw(t, "permissions")
		given := slices.Clone(perms)
		a, err := wasmatrix.NewAssignment("i", "c", grant(wasmatrix.ProviderKV, perms...))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(perms, given) {
			t.Fatalf("the caller's permissions became %q", perms)
		}
		if !slices.IsSorted(a.Permissions) || len(slices.Compact(slices.Clone(a.Permissions))) != len(a.Permissions) {
			t.Fatalf("not sorted and distinct: %q", a.Permissions)
		}
		for _, p := range given {
			if !slices.Contains(a.Permissions, wasmatrix.Permission(p)) {
				t.Fatalf("%q was given and is not among %q", p, a.Permissions)
			}
		}
		for _, p := range a.Permissions {
			if !slices.Contains(given, string(p)) {
				t.Fatalf("%q was not given", p)
			}
		}
		other, err := wasmatrix.NewAssignment("i", "c", grant(wasmatrix.ProviderKV, rapid.Permutation(perms).Draw(t, "order")...))
		if err != nil || !slices.Equal(other.Permissions, a.Permissions) {
			t.Fatalf("another order gives %v, %v", other, err)
		}
	})
}

func FuzzNewAssignment(f *testing.F) {
	f.Add("i", "c", "kv", "kv:read", "kv:write:a")
	f.Add("i", "c", "http", "http:request", "http:domain:*.x")
	f.Add("i", "c", "messaging", "msg:publish:>", "")
	f.Fuzz(func(t *testing.T, instance, id, typ, p, q string) {
		a, err := wasmatrix.NewAssignment(wasmatrix.InstanceID(instance), wasmatrix.CapabilityID(id), grant(wasmatrix.ProviderType(typ), p, q))
		if err != nil {
			if code := wasmatrix.CodeOf(err); a != nil || code != wasmatrix.CodeInvalidRequest && code != wasmatrix.CodeValidation {
				t.Errorf("%v, %v", a, err)
			}
			return
		}
		// What was taken is taken again, whatever the grammar is.
		b, err := wasmatrix.NewAssignment(a.Instance, a.ID, a.Grant)
		if err != nil || !slices.Equal(a.Permissions, b.Permissions) {
			t.Errorf("%v became %v, %v", a, b, err)
		}
		for _, p := range a.Permissions {
			prefix := map[wasmatrix.ProviderType]string{"kv": "kv:", "http": "http:", "messaging": "msg:"}[a.Type]
			if prefix == "" || !strings.HasPrefix(string(p), prefix) || len(p) > 256 {
				t.Errorf("%s took %q", a.Type, p)
			}
		}
	})
}

func TestAssignmentsOfProviders(t *testing.T) {
	const kv, http = wasmatrix.ProviderKV, wasmatrix.ProviderHTTP
	for what, c := range map[string]struct {
		change   func(*wasmatrix.Grant)
		provider wasmatrix.ProviderID // as it is kept
		means    wasmatrix.ProviderID
		want     wasmatrix.Code
		field    string
	}{
		"nothing said":          {func(*wasmatrix.Grant) {}, "", "kv", "", ""},
		"the default one":       {func(g *wasmatrix.Grant) { g.Provider = "kv" }, "", "kv", "", ""},
		"another":               {func(g *wasmatrix.Grant) { g.Provider = "store-1" }, "store-1", "store-1", "", ""},
		"malformed":             {func(g *wasmatrix.Grant) { g.Provider = "no such name" }, "", "", wasmatrix.CodeInvalidRequest, "provider"},
		"namespace, stale":      {func(g *wasmatrix.Grant) { g.Namespace, g.Stale = "shop", true }, "", "kv", "", ""},
		"malformed namespace":   {func(g *wasmatrix.Grant) { g.Namespace = "a/b" }, "", "", wasmatrix.CodeInvalidRequest, "namespace"},
		"namespace of no store": {func(g *wasmatrix.Grant) { *g = grant(http, "http:request"); g.Namespace = "shop" }, "", "", wasmatrix.CodeValidation, "namespace"},
		"stale of no store":     {func(g *wasmatrix.Grant) { *g = grant(http, "http:request"); g.Stale = true }, "", "", wasmatrix.CodeValidation, "stale"},
		"http":                  {func(g *wasmatrix.Grant) { *g = grant(http, "http:request") }, "", "http", "", ""},
	} {
		g := grant(kv, "kv:read")
		c.change(&g)
		a, err := wasmatrix.NewAssignment("i", "c", g)
		if e := wasmatrix.AsError(err); wasmatrix.CodeOf(err) != c.want || e != nil && e.Details[wasmatrix.DetailField] != c.field {
			t.Errorf("%s: %v, %+v", what, err, e)
			continue
		}
		if err == nil && (a.Provider != c.provider || a.ProviderID() != c.means || a.Namespace != g.Namespace || a.Stale != g.Stale) {
			t.Errorf("%s: %+v, which means %s", what, a, a.ProviderID())
		}
	}
}

func TestGrantsOf(t *testing.T) {
	one, two := &wasmatrix.Assignment{Instance: "i", ID: "a"}, &wasmatrix.Assignment{Instance: "i", ID: "b"}
	s := view{assignments: []*wasmatrix.Assignment{one, two}}
	i := &wasmatrix.Instance{ID: "i", Epoch: 3, CreateIndex: 4, ModifyIndex: 9, GrantsIndex: 7, Spec: &wasmatrix.Spec{Exclusive: true}}
	got := wasmatrix.GrantsOf(s, i)
	if got.Instance != "i" || got.Epoch != 3 || got.Incarnation != 4 || got.Index != 7 || !got.Exclusive || !slices.Equal(got.Assignments, []*wasmatrix.Assignment{one, two}) {
		t.Errorf("%+v", got)
	}
}

// view is a snapshot of little.
type view struct {
	wasmatrix.Snapshot
	assignments []*wasmatrix.Assignment
	providers   []*wasmatrix.Provider
	nodes       []*wasmatrix.Node
}

func (v view) Assignments(wasmatrix.InstanceID) iter.Seq[*wasmatrix.Assignment] {
	return slices.Values(v.assignments)
}
func (v view) Providers() iter.Seq[*wasmatrix.Provider] { return slices.Values(v.providers) }
func (v view) Nodes() iter.Seq[*wasmatrix.Node]         { return slices.Values(v.nodes) }

func (v view) Provider(id wasmatrix.ProviderID) (*wasmatrix.Provider, bool) {
	for _, p := range v.providers {
		if p.ID == id {
			return p, true
		}
	}
	return nil, false
}

func grant(typ wasmatrix.ProviderType, perms ...string) wasmatrix.Grant {
	g := wasmatrix.Grant{Type: typ}
	for _, p := range perms {
		g.Permissions = append(g.Permissions, wasmatrix.Permission(p))
	}
	return g
}
