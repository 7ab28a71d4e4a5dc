package rpc_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/module"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
)

// importing is a module that imports functions of the host.
func importing(functions ...string) []byte {
	section := func(id byte, content []byte) []byte { return append([]byte{id, byte(len(content))}, content...) }
	imports := []byte{byte(len(functions))}
	for _, f := range functions {
		imports = append(append(imports, byte(len(abi.Module))), abi.Module...)
		imports = append(append(append(imports, byte(len(f))), f...), 0, 0)
	}
	return slices.Concat(wasm, section(1, []byte{1, 0x60, 0, 0}), section(2, imports))
}

func inspect(cfg *rpc.Config) {
	cfg.Inspect = func(b []byte) (*wasmatrix.Module, error) { return module.InspectBytes(b, 1<<20) }
}

func TestCapabilitiesAreShownWithTheirOptions(t *testing.T) {
	c, cl := watchCluster(t, 2)
	start(t, cl, "a1")
	if _, err := cl.Providers.StartProvider(t.Context(), &api.StartProviderRequest{ProviderId: "cache", Type: "kv"}); err != nil {
		t.Fatal(err)
	}
	assigned, err := cl.Capabilities.AssignCapability(t.Context(), &api.AssignCapabilityRequest{
		InstanceId: "a1", CapabilityId: "visits", Type: "kv", Permissions: []string{"kv:write", "kv:read:a/"}, Provider: "cache", Namespace: "shared", Stale: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	listed, err := cl.Capabilities.ListCapabilities(t.Context(), &api.ListCapabilitiesRequest{InstanceId: "a1"})
	if err != nil {
		t.Fatal(err)
	}
	queried, err := cl.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{InstanceId: "a1"})
	if err != nil {
		t.Fatal(err)
	}
	a, ok := c.Servers[0].Machine.Snapshot().Assignment("a1", "visits")
	if !ok {
		t.Fatal("it is not recorded")
	}
	for how, got := range map[string][]*api.Capability{"assigned": {assigned.Capability}, "listed": listed.Capabilities, "queried": queried.Capabilities} {
		if len(got) != 1 || got[0].Provider != "cache" || got[0].Namespace != "shared" || !got[0].Stale || got[0].CreateIndex != a.CreateIndex ||
			!slices.Equal(got[0].Permissions, []string{"kv:read:a/", "kv:write"}) {
			t.Errorf("%s: %v", how, got)
		}
	}
}

func TestRevokeWaitsAndSaysWhatItDoesNotKnow(t *testing.T) {
	c, _ := watchCluster(t, 2)
	cl := c.Client(func(cfg *client.Config) { cfg.RetryFor = -1; cfg.Timeout = 200 * time.Millisecond })
	start(t, cl, "a1")
	assign := func(id string) {
		t.Helper()
		if _, err := cl.Capabilities.AssignCapability(t.Context(), &api.AssignCapabilityRequest{InstanceId: "a1", CapabilityId: id, Type: "kv", Permissions: []string{"kv:read"}}); err != nil {
			t.Fatal(err)
		}
	}
	assign("c")
	if _, err := cl.Capabilities.RevokeCapability(t.Context(), &api.RevokeCapabilityRequest{InstanceId: "a1", CapabilityId: "c"}); err != nil {
		t.Fatal(err)
	}
	c.Deaf.Store(true)
	assign("d")
	begun := time.Now()
	_, err := cl.Capabilities.RevokeCapability(t.Context(), &api.RevokeCapabilityRequest{InstanceId: "a1", CapabilityId: "d", Timeout: durationpb.New(500 * time.Millisecond)})
	wantCode(t, "revoke", err, wasmatrix.CodeTimeout, wasmatrix.OutcomeCommitted)
	if node := wasmatrix.AsError(err).Details["node"]; node != "n1" {
		t.Errorf("the node is %q", node)
	}
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("it waited for %s: less than it was asked to", took)
	}
	if _, ok := c.Servers[0].Machine.Snapshot().Assignment("a1", "d"); ok {
		t.Error("it was not revoked")
	}
	// The default is longer than the default of calls.
	short := newCluster(t, 1, func(cfg *rpc.Config) { cfg.CallTimeout = 20 * time.Millisecond })
	addNode(t, short, "n1", "127.0.0.1:1")
	addModule(t, short, "m")
	cl = short.Client(once)
	start(t, cl, "a1")
	assign("c")
	short.Deaf.Store(true)
	patient := short.Client(func(cfg *client.Config) { cfg.RetryFor = -1; cfg.Timeout = -1 })
	begun = time.Now()
	_, err = patient.Capabilities.RevokeCapability(t.Context(), &api.RevokeCapabilityRequest{InstanceId: "a1", CapabilityId: "c", Timeout: durationpb.New(500 * time.Millisecond)})
	wantCode(t, "by a caller without a deadline", err, wasmatrix.CodeTimeout, wasmatrix.OutcomeCommitted)
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("the server gave up after %s", took)
	}
}

