package wasmatrix

import (
	"slices"
	"strings"
)

// ProviderType is a kind of capability provider.
type ProviderType string

// The types of provider (R5).
const (
	ProviderKV        ProviderType = "kv"
	ProviderHTTP      ProviderType = "http"
	ProviderMessaging ProviderType = "messaging"
)

// Permission is one entry of the grammar of R5, such as "kv:read:users/" or
// "http:domain:*.example.com".
type Permission string

// Assignment gives an instance the use of a provider under permissions. It is
// immutable.
type Assignment struct {
	Instance    InstanceID
	ID          CapabilityID
	Type        ProviderType
	Permissions []Permission // sorted, distinct
	CreatedAt   Time
	CreateIndex uint64
}

// MaxPermissions bounds one assignment.
const MaxPermissions = 128

// Provider is the replicated record of a provider: what it is and where it
// runs, apart from the instances that use it. It is immutable.
type Provider struct {
	ID          ProviderID
	Type        ProviderType
	Config      map[string]string
	Constraints []Constraint // on the nodes that host it; none is every node
	Stopped     bool
	Revision    uint64 // counts its updates from 1
	ChangedAt   Time
	CreateIndex uint64
	ModifyIndex uint64
}

// NewAssignment checks and normalises an assignment. Malformed input is E1,
// a permission that the type does not know is E6.
func NewAssignment(instance InstanceID, id CapabilityID, typ ProviderType, perms []string) (*Assignment, error) {
	if err := instance.Validate(); err != nil {
		return nil, err
	}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	if len(perms) == 0 {
		return nil, Errorf(CodeInvalidRequest, "permissions are empty").With(DetailField, "permissions")
	}
	if len(perms) > MaxPermissions {
		return nil, Errorf(CodeValidation, "%d permissions, at most %d are allowed", len(perms), MaxPermissions).With(DetailField, "permissions")
	}
	a := &Assignment{Instance: instance, ID: id, Type: typ}
	for _, p := range perms {
		parsed, err := ParsePermission(typ, p)
		if err != nil {
			return nil, err
		}
		a.Permissions = append(a.Permissions, parsed)
	}
	slices.Sort(a.Permissions)
	a.Permissions = slices.Compact(a.Permissions)
	return a, nil
}

// permissionForms maps each type to its operations and whether each takes an
// argument: never, optionally, always.
var permissionForms = map[ProviderType]map[string]argument{
	ProviderKV:        {"kv:read": optional, "kv:write": optional, "kv:delete": optional},
	ProviderHTTP:      {"http:request": never, "http:domain": always},
	ProviderMessaging: {"msg:publish": optional, "msg:subscribe": optional},
}

type argument uint8

const (
	never argument = iota
	optional
	always
)

const maxPermissionLen = 256

// ParsePermission checks s against the permissions of a provider type. An
// empty string is E1; anything else that does not fit is E6.
func ParsePermission(typ ProviderType, s string) (Permission, error) {
	forms, ok := permissionForms[typ]
	if !ok {
		return "", Errorf(CodeValidation, "unknown provider type %q: kv, http or messaging", typ).With(DetailField, "type")
	}
	if s == "" {
		return "", Errorf(CodeInvalidRequest, "a permission is empty").With(DetailField, "permissions")
	}
	bad := func(why string) (Permission, error) {
		return "", Errorf(CodeValidation, "permission %q: %s", s, why).With(DetailField, "permissions")
	}
	if len(s) > maxPermissionLen {
		return bad("longer than 256 bytes")
	}
	parts := strings.SplitN(s, ":", 3)
	if len(parts) < 2 {
		return bad("not of the form provider:operation")
	}
	arg, known := forms[parts[0]+":"+parts[1]]
	switch {
	case !known:
		return bad("not a permission of provider type " + string(typ))
	case len(parts) == 3 && arg == never:
		return bad("takes no argument")
	case len(parts) == 3 && parts[2] == "":
		return bad("its argument is empty")
	case len(parts) == 2 && arg == always:
		return bad("needs an argument")
	}
	return Permission(s), nil
}
