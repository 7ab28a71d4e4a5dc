package capability_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// TestP4_AHostChecksAgain claims what may be true or not, of a state that has one
// assignment, and calls with what was admitted.
func TestP4_AHostChecksAgain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		given := set(9, assignment(t, 9, "c", wasmatrix.ProviderKV, "kv:read:a"))
		given.Epoch = 4
		p := newProvider()
		asked := uint64(0)
		h := capability.NewHost(capability.HostConfig{
			Providers: p,
			Grants: func(_ context.Context, id wasmatrix.InstanceID, atLeast uint64) (*wasmatrix.GrantSet, error) {
				asked = atLeast
				if id != "i" {
					return nil, nil
				}
				return given, nil
			},
		})
		// A scope that claims more than the instance was given, where it is believed.
		claimed := &capability.Scope{
			Instance:    rapid.SampledFrom([]wasmatrix.InstanceID{"i", "i", "j"}).Draw(rt, "instance"),
			Incarnation: rapid.SampledFrom([]uint64{7, 7, 8}).Draw(rt, "incarnation"),
			Epoch:       rapid.Uint64Range(3, 5).Draw(rt, "epoch"),
			Capability:  rapid.SampledFrom([]wasmatrix.CapabilityID{"c", "c", "d"}).Draw(rt, "capability"),
			Granted:     rapid.Uint64Range(8, 9).Draw(rt, "granted"),
			Provider:    "other", Namespace: "shared/treasure", Stale: true,
			Rules: wasmatrix.RulesOf(wasmatrix.ProviderKV, []wasmatrix.Permission{"kv:read", "kv:write"}),
		}
		truth := claimed.Instance == "i" && claimed.Incarnation == 7 && claimed.Epoch >= 4 && claimed.Capability == "c" && claimed.Granted == 9
		scope, err := h.Admit(t.Context(), claimed)
		if asked != claimed.Granted {
			rt.Fatalf("the state was asked for index %d", asked)
		}
		if !truth {
			if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
				rt.Fatalf("admitted %+v: %v", claimed, err)
			}
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		if scope.Provider != "kv" || scope.Stale || scope.Namespace != capability.OwnNamespace("i", 7) || scope.Epoch != claimed.Epoch {
			rt.Fatalf("the scope is %+v", scope)
		}
		kv, err := h.KV(t.Context(), scope)
		if err != nil {
			rt.Fatal(err)
		}
		if _, _, err := kv.Get(t.Context(), scope, "abc"); err != nil {
			rt.Fatal(err)
		}
		for what, err := range map[string]error{
			"get":    second(kv.Get(t.Context(), scope, "b")),
			"set":    errOf(kv.Set(t.Context(), scope, "a", nil, capability.SetOptions{})),
			"delete": errOf(kv.Delete(t.Context(), scope, "a", capability.WriteID{})),
			"list":   errOf(kv.List(t.Context(), scope, capability.ListQuery{})),
		} {
			if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
				rt.Fatalf("%s is %v", what, err)
			}
		}
		m, _ := h.Messaging(t.Context(), scope)
		x, _ := h.HTTP(t.Context(), scope)
		for what, err := range map[string]error{
			"publish":   m.Publish(t.Context(), scope, "t", nil),
			"subscribe": errOf(m.Subscribe(t.Context(), scope, "t", "")),
			"request":   errOf(x.Open(t.Context(), scope, &capability.Request{URL: "http://a/"})),
		} {
			if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
				rt.Fatalf("%s is %v", what, err)
			}
		}
		if p.count() != 1 {
			rt.Fatalf("the provider has seen %q", p.seen)
		}
	})
}

func errOf[T any](_ T, err error) error { return err }

func second[T any](_ T, _ bool, err error) error { return err }
