package client_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type machine struct{ *fsm.FSM }

func (machine) Restored() <-chan struct{} { return nil }

func newMachine() rpctest.Machine { return machine{fsm.New(fsm.Options{})} }

func (m machine) Snapshot() wasmatrix.Snapshot { return m.State() }

func (m machine) Apply(index uint64, cmd wasmatrix.Command) any {
	b, err := fsm.Encode(cmd)
	if err != nil {
		return err
	}
	return m.FSM.Apply(index, b)
}

var wasm = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

// newCluster starts servers with node n1 and module m.
func newCluster(t *testing.T, n int) *rpctest.Cluster {
	c := rpctest.New(t, n, newMachine)
	for _, cmd := range []wasmatrix.Command{
		wasmatrix.RegisterNode{At: 2, Registration: wasmatrix.Registration{
			ID: "n1", Boot: "b", Addr: "127.0.0.1:1", Capacity: wasmatrix.Capacity{Memory: 1 << 40, Instances: 1000},
		}},
		wasmatrix.AddModule{At: 2, Name: "m", Module: &wasmatrix.Module{Digest: c.Modules.Put(wasm), Size: 8, Kind: wasmatrix.ModuleReactor}},
	} {
		if _, err := c.Servers[0].Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// dropAnswers has s execute the first n requests of a procedure and break off
// instead of answering.
func dropAnswers(s *rpctest.Server, procedure string, n int32) *atomic.Int32 {
	var seen atomic.Int32
	s.Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, procedure) || seen.Add(1) > n {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(&discard{header: make(http.Header)}, r)
		panic(http.ErrAbortHandler)
	})
	return &seen
}

// discard is an answer that nobody gets.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) Flush()                      {}

func starting() *api.StartInstanceRequest {
	return &api.StartInstanceRequest{Module: &api.StartInstanceRequest_ModuleName{ModuleName: "m"}}
}

// TestEffectHappensOnce although the first answers are lost, through any server
// and in any protocol.
func TestEffectHappensOnce(t *testing.T) {
	for name, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "json": {connect.WithProtoJSON()}} {
		for via := range 2 {
			t.Run(name, func(t *testing.T) {
				c := newCluster(t, 2)
				cl := c.Client(func(cfg *client.Config) { cfg.Options = opts }, via)
				seen := dropAnswers(c.Servers[0], "/StartInstance", 2)
				req := starting()
				res, err := cl.Instances.StartInstance(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if n := c.Servers[0].Machine.Snapshot().InstanceCount(); n != 1 || seen.Load() != 3 {
					t.Errorf("%d instances after %d requests", n, seen.Load())
				}
				if !res.Duplicate || req.RequestId == "" {
					t.Errorf("answered %v, request ID %q", res, req.RequestId)
				}
				if _, ok := c.Servers[0].Machine.Snapshot().Instance(wasmatrix.InstanceID(res.InstanceId)); !ok {
					t.Errorf("the answer names %s, which does not exist", res.InstanceId)
				}
			})
		}
	}
}

// TestWithoutRequestIDNothingIsRepeated unless nothing can have happened.
func TestWithoutRequestIDNothingIsRepeated(t *testing.T) {
	c := newCluster(t, 2)
	cl := c.Client(nil)
	seen := dropAnswers(c.Servers[0], "/RemovePeer", 2)
	_, err := cl.Cluster.RemovePeer(t.Context(), &api.RemovePeerRequest{Server: "s"})
	e := wasmatrix.AsError(err)
	if e == nil || e.Code != wasmatrix.CodeCommunication || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown || seen.Load() != 1 {
		t.Errorf("%v after %d requests", err, seen.Load())
	}
	reads := dropAnswers(c.Servers[0], "/ListNodes", 2)
	if _, err := cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{}); err != nil || reads.Load() != 3 {
		t.Errorf("a read: %v after %d requests", err, reads.Load())
	}
	// A server that cannot be reached has done nothing.
	c.Servers[0].Stop()
	c.SetLeader(1)
	if _, err := cl.Cluster.RemovePeer(t.Context(), &api.RemovePeerRequest{Server: "s"}); err != nil {
		t.Error(err)
	}
}

func TestServersAreReplaced(t *testing.T) {
	c := newCluster(t, 3)
	cl := c.Client(nil)
	for i := range 3 {
		c.SetLeader(i)
		if i > 0 {
			c.Servers[i-1].Stop()
		}
		if _, err := cl.Instances.StartInstance(t.Context(), starting()); err != nil {
			t.Fatal(err)
		}
	}
	c.Servers[2].Stop()
	short := c.Client(func(cfg *client.Config) { cfg.RetryFor = 50 * time.Millisecond })
	if _, err := short.Instances.StartInstance(t.Context(), starting()); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
		t.Errorf("with nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cl.Instances.StartInstance(ctx, starting()); wasmatrix.CodeOf(err) != wasmatrix.CodeTimeout {
		t.Errorf("cancelled: %v", err)
	}
}

