package client

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// TestOutboxSendsWhatMayBeSent, whole and in order, by reads of any size. What may
// not be when its turn comes is answered, and nothing of it leaves.
func TestOutboxSendsWhatMayBeSent(t *testing.T) {
	type message struct {
		m        *api.CarryRequest
		at       int64
		claimed  bool
		alive    bool
		departed bool // its turn has come
	}
	rapid.Check(t, func(t *rapid.T) {
		var dropped []*api.CarryResponse
		o := newOutbox(func(m *api.CarryResponse) { dropped = append(dropped, m) })
		all := make([]*message, rapid.IntRange(1, 20).Draw(t, "messages"))
		for i := range all {
			m := &message{alive: true, m: &api.CarryRequest{Call: uint64(i + 1), Part: &api.CarryRequest_Publish{Publish: &api.Publish{
				Data: make([]byte, rapid.IntRange(0, 300).Draw(t, "size")),
			}}}}
			if rapid.Bool().Draw(t, "first") {
				m.m.Scope = &api.CallScope{}
			}
			all[i] = m
			var alive func() bool
			if i < len(all)-1 && rapid.Bool().Draw(t, "claimed") { // the last is always sent
				m.claimed, alive = true, func() bool { return m.alive }
			}
			var err error
			if m.at, _, err = o.put(t.Context(), m.m, alive); err != nil {
				t.Fatal(err)
			}
		}
		var got, want []byte
		var refused []uint64
		for o.read < len(o.buf) {
			if m := rapid.SampledFrom(all).Draw(t, "lapses"); m.claimed { // also one of which a part has left: it must leave whole
				m.alive = false
			}
			p := make([]byte, rapid.IntRange(1, 500).Draw(t, "read"))
			n, err := o.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p[:n]...)
			for _, m := range all {
				if m.departed || m.at >= o.gone {
					continue
				}
				m.departed = true
				if !m.alive {
					refused = append(refused, m.m.Call)
					continue
				}
				b, err := proto.Marshal(m.m)
				if err != nil {
					t.Fatal(err)
				}
				want = append(append(want, 0, 0, 0, byte(len(b)>>8), byte(len(b))), b...)
			}
		}
		if string(got) != string(want) {
			t.Fatalf("%d bytes have left\n%x\nwant %d\n%x", len(got), got, len(want), want)
		}
		for i, m := range dropped {
			if i >= len(refused) || m.Call != refused[i] || m.Error.GetCode() != string(wasmatrix.CodeProviderUnavailable) ||
				m.Error.GetDetails()[wasmatrix.DetailOutcome] != wasmatrix.OutcomeNone || m.End != (all[m.Call-1].m.Scope != nil) {
				t.Fatalf("%d was answered with %v, want %v", i, m, refused)
			}
		}
		if len(dropped) != len(refused) || len(o.claims) != 0 {
			t.Fatalf("%d were answered, not %d; %d claims are left", len(dropped), len(refused), len(o.claims))
		}
	})
}
