package wire

import (
	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// OrdersTo converts a batch of orders, which were read from the state at an
// index. A spec that several orders share (the same pointer) is sent once.
func OrdersTo(term uint64, boot wasmatrix.BootID, index uint64, orders []wasmatrix.Order) *api.ExecuteRequest {
	m := &api.ExecuteRequest{Term: term, BootId: string(boot), Index: index, Orders: make([]*api.Order, len(orders))}
	places := make(map[*wasmatrix.Spec]uint32)
	for i, o := range orders {
		out := &api.Order{InstanceId: string(o.Instance), Epoch: o.Epoch, Forget: o.Forget, Grants: GrantSetTo(o.Grants)}
		switch o.Kind {
		case wasmatrix.OrderStart:
			out.Kind = api.OrderKind_ORDER_KIND_START
			place, ok := places[o.Spec]
			if !ok {
				place = uint32(len(m.Specs))
				places[o.Spec] = place
				m.Specs = append(m.Specs, SpecTo(o.Spec))
			}
			out.Spec = place
		case wasmatrix.OrderStop:
			out.Kind = api.OrderKind_ORDER_KIND_STOP
		}
		m.Orders[i] = out
	}
	return m
}

// OrdersFrom converts back. Orders that shared a spec share it again.
func OrdersFrom(m *api.ExecuteRequest) ([]wasmatrix.Order, error) {
	specs := make([]*wasmatrix.Spec, len(m.GetSpecs()))
	for i, s := range m.GetSpecs() {
		spec, err := SpecFrom(s)
		if err != nil {
			return nil, err
		}
		specs[i] = spec
	}
	orders := make([]wasmatrix.Order, len(m.GetOrders()))
	for i, o := range m.GetOrders() {
		out := wasmatrix.Order{Instance: wasmatrix.InstanceID(o.GetInstanceId()), Epoch: o.GetEpoch(), Forget: o.GetForget()}
		switch o.GetKind() {
		case api.OrderKind_ORDER_KIND_START:
			if int(o.GetSpec()) >= len(specs) {
				return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "order %d names spec %d of %d", i, o.GetSpec(), len(specs)).
					With(wasmatrix.DetailField, "orders")
			}
			out.Kind, out.Spec = wasmatrix.OrderStart, specs[o.GetSpec()]
		case api.OrderKind_ORDER_KIND_STOP:
			out.Kind = wasmatrix.OrderStop
		default:
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "order %d has the unknown kind %d", i, int32(o.GetKind())).
				With(wasmatrix.DetailField, "orders")
		}
		var err error
		if out.Grants, err = GrantSetFrom(o.GetGrants()); err != nil {
			return nil, err
		}
		orders[i] = out
	}
	return orders, nil
}
