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

// CallsPath is where a process takes a link over which it carries out the calls of
// guests of others.
const CallsPath = "/wasmatrix.v1/calls"

// Bounds of carried calls, which both sides keep to.
const (
	// MaxCarried is how many calls of one message, such as those of kv, one stream
	// has under way; MaxCarriedOpen how many HTTP exchanges and subscriptions.
	MaxCarried     = 1024
	MaxCarriedOpen = 8192
	// MaxCarry is the size of one message, in bytes.
	MaxCarry = 2 << 20
	// DeliveryWindow is how many deliveries of a subscription are on their way, or
	// wait at the subscriber's process, before some were taken.
	DeliveryWindow = 16
)

// KVSetTo converts a write.
func KVSetTo(key string, value []byte, o capability.SetOptions) *api.KVSet {
	return &api.KVSet{Key: key, Value: value, Ttl: DurationTo(o.TTL), Expect: clone(o.Expect), WriteId: writeIDTo(o.ID)}
}

// KVSetFrom converts back. The value is the message's.
func KVSetFrom(m *api.KVSet) (key string, value []byte, o capability.SetOptions, err error) {
	o.Expect = clone(m.Expect)
	if o.TTL, err = DurationFrom(m.GetTtl(), "kv_set.ttl"); err != nil {
		return "", nil, o, err
	}
	if o.ID, err = writeIDFrom(m.GetWriteId()); err != nil {
		return "", nil, o, err
	}
	return m.GetKey(), m.GetValue(), o, nil
}

// KVDeleteTo converts a deletion.
func KVDeleteTo(key string, id capability.WriteID) *api.KVDelete {
	return &api.KVDelete{Key: key, WriteId: writeIDTo(id)}
}

// KVDeleteFrom converts back.
func KVDeleteFrom(m *api.KVDelete) (key string, id capability.WriteID, err error) {
	id, err = writeIDFrom(m.GetWriteId())
	return m.GetKey(), id, err
}

// writeIDTo leaves the zero ID, which is not remembered, absent.
func writeIDTo(id capability.WriteID) []byte {
	if id == (capability.WriteID{}) {
		return nil
	}
	return id[:]
}

func writeIDFrom(b []byte) (id capability.WriteID, err error) {
	if len(b) != 0 && len(b) != len(id) {
		return id, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a write ID of %d bytes, not of %d", len(b), len(id)).
			With(wasmatrix.DetailField, "write_id")
	}
	copy(id[:], b)
	return id, nil
}

// HTTPOpenTo converts the beginning of an exchange.
func HTTPOpenTo(r *capability.Request) *api.HTTPOpen {
	return &api.HTTPOpen{Method: r.Method, Url: r.URL, Header: fieldsTo(r.Header), Timeout: DurationTo(r.Timeout)}
}

// HTTPOpenFrom converts back.
func HTTPOpenFrom(m *api.HTTPOpen) (*capability.Request, error) {
	timeout, err := DurationFrom(m.GetTimeout(), "http_open.timeout")
	return &capability.Request{Method: m.GetMethod(), URL: m.GetUrl(), Header: fieldsFrom(m.GetHeader()), Timeout: timeout}, err
}

// HTTPResponseTo converts a response.
func HTTPResponseTo(r *capability.Response) *api.HTTPResponse {
	return &api.HTTPResponse{Status: int32(r.Status), Header: fieldsTo(r.Header)}
}

// HTTPResponseFrom converts back.
func HTTPResponseFrom(m *api.HTTPResponse) *capability.Response {
	return &capability.Response{Status: int(m.GetStatus()), Header: fieldsFrom(m.GetHeader())}
}

func fieldsTo(fields []capability.Field) []*api.HTTPField {
	out := make([]*api.HTTPField, len(fields))
	for i, f := range fields {
		out[i] = &api.HTTPField{Name: f.Name, Value: []byte(f.Value)}
	}
	return out
}

func fieldsFrom(ms []*api.HTTPField) []capability.Field {
	var out []capability.Field
	for _, m := range ms {
		out = append(out, capability.Field{Name: m.GetName(), Value: string(m.GetValue())})
	}
	return out
}

// DeliveryTo converts a message. A topic that is not text is made so.
func DeliveryTo(m capability.Message) *api.Delivery {
	return &api.Delivery{Topic: toText(m.Topic), Data: m.Data, Dropped: m.Dropped}
}

// DeliveryFrom converts back. The data is the message's.
func DeliveryFrom(m *api.Delivery) capability.Message {
	return capability.Message{Topic: m.GetTopic(), Data: m.GetData(), Dropped: m.GetDropped()}
}
