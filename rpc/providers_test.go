package rpc_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
)

func TestProviders(t *testing.T) {
	c, cl := watchCluster(t, 2)
	ctx := t.Context()
	start(t, cl, "a1")
	list := func() map[string]*api.Provider {
		t.Helper()
		res, err := cl.Providers.ListProviders(ctx, &api.ListProvidersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[string]*api.Provider)
		for _, p := range res.Providers {
			out[p.ProviderId] = p
		}
		return out
	}
	if names := slices.Sorted(maps.Keys(list())); !slices.Equal(names, []string{"http", "kv", "messaging"}) {
		t.Errorf("at first there are %v", names)
	}
	made := &api.StartProviderRequest{
		RequestId: "r1", ProviderId: "cache", Type: "kv", Config: map[string]string{"url": "redis://user:secret@h:6379"}, Constraints: []string{"zone=a"},
	}
	for range 2 { // the same request is answered again
		res, err := cl.Providers.StartProvider(ctx, made)
		if err != nil || res.Provider.Revision != 1 || res.Provider.Stopped || res.Provider.CreateIndex == 0 {
			t.Fatalf("started %v, %v", res.GetProvider(), err)
		}
		if url := res.Provider.Config["url"]; url != "redis://user:xxxxx@h:6379" {
			t.Errorf("users are shown %q", url)
		}
	}
	if p, _ := c.Servers[1].Machine.Snapshot().Provider("cache"); p.Config["url"] != "redis://user:secret@h:6379" {
		t.Errorf("recorded is %v", p.Config)
	}
	startAgain := func(f func(*api.StartProviderRequest)) error {
		m := &api.StartProviderRequest{ProviderId: "cache", Type: "kv", Config: made.Config, Constraints: made.Constraints}
		f(m)
		_, err := cl.Providers.StartProvider(ctx, m)
		return err
	}
	for what, f := range map[string]func(*api.StartProviderRequest){
		"type":        func(m *api.StartProviderRequest) { m.Type = "http" },
		"config":      func(m *api.StartProviderRequest) { m.Config = map[string]string{"max_keys": "7"} },
		"constraints": func(m *api.StartProviderRequest) { m.Constraints = []string{"zone=b"} },
	} {
		err := startAgain(f)
		wantCode(t, "another "+what, err, wasmatrix.CodeConflict, "")
		if got := wasmatrix.AsError(err).Details[wasmatrix.DetailField]; got != what {
			t.Errorf("the field is %q, not %q", got, what)
		}
	}
	stopped, err := cl.Providers.StopProvider(ctx, &api.StopProviderRequest{ProviderId: "cache"})
	if err != nil || !stopped.Provider.Stopped || stopped.Provider.Revision != 2 {
		t.Fatalf("stopped %v, %v", stopped, err)
	}
	if stopped, err = cl.Providers.StopProvider(ctx, &api.StopProviderRequest{ProviderId: "cache"}); err != nil || stopped.Provider.Revision != 2 {
		t.Errorf("stopped again %v, %v", stopped, err)
	}
	for what, f := range map[string]func(*api.StartProviderRequest){
		"all the same":  func(*api.StartProviderRequest) {},
		"the rest left": func(m *api.StartProviderRequest) { m.Type, m.Config, m.Constraints = "", nil, nil },
	} {
		if _, err := cl.Providers.StopProvider(ctx, &api.StopProviderRequest{ProviderId: "cache"}); err != nil {
			t.Fatal(err)
		}
		if err := startAgain(f); err != nil || list()["cache"].Stopped {
			t.Errorf("%s: %v, %v", what, list()["cache"], err)
		}
	}
	revision := list()["cache"].Revision
	_, err = cl.Providers.UpdateProvider(ctx, &api.UpdateProviderRequest{ProviderId: "cache", Everywhere: true, Revision: new(revision - 1)})
	wantCode(t, "an update of an older revision", err, wasmatrix.CodeConflict, "")
	_, err = cl.Providers.UpdateProvider(ctx, &api.UpdateProviderRequest{ProviderId: "cache", Config: map[string]string{"nonsense": "x"}})
	wantCode(t, "an unknown key", err, wasmatrix.CodeValidation, "")
	if field := wasmatrix.AsError(err).Details[wasmatrix.DetailField]; field != "config.nonsense" {
		t.Errorf("the field is %q", field)
	}
	for _, at := range []*uint64{&revision, nil} {
		updated, err := cl.Providers.UpdateProvider(ctx, &api.UpdateProviderRequest{ProviderId: "cache", Config: map[string]string{"max_keys": "9"}, Revision: at})
		if p := updated.GetProvider(); err != nil || p.GetConfig()["max_keys"] != "9" || !slices.Equal(p.GetConstraints(), []string{"zone=a"}) || p.GetRevision() <= revision {
			t.Errorf("updated %v, %v", p, err)
		}
	}
	// What is not named stays, with the password that nobody is shown.
	if p, _ := c.Servers[1].Machine.Snapshot().Provider("cache"); p.Config["url"] != "redis://user:secret@h:6379" {
		t.Errorf("after an update of another key there is %v", p.Config)
	}
	updated, err := cl.Providers.UpdateProvider(ctx, &api.UpdateProviderRequest{ProviderId: "cache", Unset: []string{"url"}, Everywhere: true})
	if p := updated.GetProvider(); err != nil || len(p.GetConfig()) != 1 || len(p.GetConstraints()) != 0 {
		t.Errorf("updated %v, %v", p, err)
	}
	if _, err := cl.Capabilities.AssignCapability(ctx, &api.AssignCapabilityRequest{InstanceId: "a1", CapabilityId: "c", Type: "kv", Permissions: []string{"kv:read"}, Provider: "cache"}); err != nil {
		t.Fatal(err)
	}
	got, err := cl.Providers.GetProvider(ctx, &api.GetProviderRequest{ProviderId: "cache"})
	if err != nil || got.Assignments != 1 || !slices.Equal(got.Nodes, []string{"n1"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := cl.Providers.UpdateProvider(ctx, &api.UpdateProviderRequest{ProviderId: "cache", Constraints: []string{"node!=n1"}}); err != nil {
		t.Fatal(err)
	}
	if got, err = cl.Providers.GetProvider(ctx, &api.GetProviderRequest{ProviderId: "cache"}); err != nil || len(got.Nodes) != 0 {
		t.Errorf("hosted by %v, %v", got.GetNodes(), err)
	}
	_, err = cl.Providers.RemoveProvider(ctx, &api.RemoveProviderRequest{ProviderId: "cache"})
	wantCode(t, "removing what runs", err, wasmatrix.CodeConflict, "")
	report(t, c, "n1", "a1", 1, wasmatrix.StatusStopped)
	if got, err = cl.Providers.GetProvider(ctx, &api.GetProviderRequest{ProviderId: "cache"}); err != nil || got.Assignments != 0 {
		t.Errorf("used by %d, %v", got.GetAssignments(), err)
	}
	if _, err := cl.Providers.StopProvider(ctx, &api.StopProviderRequest{ProviderId: "cache"}); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Providers.RemoveProvider(ctx, &api.RemoveProviderRequest{ProviderId: "cache"}); err != nil {
		t.Fatal(err)
	}
	if _, there := list()["cache"]; there {
		t.Error("it is still there")
	}
	// A default one has a record once it is changed, and returns to what it was.
	if res, err := cl.Providers.StopProvider(ctx, &api.StopProviderRequest{ProviderId: "kv"}); err != nil || !res.Provider.Stopped || res.Provider.Type != "kv" {
		t.Fatalf("stopped kv: %v, %v", res, err)
	}
	if got, err = cl.Providers.GetProvider(ctx, &api.GetProviderRequest{ProviderId: "kv"}); err != nil || !got.Provider.Stopped || len(got.Nodes) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := cl.Providers.RemoveProvider(ctx, &api.RemoveProviderRequest{ProviderId: "kv"}); err != nil {
		t.Fatal(err)
	}
	if p := list()["kv"]; p == nil || p.Stopped || p.Revision != 0 {
		t.Errorf("kv is %v", p)
	}
}

// gathering has the first so many proposals wait for one another: each was made of what
// the state was before any of them.
type gathering struct {
	rpc.Log
	left atomic.Int64
	all  chan struct{}
}

func (g *gathering) Propose(ctx context.Context, cmd wasmatrix.Command) (any, error) {
	if g.left.Add(-1) == 0 {
		close(g.all)
	}
	<-g.all
	return g.Log.Propose(ctx, cmd)
}

// TestProvidersAreChangedByManyAtOnce: of those who make one at the same time one
// succeeds, and changes of different keys are all there in the end, also of a default
// one that has no record yet.
func TestProvidersAreChangedByManyAtOnce(t *testing.T) {
	keys := []string{"max_keys", "max_bytes", "max_value"}
	var made [16]error
	log := &gathering{all: make(chan struct{})}
	c := newCluster(t, 1, func(cfg *rpc.Config) { log.Log, cfg.Log = cfg.Log, log })
	cl := c.Client(once)
	log.left.Store(int64(len(made) + len(keys)))
	var wg sync.WaitGroup
	for i := range made {
		wg.Go(func() {
			_, made[i] = cl.Providers.StartProvider(t.Context(), &api.StartProviderRequest{
				ProviderId: "mine", Type: "kv", Config: map[string]string{"max_keys": strconv.Itoa(i + 1)},
			})
		})
	}
	for i, key := range keys {
		wg.Go(func() {
			if _, err := cl.Providers.UpdateProvider(t.Context(), &api.UpdateProviderRequest{ProviderId: "kv", Config: map[string]string{key: strconv.Itoa(i + 1)}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := cl.Providers.GetProvider(t.Context(), &api.GetProviderRequest{ProviderId: "mine"})
	if err != nil || got.Provider.Revision != 1 {
		t.Errorf("made is %v, %v", got.GetProvider(), err)
	}
	won := 0
	for i, err := range made {
		switch {
		case err == nil && got.GetProvider().GetConfig()["max_keys"] == strconv.Itoa(i+1):
			won++
		case wasmatrix.CodeOf(err) != wasmatrix.CodeConflict:
			t.Errorf("who made one with %d keys was told %v", i+1, err)
		}
	}
	if won != 1 {
		t.Errorf("%d have made what is there", won)
	}
	if got, err = cl.Providers.GetProvider(t.Context(), &api.GetProviderRequest{ProviderId: "kv"}); err != nil || len(got.Provider.Config) != len(keys) || got.Provider.Revision != uint64(len(keys)) {
		t.Errorf("kv is %v, %v", got.GetProvider(), err)
	}
}