func TestAStrictStartNamesWhatIsMissing(t *testing.T) {
	all := importing(abi.HTTPOpen, abi.KVGet, abi.KVSet, abi.InputLen)
	grants := map[string]*api.CapabilityGrant{
		"kv":        {CapabilityId: "k", Type: "kv", Permissions: []string{"kv:read"}},
		"http":      {CapabilityId: "h", Type: "http", Permissions: []string{"http:request"}},
		"messaging": {CapabilityId: "m", Type: "messaging", Permissions: []string{"msg:publish"}},
	}
	for _, tt := range []struct {
		name    string
		module  []byte
		given   []string
		missing string
	}{
		{"nothing needed", importing(abi.InputLen), nil, ""},
		{"nothing given", all, nil, "http,kv"},
		{"another given", all, []string{"messaging"}, "http,kv"},
		{"one given", all, []string{"kv"}, "http"},
		{"all given", all, []string{"kv", "http"}, ""},
		{"messaging", importing(abi.MsgReceive), nil, "messaging"},
	} {
		for _, how := range []string{"bytes", "bytes without inspection", "digest", "name"} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				var configure []func(*rpc.Config)
				if how == "bytes" {
					configure = append(configure, inspect)
				}
				c := newCluster(t, 2, configure...)
				addNode(t, c, "n1", "127.0.0.1:1")
				cl := c.Client(once, 1)
				req := &api.StartInstanceRequest{InstanceId: "i", Strict: true}
				digest := wasmatrix.DigestOf(tt.module)
				switch how {
				case "digest", "name":
					if _, err := cl.PushModule(t.Context(), client.Push{Bytes: bytes.NewReader(tt.module), Size: int64(len(tt.module)), Name: "m"}); err != nil {
						t.Fatal(err)
					}
					req.Module = &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest.String()}
					if how == "name" {
						req.Module = &api.StartInstanceRequest_ModuleName{ModuleName: "m"}
					}
				default:
					req.Module = &api.StartInstanceRequest_ModuleBytes{ModuleBytes: tt.module}
				}
				for _, typ := range tt.given {
					req.Capabilities = append(req.Capabilities, grants[typ])
				}
				_, err := cl.Instances.StartInstance(t.Context(), req)
				snap := c.Servers[0].Machine.Snapshot()
				if tt.missing == "" {
					if err != nil {
						t.Fatal(err)
					}
					q, err := cl.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{InstanceId: "i"})
					if want := slices.Sorted(slices.Values(tt.given)); err != nil || !slices.Equal(q.Needs, want) {
						t.Errorf("it needs %v, %v; want %v", q.GetNeeds(), err, want)
					}
					return
				}
				wantCode(t, "start", err, wasmatrix.CodeValidation, "")
				if d := wasmatrix.AsError(err).Details; d["missing"] != tt.missing || d[wasmatrix.DetailField] != "strict" {
					t.Errorf("details %v, want missing %s", d, tt.missing)
				}
				if snap.InstanceCount() != 0 {
					t.Error("it was started")
				}
				if _, stored := snap.Module(digest); how == "bytes" && (stored || c.Modules.Has(digest)) {
					t.Error("its bytes were stored")
				}
				// Without strictness it starts, and says what it needs.
				req.Strict = false
				if _, err := cl.Instances.StartInstance(t.Context(), req); err != nil {
					t.Fatal(err)
				}
				q, err := cl.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{InstanceId: "i"})
				if err != nil || len(q.Needs) == 0 {
					t.Errorf("it needs %v, %v", q.GetNeeds(), err)
				}
			})
		}
	}
}

// controlOf is a node's way to servers, without patience.
func controlOf(t *testing.T, servers ...*rpctest.Server) *client.Control {
	t.Helper()
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr)
	}
	k := client.NewControl(client.ControlConfig{Servers: func() []string { return addrs }, RetryFor: -1, Timeout: 10 * time.Second, Transport: newTransport(t)})
	t.Cleanup(k.Close)
	return k
}

func TestDenialsBecomeFactsOnce(t *testing.T) {
	c, cl := watchCluster(t, 2)
	start(t, cl, "a1")
	k := controlOf(t, c.Servers[1])
	denials := []wasmatrix.Denial{
		{Instance: "a1", Epoch: 1, Capability: "c", Operation: "kv.set", Reason: "not allowed", At: 5, Count: 3},
		{Instance: "a1", Epoch: 1, Capability: "\xff", Operation: "kv.get", Reason: "no such \xfe", At: 6, Count: 1},
	}
	for range 2 {
		if err := k.ReportDenials(t.Context(), "n1", "boot", 1, denials); err != nil {
			t.Fatal(err)
		}
	}
	events, err := cl.Events.ListEvents(t.Context(), &api.ListEventsRequest{Filter: &api.EventFilter{InstanceId: "a1", Kinds: []string{"denied"}}})
	if err != nil || len(events.Events) != 2 {
		t.Errorf("facts %v, %v", events.GetEvents(), err)
	}
	if err := k.ReportDenials(t.Context(), "n1", "boot", 2, denials[:1]); err != nil {
		t.Fatal(err)
	}
	err = k.ReportDenials(t.Context(), "n1", "boot", 0, denials)
	wantCode(t, "without a number", err, wasmatrix.CodeInvalidRequest, "")
	err = k.ReportDenials(t.Context(), "n1", "boot", 3, []wasmatrix.Denial{{}})
	wantCode(t, "of nobody", err, wasmatrix.CodeInvalidRequest, "")
}

