package wasmatrix_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestParsePermission(t *testing.T) {
	const kv, http, msg = wasmatrix.ProviderKV, wasmatrix.ProviderHTTP, wasmatrix.ProviderMessaging
	for _, c := range []struct {
		typ  wasmatrix.ProviderType
		perm string
		want wasmatrix.Code
	}{
		{kv, "kv:read", ""}, {kv, "kv:write", ""}, {kv, "kv:delete", ""},
		{kv, "kv:read:users/", ""}, {kv, "kv:write:a:b", ""}, {kv, "kv:delete: ", ""},
		{http, "http:request", ""}, {http, "http:domain:example.com", ""}, {http, "http:domain:*.example.com", ""},
		{msg, "msg:publish", ""}, {msg, "msg:subscribe", ""}, {msg, "msg:publish:a.*.>", ""}, {msg, "msg:subscribe:a", ""},
		{kv, "", wasmatrix.CodeInvalidRequest},
		{kv, "kv", wasmatrix.CodeValidation}, {kv, "kv:", wasmatrix.CodeValidation}, {kv, "kv:list", wasmatrix.CodeValidation},
		{kv, "KV:read", wasmatrix.CodeValidation}, {kv, "kv:read:", wasmatrix.CodeValidation}, {kv, " kv:read", wasmatrix.CodeValidation},
		{kv, "http:request", wasmatrix.CodeValidation}, {kv, "kv:read:" + strings.Repeat("k", 256), wasmatrix.CodeValidation},
		{http, "http:request:x", wasmatrix.CodeValidation}, {http, "http:request:", wasmatrix.CodeValidation},
		{http, "http:domain", wasmatrix.CodeValidation}, {http, "http:domain:", wasmatrix.CodeValidation},
		{msg, "msg:receive", wasmatrix.CodeValidation}, {msg, "msg:publish:", wasmatrix.CodeValidation},
		{"", "kv:read", wasmatrix.CodeValidation}, {"redis", "kv:read", wasmatrix.CodeValidation}, {"redis", "", wasmatrix.CodeValidation},
	} {
		got, err := wasmatrix.ParsePermission(c.typ, c.perm)
		if wasmatrix.CodeOf(err) != c.want || err == nil && string(got) != c.perm || err != nil && got != "" {
			t.Errorf("%s %q is %q, %v, want %q", c.typ, c.perm, got, err, c.want)
		}
	}
}

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

func grant(typ wasmatrix.ProviderType, perms ...string) wasmatrix.Grant {
	g := wasmatrix.Grant{Type: typ}
	for _, p := range perms {
		g.Permissions = append(g.Permissions, wasmatrix.Permission(p))
	}
	return g
}
