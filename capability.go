package wasmatrix

import "slices"

// ProviderType is a kind of capability provider.
type ProviderType string

// The types of provider (R5).
const (
	ProviderKV        ProviderType = "kv"
	ProviderHTTP      ProviderType = "http"
	ProviderMessaging ProviderType = "messaging"
)

// ProviderTypes lists the types.
var ProviderTypes = []ProviderType{ProviderKV, ProviderHTTP, ProviderMessaging}

// Assignment gives an instance the use of a provider under permissions. It is
// immutable.
type Assignment struct {
	Instance InstanceID
	ID       CapabilityID
	Grant
	CreatedAt   Time
	CreateIndex uint64
}

// Same reports whether two assignments are one and the same. One log index may
// have several commands, so that does not tell alone.
func (a *Assignment) Same(b *Assignment) bool {
	return a.Instance == b.Instance && a.ID == b.ID && a.CreateIndex == b.CreateIndex && a.Type == b.Type &&
		a.Provider == b.Provider && a.Namespace == b.Namespace && a.Stale == b.Stale && slices.Equal(a.Permissions, b.Permissions)
}

// Grant is what an assignment gives.
type Grant struct {
	Type        ProviderType
	Permissions []Permission // sorted, distinct
	// Provider is the one that carries the calls out; "" is the default one of
	// the type.
	Provider ProviderID
	// Namespace is the kv namespace that calls reach, which all instances that
	// are given its name share; "" is the instance's own, gone with its record.
	Namespace string
	// Stale lets kv reads be answered from a state that may lag.
	Stale bool
}

// MaxPermissions bounds one assignment.
const MaxPermissions = 128

// ProviderID returns the provider that the grant names or means.
func (g *Grant) ProviderID() ProviderID {
	if g.Provider != "" {
		return g.Provider
	}
	return DefaultProvider(g.Type)
}

// NewAssignment checks and normalises an assignment. Malformed input is E1,
// a permission or option that the type does not know is E6.
func NewAssignment(instance InstanceID, id CapabilityID, g Grant) (*Assignment, error) {
	if err := instance.Validate(); err != nil {
		return nil, err
	}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	g, err := g.normalised()
	if err != nil {
		return nil, err
	}
	return &Assignment{Instance: instance, ID: id, Grant: g}, nil
}

func (g Grant) normalised() (Grant, error) {
	if len(g.Permissions) == 0 {
		return Grant{}, Errorf(CodeInvalidRequest, "permissions are empty").With(DetailField, "permissions")
	}
	if len(g.Permissions) > MaxPermissions {
		return Grant{}, Errorf(CodeValidation, "%d permissions, at most %d are allowed", len(g.Permissions), MaxPermissions).With(DetailField, "permissions")
	}
	perms := make([]Permission, 0, len(g.Permissions))
	for _, p := range g.Permissions {
		parsed, err := ParsePermission(g.Type, string(p))
		if err != nil {
			return Grant{}, err
		}
		perms = append(perms, parsed)
	}
	slices.Sort(perms)
	g.Permissions = slices.Compact(perms)
	if g.Provider != "" {
		if err := g.Provider.Validate(); err != nil {
			return Grant{}, AsError(err).With(DetailField, "provider")
		}
	}
	if g.Provider == DefaultProvider(g.Type) {
		g.Provider = ""
	}
	if g.Type != ProviderKV && g.Namespace != "" {
		return Grant{}, Errorf(CodeValidation, "a capability of type %s has no namespace", g.Type).With(DetailField, "namespace")
	}
	if g.Type != ProviderKV && g.Stale {
		return Grant{}, Errorf(CodeValidation, "a capability of type %s has no stale reads", g.Type).With(DetailField, "stale")
	}
	if g.Namespace != "" {
		if err := validateName("namespace", g.Namespace); err != nil {
			return Grant{}, AsError(err).With(DetailField, "namespace")
		}
	}
	return g, nil
}

// GrantSet is all that one instance was given, as of a log index.
type GrantSet struct {
	Instance InstanceID
	Epoch    uint64
	// Index is the log index of the last change of its assignments, 0 if they
	// never changed. A set replaces those of lower indexes.
	Index uint64
	// Incarnation is the log index that created the instance's record: it tells
	// it from an earlier one of the same ID.
	Incarnation uint64
	Exclusive   bool
	Assignments []*Assignment // by ID
}

// GrantsOf reads the set of an instance.
func GrantsOf(s Snapshot, i *Instance) *GrantSet {
	return &GrantSet{
		Instance: i.ID, Epoch: i.Epoch, Index: i.GrantsIndex, Incarnation: i.CreateIndex, Exclusive: i.Spec.Exclusive,
		Assignments: slices.Collect(s.Assignments(i.ID)),
	}
}

// Denial is a capability call that was refused, or several alike.
type Denial struct {
	Instance   InstanceID
	Epoch      uint64
	Capability CapabilityID
	Operation  string // such as kv.set
	Reason     string
	At         Time   // of the last
	Count      uint64 // since the last that was reported
}
