package wire

import (
	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// ScopeTo converts on whose behalf a call is made. Rules and Alive stay behind:
// who carries the call out makes rules of its own.
func ScopeTo(s *capability.Scope) *api.CallScope {
	return &api.CallScope{
		InstanceId: string(s.Instance), Incarnation: s.Incarnation, Epoch: s.Epoch, Exclusive: s.Exclusive,
		CapabilityId: string(s.Capability), Granted: s.Granted, ProviderId: string(s.Provider), Namespace: s.Namespace, Stale: s.Stale,
	}
}

// ScopeFrom converts back what a caller claims. IDs that are none are E1.
func ScopeFrom(m *api.CallScope) (*capability.Scope, error) {
	if m == nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a call without a scope").With(wasmatrix.DetailField, "scope")
	}
	s := &capability.Scope{
		Instance: wasmatrix.InstanceID(m.GetInstanceId()), Incarnation: m.GetIncarnation(), Epoch: m.GetEpoch(), Exclusive: m.GetExclusive(),
		Capability: wasmatrix.CapabilityID(m.GetCapabilityId()), Granted: m.GetGranted(), Provider: wasmatrix.ProviderID(m.GetProviderId()),
		Namespace: m.GetNamespace(), Stale: m.GetStale(),
	}
	if err := s.Instance.Validate(); err != nil {
		return nil, wasmatrix.AsError(err).With(wasmatrix.DetailField, "scope.instance_id")
	}
	if err := s.Capability.Validate(); err != nil {
		return nil, wasmatrix.AsError(err).With(wasmatrix.DetailField, "scope.capability_id")
	}
	if err := s.Provider.Validate(); err != nil {
		return nil, wasmatrix.AsError(err).With(wasmatrix.DetailField, "scope.provider_id")
	}
	return s, nil
}
