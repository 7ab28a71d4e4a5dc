package wire

import (
	"strings"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// GrantSetTo converts a set; nil is absent.
func GrantSetTo(s *wasmatrix.GrantSet) *api.GrantSet {
	if s == nil {
		return nil
	}
	m := &api.GrantSet{
		InstanceId: string(s.Instance), Epoch: s.Epoch, Index: s.Index, Incarnation: s.Incarnation, Exclusive: s.Exclusive,
		Capabilities: make([]*api.Capability, len(s.Assignments)),
	}
	for i, a := range s.Assignments {
		m.Capabilities[i] = CapabilityTo(a)
	}
	return m
}

// GrantSetFrom converts back. An assignment that is not of the set's instance is
// E1, and so is what [CapabilityFrom] refuses.
func GrantSetFrom(m *api.GrantSet) (*wasmatrix.GrantSet, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // absent stays absent
	}
	s := &wasmatrix.GrantSet{
		Instance: wasmatrix.InstanceID(m.GetInstanceId()), Epoch: m.GetEpoch(), Index: m.GetIndex(),
		Incarnation: m.GetIncarnation(), Exclusive: m.GetExclusive(),
	}
	if err := s.Instance.Validate(); err != nil {
		return nil, wasmatrix.AsError(err).With(wasmatrix.DetailField, "grants.instance_id")
	}
	for _, c := range m.GetCapabilities() {
		a, err := CapabilityFrom(c)
		if err != nil {
			return nil, err
		}
		if a.Instance != s.Instance {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "capability %s of instance %s is in the set of %s", a.ID, a.Instance, s.Instance).
				With(wasmatrix.DetailField, "grants.capabilities")
		}
		s.Assignments = append(s.Assignments, a)
	}
	return s, nil
}

// GrantSetsTo converts several.
func GrantSetsTo(sets []*wasmatrix.GrantSet) []*api.GrantSet {
	out := make([]*api.GrantSet, len(sets))
	for i, s := range sets {
		out[i] = GrantSetTo(s)
	}
	return out
}

// GrantSetsFrom converts back.
func GrantSetsFrom(ms []*api.GrantSet) ([]*wasmatrix.GrantSet, error) {
	out := make([]*wasmatrix.GrantSet, len(ms))
	for i, m := range ms {
		var err error
		if out[i], err = GrantSetFrom(m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// DenialTo converts a denial. What a guest has named need not be text; it is
// made so, since a message of the API cannot hold anything else.
func DenialTo(d wasmatrix.Denial) *api.Denial {
	return &api.Denial{
		InstanceId: string(d.Instance), Epoch: d.Epoch, CapabilityId: toText(string(d.Capability)), Operation: toText(d.Operation),
		Reason: toText(d.Reason), Time: timeTo(d.At), Count: d.Count,
	}
}

// toText replaces what is not UTF-8.
func toText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// DenialFrom converts back. An instance ID that is none is E1; the capability is
// what a guest has named, and so may be anything.
func DenialFrom(m *api.Denial) (wasmatrix.Denial, error) {
	d := wasmatrix.Denial{
		Instance: wasmatrix.InstanceID(m.GetInstanceId()), Epoch: m.GetEpoch(), Capability: wasmatrix.CapabilityID(m.GetCapabilityId()),
		Operation: m.GetOperation(), Reason: m.GetReason(), At: timeFrom(m.GetTime()), Count: m.GetCount(),
	}
	if err := d.Instance.Validate(); err != nil {
		return d, wasmatrix.AsError(err).With(wasmatrix.DetailField, "denials.instance_id")
	}
	return d, nil
}
