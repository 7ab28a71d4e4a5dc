package capability_test

import (
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// TestP20_P23_Histories draws what happens to a node, its providers and the grants of an
// instance in between its calls, and compares each call with what must come of it
// then. It is the property of P20 (a stopped provider is handled), P23 (no effect
// without a lease, nor of an epoch that is over) and of I7 (nor of what was revoked).
func TestP20_P23_Histories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newProvider()
		var alive atomic.Bool
		alive.Store(true)
		g := capability.NewGate(capability.Config{Providers: p, Alive: alive.Load})
		index := uint64(1)
		grantAll := func() *wasmatrix.GrantSet {
			return set(index,
				assignment(t, index, "kv", wasmatrix.ProviderKV, "kv:read", "kv:write", "kv:delete"),
				assignment(t, index, "http", wasmatrix.ProviderHTTP, "http:request"),
				assignment(t, index, "msg", wasmatrix.ProviderMessaging, "msg:publish", "msg:subscribe"))
		}
		c := g.NewClient(grantAll())
		defer func() { c.Close() }()
		granted, over := true, false
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"call", "call", "call", "stop", "start", "lapse", "renew", "revoke", "grant", "end"}).Draw(rt, "step") {
			case "stop":
				p.down.Store(true)
			case "start":
				p.down.Store(false)
			case "lapse":
				alive.Store(false)
				g.Lapsed()
			case "renew":
				alive.Store(true)
				g.Resumed()
			case "revoke":
				index++
				granted = false
				if err := c.Set(t.Context(), set(index)); err != nil {
					rt.Fatal(err)
				}
			case "grant":
				index++
				granted = true
				if err := c.Set(t.Context(), grantAll()); err != nil {
					rt.Fatal(err)
				}
			case "end":
				c.Shut()
				over = true
			case "call":
				want := wasmatrix.Code("")
				switch {
				case !alive.Load():
					want = wasmatrix.CodeProviderUnavailable
				case !granted || over:
					want = wasmatrix.CodePermissionDenied
				case p.down.Load():
					want = wasmatrix.CodeProviderUnavailable
				}
				before := p.count()
				id := rapid.SampledFrom([]wasmatrix.CapabilityID{"kv", "http", "msg"}).Draw(rt, "capability")
				ops := map[wasmatrix.CapabilityID][]string{
					"kv": {"kv.get", "kv.set", "kv.delete", "kv.list"}, "http": {"http.request"}, "msg": {"msg.publish", "msg.subscribe"},
				}[id]
				errs := everything(t.Context(), c, id, "k", "http://a/", "t")
				for _, op := range ops {
					if got := wasmatrix.CodeOf(errs[op]); got != want {
						rt.Fatalf("%s is %q (%v), want %q", op, got, errs[op], want)
					}
				}
				if arrived := p.count() - before; arrived != 0 && want != "" || want == "" && arrived != len(ops) {
					rt.Fatalf("%d calls have arrived, with %q", arrived, want)
				}
			}
		}
		c.Close()
		if open := g.Stats().Open; open != 0 {
			rt.Fatalf("%d calls are open", open)
		}
	})
}
