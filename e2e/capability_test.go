package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// TestGrants gives a guest that runs a capability and takes it away again, by the
// CLI, and looks at what is to be seen of it from outside.
func TestGrants(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl, s := c.Client(), c.Followers()[0]
	p := startProbe(t, c, cl, "p")
	get := probeRequest{Op: "kv.get", Cap: "db", Key: "k"}
	set := probeRequest{Op: "kv.set", Cap: "db", Key: "k", Value: "v"}

	r := p.must(t, get, abi.ErrDenied)
	if !strings.Contains(r.Error, "no such assignment") {
		t.Errorf("the guest is told %q", r.Error)
	}
	c.CLI(s, "cap", "assign", "p", "db", "--type", "kv", "--permissions", "kv:read")
	p.must(t, get, abi.ErrNotFound)
	p.must(t, set, abi.ErrDenied)
	c.CLI(s, "cap", "assign", "p", "db", "--type", "kv", "--permissions", "kv:read,kv:write:k")
	p.must(t, set, 0)
	if r := p.must(t, get, 0); r.Value != "v" || r.Revision == 0 {
		t.Errorf("got %+v", r)
	}
	p.must(t, probeRequest{Op: "kv.set", Cap: "db", Key: "other", Value: "v"}, abi.ErrDenied)
	if out := c.CLI(s, "cap", "ls", "p"); !strings.Contains(out, "kv:read,kv:write:k") {
		t.Errorf("the list is\n%s", out)
	}
	c.CLI(s, "cap", "revoke", "p", "db")
	p.must(t, get, abi.ErrDenied)
	wantFailure(t, c.TryCLI(s, "cap", "revoke", "p", "db"), 1, wasmatrix.CodeCapabilityNotFound)

	harness.Eventually(t, "denials are facts", func(ctx context.Context) error {
		res, err := cl.Events.ListEvents(ctx, &api.ListEventsRequest{Filter: &api.EventFilter{InstanceId: "p", Kinds: []string{"denied"}}})
		if err != nil {
			return err
		}
		var all []string
		for _, e := range res.GetEvents() {
			if e.GetEpoch() != 1 || e.GetNode() == "" {
				return fmt.Errorf("%v", e)
			}
			all = append(all, e.GetReason())
		}
		text := strings.Join(all, "\n")
		for _, want := range []string{"db kv.get: no such assignment", "db kv.set: no permission"} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("no denial %q in\n%s", want, text)
			}
		}
		return nil
	})
	in := c.AwaitStatus(cl, "p", api.InstanceStatus_INSTANCE_STATUS_RUNNING)
	node, err := cl.Nodes.GetNode(t.Context(), &api.GetNodeRequest{NodeId: in.GetNode()})
	if u := node.GetUsage(); err != nil || u.GetCapabilityCalls() != 3 || u.GetCapabilityDenials() != 4 || u.GetCapabilityCallsOpen() != 0 {
		t.Errorf("the node counts %v, %v", u, err)
	}
	i := slices.IndexFunc(c.Nodes, func(n *harness.Agent) bool { return n.Name == in.GetNode() })
	awaitLog(t, c.Nodes[i], "audit: denied: instance=p epoch=1 capability=db operation=kv.get")
	c.AssertSameState()
}

// TestStrict refuses to start what would be denied its calls.
func TestStrict(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	s := c.Servers[0]
	path := harness.Wasm(t, probePkg, true)
	wantFailure(t, c.TryCLI(s, "run", path, "--strict", "--id", "p", "--cap", "kv=kv:kv:read"), 1, wasmatrix.CodeValidation, "http", "messaging")
	c.CLI(s, "run", path, "--strict", "--id", "p", "--wait", "--cap", "kv=kv:kv:read", "--cap", "h=http:http:domain:example.com", "--cap", "m=messaging:msg:publish:a.>")
	out := c.CLI(s, "inspect", "p")
	for _, want := range []string{"kv", "http", "messaging", "http:domain:example.com"} {
		if !strings.Contains(out, want) {
			t.Errorf("inspect does not show %q:\n%s", want, out)
		}
	}
}

// TestP19_DataOfInstancesIsApart has instances use the same keys: their own data
// is theirs alone, and what is shared is so by name.
func TestP19_DataOfInstancesIsApart(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 2})
	cl := c.Client()
	own := func() *api.CapabilityGrant { return grant("own", "kv", "kv:read", "kv:write", "kv:delete") }
	common := func() *api.CapabilityGrant { return shared(grant("common", "kv", "kv:read", "kv:write"), "common") }
	a := startProbe(t, c, cl, "a", withCaps(own(), common()))
	b := startProbe(t, c, cl, "b", withCaps(own(), common()))
	for _, p := range []probe{a, b} {
		p.must(t, probeRequest{Op: "kv.get", Cap: "own", Key: "k"}, abi.ErrNotFound)
		p.must(t, probeRequest{Op: "kv.set", Cap: "own", Key: "k", Value: p.id}, 0)
		p.must(t, probeRequest{Op: "kv.set", Cap: "common", Key: "by-" + p.id, Value: p.id}, 0)
	}
	for _, p := range []probe{a, b} {
		if r := p.must(t, probeRequest{Op: "kv.get", Cap: "own", Key: "k"}, 0); r.Value != p.id {
			t.Errorf("%s reads %q", p.id, r.Value)
		}
		if r := p.must(t, probeRequest{Op: "kv.list", Cap: "own", Limit: 10}, 0); !slices.Equal(r.Keys, []string{"k"}) {
			t.Errorf("%s lists %q", p.id, r.Keys)
		}
		if r := p.must(t, probeRequest{Op: "kv.list", Cap: "common", Limit: 10}, 0); !slices.Equal(r.Keys, []string{"by-a", "by-b"}) {
			t.Errorf("%s lists in common %q", p.id, r.Keys)
		}
	}
}

// TestLargeResults fetches what does not fit into the guest's buffer.
func TestLargeResults(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	p := startProbe(t, c, c.Client(), "p", withCaps(everythingGranted("")...))
	value := strings.Repeat("0123456789", 100_000)
	p.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: "k", Value: value}, 0)
	for _, buffer := range []int{1, 64, len(value) - 1, len(value), 2 * len(value)} {
		if r := p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: "k", Buffer: buffer}, 0); r.Value != value {
			t.Errorf("with a buffer of %d bytes %d come back", buffer, len(r.Value))
		}
	}
	p.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: "k", Value: value + strings.Repeat("x", 100_000)}, abi.ErrTooLarge)
	for n := range 200 {
		p.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: fmt.Sprintf("list/%03d", n)}, 0)
	}
	var keys []string
	for after := ""; ; after = keys[len(keys)-1] {
		r := p.must(t, probeRequest{Op: "kv.list", Cap: "kv", Key: "list/", After: after, Limit: 77}, 0)
		keys = append(keys, r.Keys...)
		if !r.More {
			break
		}
	}
	if len(keys) != 200 || !slices.IsSorted(keys) {
		t.Errorf("listed %q", keys)
	}
	if r := p.must(t, probeRequest{Op: "kv.cas", Cap: "kv", Key: "list/000", Expect: 1, Value: "x"}, abi.ErrConflict); r.Revision < 2 {
		t.Errorf("a conflict tells revision %d", r.Revision)
	}
}