// TestFailuresForGoodAreNotRepeated counts requests.
func TestFailuresForGoodAreNotRepeated(t *testing.T) {
	c := newCluster(t, 1)
	var seen atomic.Int32
	c.Servers[0].Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		next.ServeHTTP(w, r)
	})
	_, err := c.Client(nil).Instances.StopInstance(t.Context(), &api.StopInstanceRequest{InstanceId: "nope"})
	if wasmatrix.CodeOf(err) != wasmatrix.CodeInstanceNotFound || seen.Load() != 1 {
		t.Errorf("%v after %d requests", err, seen.Load())
	}
}

// TestAHangingServerIsGivenUp after the time of one attempt.
func TestAHangingServerIsGivenUp(t *testing.T) {
	c := newCluster(t, 2)
	hang := make(chan struct{})
	c.SetLeader(1)
	c.Servers[0].Before(func(_ http.Handler, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	cl := c.Client(func(cfg *client.Config) { cfg.Timeout = 100 * time.Millisecond })
	if _, err := cl.Instances.StartInstance(t.Context(), starting()); err != nil {
		t.Error(err)
	}
	if n := c.Servers[1].Machine.Snapshot().InstanceCount(); n != 1 {
		t.Errorf("%d instances", n)
	}
}

// TestHintsAreFollowed: a server that does not forward names the leader.
func TestHintsAreFollowed(t *testing.T) {
	c := newCluster(t, 1)
	refusing := httptest.NewServer(refuser{leader: c.Servers[0].Addr})
	defer refusing.Close()
	cl, err := client.New(client.Config{Addrs: []string{refusing.URL}, Options: []connect.ClientOption{}, Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Instances.StartInstance(t.Context(), starting()); err != nil {
		t.Error(err)
	}
}

type refuser struct{ leader string }

func (r refuser) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	_, h := apiconnect.NewInstanceServiceHandler(notLeading{leader: r.leader})
	h.ServeHTTP(w, req)
}

type notLeading struct {
	apiconnect.UnimplementedInstanceServiceHandler
	leader string
}

func (n notLeading) StartInstance(context.Context, *api.StartInstanceRequest) (*api.StartInstanceResponse, error) {
	e := connect.NewError(connect.CodeUnavailable, wasmatrix.Errorf(wasmatrix.CodeNotLeader, "no"))
	d, err := connect.NewErrorDetail(&api.Error{Code: string(wasmatrix.CodeNotLeader), Message: "no", Details: map[string]string{wasmatrix.DetailLeader: n.leader}})
	if err != nil {
		return nil, err
	}
	e.AddDetail(d)
	return nil, e
}

func TestStreamsAreOpenedElsewhere(t *testing.T) {
	for name, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3)
			c.SetLeader(2)
			c.Servers[0].Stop()
			c.Servers[1].Before(func(http.Handler, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			cl := c.Client(func(cfg *client.Config) { cfg.Options = opts })
			s, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{From: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if !s.Receive() || len(s.Msg().Events) == 0 {
				t.Fatalf("no events: %v", s.Err())
			}
			// Once it has begun, its end is the caller's.
			c.Servers[2].Stop()
			for s.Receive() {
			}
			if err := s.Err(); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

func TestAStreamThatFailsForGoodIsNotRepeated(t *testing.T) {
	c := newCluster(t, 1)
	var seen atomic.Int32
	c.Servers[0].Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		next.ServeHTTP(w, r)
	})
	s, err := c.Client(nil).Instances.StreamLogs(t.Context(), &api.StreamLogsRequest{InstanceId: "nope"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Receive() || wasmatrix.CodeOf(s.Err()) != wasmatrix.CodeInstanceNotFound || seen.Load() != 1 {
		t.Errorf("%v after %d requests", s.Err(), seen.Load())
	}
}

// TestPushIsRepeatedFromTheStart where a server breaks off in between.
func TestPushIsRepeatedFromTheStart(t *testing.T) {
	c := newCluster(t, 2)
	var seen atomic.Int32
	c.Servers[0].Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) == 1 {
			_, _ = r.Body.Read(make([]byte, 100_000))
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
	b := append(slices.Clone(wasm), bytes.Repeat([]byte{1}, 600_000)...)
	var back bool
	last := int64(0)
	res, err := c.Client(nil, 0).PushModule(t.Context(), client.Push{Bytes: bytes.NewReader(b), Size: int64(len(b)), Progress: func(sent, total int64) {
		back = back || sent < last
		last = sent
		if total != int64(len(b)) {
			t.Errorf("of %d", total)
		}
	}})
	if err != nil || res.Module.SizeBytes != int64(len(b)) || seen.Load() != 2 || last != int64(len(b)) {
		t.Errorf("pushed %v, %v after %d requests, %d bytes", res, err, seen.Load(), last)
	}
	if _, err := c.Client(nil).PushModule(t.Context(), client.Push{Bytes: bytes.NewReader(nil), Size: 0}); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("an empty module: %v", err)
	}
	if _, err := c.Client(nil).PushModule(t.Context(), client.Push{Bytes: bytes.NewReader(b), Size: int64(len(b)), Digest: wasmatrix.Digest{1}}); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("another digest: %v", err)
	}
}

func TestControl(t *testing.T) {
	c := newCluster(t, 3)
	var asked atomic.Int32
	for _, s := range c.Servers[:2] {
		s.Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			next.ServeHTTP(w, r)
		})
	}
	c.SetLeader(2)
	servers := []string{c.Servers[0].Addr, c.Servers[1].Addr}
	k := client.NewControl(client.ControlConfig{Servers: func() []string { return servers }, Logger: hclog.NewNullLogger()})
	defer k.Close()
	r := wasmatrix.Registration{ID: "n2", Boot: "b", Addr: "127.0.0.1:2", Labels: map[string]string{"zone": "a"}, Capacity: wasmatrix.Capacity{Memory: 1 << 30, Instances: 10}}
	lease, err := k.Register(t.Context(), r)
	if err != nil || lease.TTL != int64(3*time.Second) || k.Cluster() != "test" {
		t.Fatalf("lease %+v, %v of cluster %q", lease, err, k.Cluster())
	}
	n := asked.Load()
	if lease, err = k.Renew(t.Context(), "n2", "b"); err != nil || lease.Resync {
		t.Errorf("renewed: %+v, %v", lease, err)
	}
	if asked.Load() != n {
		t.Error("it went to another server although it has seen who leads")
	}
	if lease, err = k.Renew(t.Context(), "n2", "other"); err != nil || !lease.Resync {
		t.Errorf("renewed by another process: %+v, %v", lease, err)
	}
	c.Servers[2].Stop()
	c.SetLeader(1)
	if lease, err = k.Renew(t.Context(), "n2", "b"); err != nil || lease.Resync {
		t.Errorf("renewed with another leader: %+v, %v", lease, err)
	}
	cl := c.Client(nil, 1)
	started, err := cl.Instances.StartInstance(t.Context(), starting())
	if err != nil {
		t.Fatal(err)
	}
	reports := []wasmatrix.Report{{Instance: wasmatrix.InstanceID(started.InstanceId), Epoch: 1, Attempt: 1, Seq: 1, Status: wasmatrix.StatusRunning}}
	for _, want := range []bool{true, false} {
		if applied, err := k.Report(t.Context(), "n1", "b", reports); err != nil || !slices.Equal(applied, []bool{want}) {
			t.Errorf("applied %v, %v", applied, err)
		}
	}
	stranger := client.NewControl(client.ControlConfig{Servers: func() []string { return servers }, Cluster: "other"})
	defer stranger.Close()
	if _, err := stranger.Register(t.Context(), r); wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
		t.Errorf("a node of another cluster: %v", err)
	}
	nobody := client.NewControl(client.ControlConfig{Servers: func() []string { return nil }})
	defer nobody.Close()
	if _, err := nobody.Renew(t.Context(), "n2", "b"); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
		t.Errorf("without servers: %v", err)
	}
}