// TestGrantsAreToldByEveryServer, once it has what is asked for.
func TestGrantsAreToldByEveryServer(t *testing.T) {
	c, cl := watchCluster(t, 2)
	start(t, cl, "a1")
	c.Servers[1].Hold()
	if _, err := cl.Capabilities.AssignCapability(t.Context(), &api.AssignCapabilityRequest{InstanceId: "a1", CapabilityId: "c", Type: "kv", Permissions: []string{"kv:read"}}); err != nil {
		t.Fatal(err)
	}
	snap := c.Servers[0].Machine.Snapshot()
	i, _ := snap.Instance("a1")
	want := wasmatrix.GrantsOf(snap, i)
	k := controlOf(t, c.Servers[1])
	c.SetLeader(-1) // no leader is needed
	old, err := k.Grants(t.Context(), "a1", 0)
	if err != nil || len(old.Assignments) != 0 || old.Incarnation != i.CreateIndex || old.Epoch != 1 {
		t.Errorf("what the server that lags has: %+v, %v", old, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = k.Grants(ctx, "a1", want.Index)
	wantCode(t, "within the deadline", err, wasmatrix.CodeTimeout, "")
	got := make(chan *wasmatrix.GrantSet)
	go func() {
		set, err := k.Grants(t.Context(), "a1", want.Index)
		if err != nil {
			t.Error(err)
		}
		got <- set
	}()
	select {
	case set := <-got:
		t.Errorf("before the state had it: %+v", set)
	case <-time.After(100 * time.Millisecond): // it could have been answered
	}
	c.Servers[1].Release()
	if set := <-got; set == nil || len(set.Assignments) != 1 || set.Assignments[0].CreateIndex != want.Assignments[0].CreateIndex || set.Index != want.Index || set.Epoch != want.Epoch {
		t.Errorf("got %+v, want %+v", set, want)
	}
	if set, err := k.Grants(t.Context(), "nobody", 0); err != nil || set != nil {
		t.Errorf("of what is not there: %+v, %v", set, err)
	}
	c.SetLeader(0)
	report(t, c, "n1", "a1", 1, wasmatrix.StatusStopped)
	if set, err := k.Grants(t.Context(), "a1", 0); err != nil || set != nil {
		t.Errorf("of what has stopped: %+v, %v", set, err)
	}
	_, err = k.Grants(t.Context(), "%", 0)
	wantCode(t, "of what cannot be", err, wasmatrix.CodeInvalidRequest, "")
	waiting := make(chan error, 1)
	go func() {
		_, err := k.Grants(t.Context(), "a1", 1<<40)
		waiting <- err
	}()
	time.AfterFunc(50*time.Millisecond, c.Servers[1].Stop)
	if err := <-waiting; err == nil {
		t.Error("a server that ended has answered")
	}
}

// TestFencesAreRaisedHere: who is asked does not pass it on.
func TestFencesAreRaisedHere(t *testing.T) {
	raised := make(chan []wasmatrix.Fence, 1)
	c := newCluster(t, 2, func(cfg *rpc.Config) { cfg.Fences = fences{cfg.Leadership, raised} })
	f := client.NewFences(newTransport(t))
	begun := time.Now()
	_, err := f.Raise(t.Context(), c.Servers[1].Addr, []wasmatrix.Fence{{Instance: "i", Incarnation: 1, Epoch: 2}})
	wantCode(t, "at the other server", err, wasmatrix.CodeNotLeader, "")
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %s to say so", took)
	}
	asked := []wasmatrix.Fence{{Instance: "i", Incarnation: 1, Epoch: 2}, {Instance: "k", Incarnation: 3, Epoch: 4}}
	inForce, err := f.Raise(t.Context(), c.Servers[0].Addr, asked)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-raised; !slices.Equal(got, asked) || len(raised) != 0 {
		t.Errorf("raised %v", got)
	}
	if want := []wasmatrix.Fence{asked[0], {Instance: "k", Incarnation: 3, Epoch: 5}}; !slices.Equal(inForce, want) {
		t.Errorf("in force are %v, want %v", inForce, want)
	}
}

type fences struct {
	rpc.Leadership
	raised chan []wasmatrix.Fence
}

func (f fences) Raise(_ context.Context, list []wasmatrix.Fence) ([]wasmatrix.Fence, error) {
	if _, self, _ := f.Leader(); !self {
		return nil, wasmatrix.Errorf(wasmatrix.CodeNotLeader, "not here")
	}
	f.raised <- list
	higher := slices.Clone(list) // the first is in force as asked for, the next is higher by one
	for n := range higher {
		higher[n].Epoch += uint64(n)
	}
	return higher, nil
}
