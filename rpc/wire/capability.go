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
		CreatedAt:    timeTo(a.CreatedAt),
	}
}

// CapabilityFrom converts back, checking as [wasmatrix.NewAssignment] does.
func CapabilityFrom(m *api.Capability) (*wasmatrix.Assignment, error) {
	a, err := wasmatrix.NewAssignment(wasmatrix.InstanceID(m.GetInstanceId()), wasmatrix.CapabilityID(m.GetCapabilityId()),
		wasmatrix.ProviderType(m.GetType()), m.GetPermissions())
	if err != nil {
		return nil, err
	}
	a.CreatedAt = timeFrom(m.GetCreatedAt())
	return a, nil
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