func TestParseAddr(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a:7480", "a:1": "a:1", "http://a:1": "a:1", "http://a/": "a:7480", " 10.0.0.1 ": "10.0.0.1:7480", ":9": "127.0.0.1:9",
		"[::1]:5": "[::1]:5", "::1": "[::1]:7480", "http://[::1]:5": "[::1]:5",
		"": "", "https://a": "", "http://a/b": "", "a b": "", "a:b:c": "", "a:": "",
	} {
		got, err := client.ParseAddr(in)
		if got != want || (err == nil) != (want != "") || err != nil && wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := client.New(client.Config{}); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("no address: %v", err)
	}
}

// TestNothingListens says so at once.
func TestNothingListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cl, err := client.New(client.Config{Addrs: []string{l.Addr().String()}, RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	_, err = cl.Cluster.GetStatus(t.Context(), &api.GetStatusRequest{})
	if e := wasmatrix.AsError(err); e == nil || e.Code != wasmatrix.CodeCommunication || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeNone {
		t.Errorf("%v", err)
	}
}

func ExampleNew() {
	c, err := client.New(client.Config{Addrs: []string{"10.0.0.1:7480", "10.0.0.2:7480"}})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Instances.StartInstance(context.Background(), &api.StartInstanceRequest{
		Module: &api.StartInstanceRequest_ModuleName{ModuleName: "hello"},
		Count:  3,
	})
}
