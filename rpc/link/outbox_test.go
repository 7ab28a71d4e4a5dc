package link

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix/gen/api"
)

// taker is a connection that takes as much as it likes.
type taker struct {
	got  []byte
	take func(most int) int
}

func (k *taker) Some(p []byte, _ bool) (int, error) {
	n := k.take(len(p))
	k.got = append(k.got, p[:n]...)
	return n, nil
}

// TestOutboxSendsWhatMayBeSent, whole and in order, by system calls that take any
// part. What may not be when its turn comes is told of, and nothing of it leaves.
func TestOutboxSendsWhatMayBeSent(t *testing.T) {
	type message struct {
		m        *api.CarryRequest
		at       int64
		claimed  bool
		alive    bool
		departed bool // its turn has come
	}
	rapid.Check(t, func(t *rapid.T) {
		var dropped []Claim
		o := newOutbox(func(c Claim) { dropped = append(dropped, c) }, func(err error) { t.Fatal(err) })
		all := make([]*message, rapid.IntRange(1, 20).Draw(t, "messages"))
		for i := range all {
			m := &message{alive: true, m: &api.CarryRequest{Call: uint64(i + 1), Part: &api.CarryRequest_Publish{Publish: &api.Publish{
				Data: make([]byte, rapid.IntRange(0, 300).Draw(t, "size")),
			}}}}
			all[i] = m
			c := Claim{Call: m.m.Call, First: rapid.Bool().Draw(t, "first")}
			if rapid.Bool().Draw(t, "claimed") {
				m.claimed, c.Alive = true, func() bool { return m.alive }
			}
			var err error
			if m.at, _, err = o.put(t.Context(), m.m, c); err != nil {
				t.Fatal(err)
			}
		}
		conn := &taker{take: func(most int) int { return rapid.IntRange(0, most).Draw(t, "takes") }}
		o.writer, o.stalls = conn, func(bool) {}
		var want []byte
		var refused []uint64
		for more := true; more; {
			if m := rapid.SampledFrom(all).Draw(t, "lapses"); m.claimed { // also one of which a part has left: it must leave whole
				m.alive = false
			}
			more = o.round(true)
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
		if string(conn.got) != string(want) {
			t.Fatalf("%d bytes have left\n%x\nwant %d\n%x", len(conn.got), conn.got, len(want), want)
		}
		for i, c := range dropped {
			if i >= len(refused) || c.Call != refused[i] {
				t.Fatalf("%d was dropped as %+v, want %v", i, c, refused)
			}
		}
		if len(dropped) != len(refused) || len(o.claims) != 0 || o.sending {
			t.Fatalf("%d were dropped, not %d; %d claims are left; sending %t", len(dropped), len(refused), len(o.claims), o.sending)
		}
	})
}
