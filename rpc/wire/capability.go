package wire

import (
	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// CapabilityTo converts an assignment.
func CapabilityTo(a *wasmatrix.Assignment) *api.Capability {
	return &api.Capability{
		InstanceId:   string(a.Instance),
		CapabilityId: string(a.ID),
		Type:         string(a.Type),
		Permissions:  stringsOf(a.Permissions),
		Provider:     string(a.Provider),
		Namespace:    a.Namespace,
		Stale:        a.Stale,
		CreatedAt:    timeTo(a.CreatedAt),
		CreateIndex:  a.CreateIndex,
	}
}

// CapabilityFrom converts back, checking as [wasmatrix.NewAssignment] does.
func CapabilityFrom(m *api.Capability) (*wasmatrix.Assignment, error) {
	a, err := wasmatrix.NewAssignment(wasmatrix.InstanceID(m.GetInstanceId()), wasmatrix.CapabilityID(m.GetCapabilityId()), GrantFrom(m))
	if err != nil {
		return nil, err
	}
	a.CreatedAt, a.CreateIndex = timeFrom(m.GetCreatedAt()), m.GetCreateIndex()
	return a, nil
}

// granting is what all messages that describe a grant have in common.
type granting interface {
	GetType() string
	GetPermissions() []string
	GetProvider() string
	GetNamespace() string
	GetStale() bool
}

// GrantFrom reads what an assignment is to give, unchecked.
func GrantFrom(m granting) wasmatrix.Grant {
	g := wasmatrix.Grant{
		Type: wasmatrix.ProviderType(m.GetType()), Provider: wasmatrix.ProviderID(m.GetProvider()),
		Namespace: m.GetNamespace(), Stale: m.GetStale(),
	}
	for _, p := range m.GetPermissions() {
		g.Permissions = append(g.Permissions, wasmatrix.Permission(p))
	}
	return g
}

func stringsOf[S ~string](ss []S) []string {
	if len(ss) == 0 {
		return nil
	}
	out := make([]string, len(ss))
	for i, s := range ss {
		out[i] = string(s)
	}
	return out
}
