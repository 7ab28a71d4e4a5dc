package wire

import (
	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// EventTo converts a fact.
func EventTo(f *wasmatrix.Fact) *api.Event {
	return &api.Event{
		Index:      f.Index,
		Time:       timeTo(f.At),
		Kind:       string(f.Kind),
		InstanceId: string(f.Instance),
		Node:       string(f.Node),
		Epoch:      f.Epoch,
		Attempt:    f.Attempt,
		Reason:     f.Reason,
	}
}

// EventFrom converts back.
func EventFrom(m *api.Event) *wasmatrix.Fact {
	return &wasmatrix.Fact{
		Index:    m.GetIndex(),
		At:       timeFrom(m.GetTime()),
		Kind:     wasmatrix.FactKind(m.GetKind()),
		Instance: wasmatrix.InstanceID(m.GetInstanceId()),
		Node:     wasmatrix.NodeID(m.GetNode()),
		Epoch:    m.GetEpoch(),
		Attempt:  m.GetAttempt(),
		Reason:   m.GetReason(),
	}
}
