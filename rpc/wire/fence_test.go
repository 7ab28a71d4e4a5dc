package wire_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

func TestFencesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fences := rapid.SliceOf(rapid.Custom(func(t *rapid.T) wasmatrix.Fence {
			return wasmatrix.Fence{
				Instance:    wasmatrix.InstanceID(rapid.StringMatching(`[a-z0-9-]{1,20}`).Draw(t, "instance")),
				Incarnation: rapid.Uint64().Draw(t, "incarnation"), Epoch: rapid.Uint64().Draw(t, "epoch"),
			}
		})).Draw(t, "fences")
		b, err := proto.Marshal(&api.RaiseFencesResponse{InForce: wire.FencesTo(fences)})
		if err != nil {
			t.Fatal(err)
		}
		var m api.RaiseFencesResponse
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if got := wire.FencesFrom(m.GetInForce()); !slices.Equal(got, fences) {
			t.Fatalf("%v became %v", fences, got)
		}
	})
}
