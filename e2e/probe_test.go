package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

const probePkg = "e2e/testdata/probe"

// probe is an instance of testdata/probe, a reactor that calls the host as it is
// told to.
type probe struct {
	cl *client.Client
	id string
}

// probeRequest and probeReply are what testdata/probe takes and gives.
type probeRequest struct {
	Op, Cap, Key, Value string
	Expect              uint64
	TTL                 int64 // milliseconds
	After               string
	Limit               int32
	URL                 string
	Topic, Group        string
	Mode, Handle        int32
	Wait                int64 // milliseconds
	Buffer              int
}

type probeReply struct {
	Code     int32
	Error    string
	Value    string
	Revision uint64
	Keys     []string
	More     bool
	Status   int32
	Existed  bool
	Handle   int32
	Topic    string
	Dropped  uint32
}

// err is the reply's failure as an error, nil where it has none.
func (r probeReply) err() error {
	if r.Code >= 0 {
		return nil
	}
	return probeError{abi.Error(-r.Code), r.Error}
}

type probeError struct {
	code    abi.Error
	message string
}

func (e probeError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.message) }

// call has the guest call the host. The error is one of the invocation: the
// guest's own is in the reply.
func (p probe) call(ctx context.Context, q probeRequest) (probeReply, error) {
	in, err := json.Marshal(q)
	if err != nil {
		return probeReply{}, err
	}
	res, err := invokeFunction(ctx, p.cl, p.id, "do", callTimeout, in)
	if err != nil {
		return probeReply{}, err
	}
	var r probeReply
	if err := json.Unmarshal(res.GetData(), &r); err != nil {
		return probeReply{}, fmt.Errorf("%q: %w", res.GetData(), err)
	}
	return r, nil
}

// must is call, where nothing fails but with the given error of the ABI, 0 for none.
func (p probe) must(t *testing.T, q probeRequest, want abi.Error) probeReply {
	t.Helper()
	r, err := p.call(t.Context(), q)
	if err != nil {
		t.Fatalf("%s %+v: %v", p.id, q, err)
	}
	if r.Code > 0 {
		r.Code = 0
	}
	if r.Code != -int32(want) {
		t.Fatalf("%s %+v gives %d (%s), want %d", p.id, q, r.Code, r.Error, -want)
	}
	return r
}

// grant writes an assignment for a start request.
func grant(id, typ string, permissions ...string) *api.CapabilityGrant {
	return &api.CapabilityGrant{CapabilityId: id, Type: typ, Permissions: permissions}
}

func shared(g *api.CapabilityGrant, namespace string) *api.CapabilityGrant {
	g.Namespace = namespace
	return g
}

// everythingGranted is all of all providers, under the IDs kv, http and msg, with
// kv in a namespace.
func everythingGranted(namespace string) []*api.CapabilityGrant {
	return []*api.CapabilityGrant{
		shared(grant("kv", "kv", "kv:read", "kv:write", "kv:delete"), namespace),
		grant("http", "http", "http:request"), grant("msg", "messaging", "msg:publish", "msg:subscribe"),
	}
}

// startProbe starts a reactor of testdata/probe and waits until it runs.
func startProbe(t *testing.T, c *harness.Cluster, cl *client.Client, id string, change ...func(*api.StartInstanceRequest)) probe {
	t.Helper()
	startGuest(t, c, cl, id, harness.Wasm(t, probePkg, true), change...)
	return probe{cl: cl, id: id}
}

// startGuest starts a module file under an ID and waits until it runs.
func startGuest(t *testing.T, c *harness.Cluster, cl *client.Client, id, path string, change ...func(*api.StartInstanceRequest)) {
	t.Helper()
	digest, err := harness.Push(t.Context(), cl, path)
	if err != nil {
		t.Fatal(err)
	}
	req := &api.StartInstanceRequest{InstanceId: id, Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest}}
	for _, f := range change {
		f(req)
	}
	if _, err := cl.Instances.StartInstance(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_RUNNING)
}

func withCaps(caps ...*api.CapabilityGrant) func(*api.StartInstanceRequest) {
	return func(r *api.StartInstanceRequest) { r.Capabilities = caps }
}

// always restarts an instance whatever ends it, at once.
func always(r *api.StartInstanceRequest) {
	r.Restart = &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ALWAYS, Backoff: &api.Backoff{Multiplier: 1}}
}

func onNode(name string) func(*api.StartInstanceRequest) {
	return func(r *api.StartInstanceRequest) { r.Constraints = []string{"node=" + name} }
}

// recorder is an HTTP server outside the cluster that notes when requests come,
// and from which epoch where that is said.
type recorder struct {
	URL string // ends with a slash

	mu   sync.Mutex
	seen []arrival
}

type arrival struct {
	at       time.Time
	path     string
	instance string
	epoch    string
}

func newRecorder(t *testing.T, l net.Listener) *recorder {
	t.Helper()
	r := &recorder{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	if l != nil {
		_ = srv.Listener.Close()
		srv.Listener = l
	}
	srv.Start()
	t.Cleanup(srv.Close)
	r.URL = srv.URL + "/"
	return r
}

func (r *recorder) serve(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.seen = append(r.seen, arrival{time.Now(), q.URL.Path, q.Header.Get("Wasmatrix-Instance"), q.Header.Get("Wasmatrix-Epoch")})
	r.mu.Unlock()
	_, _ = w.Write([]byte("noted"))
}

func (r *recorder) arrivals() []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]arrival(nil), r.seen...)
}

// await waits until more than n requests have come.
func (r *recorder) await(t *testing.T, n int) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("more than %d requests", n), func(context.Context) error {
		if got := len(r.arrivals()); got <= n {
			return fmt.Errorf("%d have come", got)
		}
		return nil
	})
}

// allowLoopback lets the default http provider reach this machine, and has it say
// on whose behalf.
func allowLoopback(t *testing.T, cl *client.Client) {
	t.Helper()
	if _, err := cl.Providers.UpdateProvider(t.Context(), &api.UpdateProviderRequest{
		ProviderId: "http", Config: map[string]string{"allow_addresses": "127.0.0.0/8", "send_identity": "true"},
	}); err != nil {
		t.Fatal(err)
	}
}
