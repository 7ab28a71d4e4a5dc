package rpc_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// once makes a client that repeats nothing.
func once(cfg *client.Config) { cfg.RetryFor = -1 }

func TestAForwardedCallIsForwardedNoFurther(t *testing.T) {
	c := newCluster(t, 2)
	var hops atomic.Int32
	c.SetLeader(-1)
	c.Servers[0].Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		hops.Add(1)
		next.ServeHTTP(w, r)
	})
	for procedure, body := range map[string]string{
		"NodeService/DrainNode": `{"nodeId":"n1"}`, "NodeService/ListNodes": `{}`, "ClusterService/ListPeers": `{}`,
		// Refused before anything else is judged: its sender asks the leader again.
		"InstanceService/StartInstance": `{}`,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.Servers[0].Addr+"/wasmatrix.v1."+procedure, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(wire.HeaderForwarded, "somebody")
		before, start := hops.Load(), time.Now()
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, e := answerOf(t, res)
		if e == nil || e.Code != wasmatrix.CodeNoLeader && e.Code != wasmatrix.CodeNotLeader {
			t.Errorf("%s: %v", procedure, e)
		}
		if n := hops.Load() - before; n != 1 {
			t.Errorf("%s took %d hops", procedure, n)
		}
		if time.Since(start) > time.Second {
			t.Errorf("%s waited for a leader, which its sender does", procedure)
		}
	}
	// The same with a leader elsewhere: refused with a hint.
	c.SetLeader(1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.Servers[0].Addr+"/wasmatrix.v1.NodeService/DrainNode", strings.NewReader(`{"nodeId":"n1"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(wire.HeaderForwarded, "somebody")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, e := answerOf(t, res); e == nil || e.Code != wasmatrix.CodeNotLeader || e.Details[wasmatrix.DetailLeader] != c.Servers[1].Addr {
		t.Errorf("refused with %v, details %v", e, e.Details)
	}
}

func TestForwardingKeepsHeadersAndDeadline(t *testing.T) {
	c := newCluster(t, 2)
	addNode(t, c, "n1", "127.0.0.1:1")
	seen := make(chan http.Header, 1)
	c.Servers[0].Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		next.ServeHTTP(w, r)
	})
	for name, opts := range protocols {
		cl := c.Client(func(cfg *client.Config) { cfg.Options = opts; cfg.Timeout = -1 }, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		ctx, info := connect.NewClientContext(ctx)
		info.RequestHeader().Set("Authorization", "Bearer token")
		_, err := cl.Nodes.DrainNode(ctx, &api.DrainNodeRequest{NodeId: "n9"})
		cancel()
		if wasmatrix.CodeOf(err) != wasmatrix.CodeNodeNotFound {
			t.Errorf("%s: %v", name, err)
		}
		h := <-seen
		if h.Get("Authorization") != "Bearer token" || h.Get(wire.HeaderForwarded) == "" || h.Get("Connect-Timeout-Ms")+h.Get("Grpc-Timeout") == "" {
			t.Errorf("%s: the leader saw %v", name, h)
		}
	}
}

// TestCallsWaitForALeader: a failover is a short stall, not an error.
func TestCallsWaitForALeader(t *testing.T) {
	c := newCluster(t, 2)
	addNode(t, c, "n1", "127.0.0.1:1")
	for name, f := range map[string]func(*client.Client) error{
		"write": func(cl *client.Client) error {
			_, err := cl.Nodes.DrainNode(t.Context(), &api.DrainNodeRequest{NodeId: "n1", Drain: true})
			return err
		},
		"read": func(cl *client.Client) error {
			_, err := cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{})
			return err
		},
		"peers": func(cl *client.Client) error {
			_, err := cl.Cluster.ListPeers(t.Context(), &api.ListPeersRequest{})
			return err
		},
	} {
		for elected := range 2 { // the server that was asked, and the other
			t.Run(name, func(t *testing.T) {
				c.SetLeader(-1)
				arrived := make(chan struct{}, 10)
				c.Servers[1].Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
					arrived <- struct{}{}
					next.ServeHTTP(w, r)
				})
				failed := make(chan error, 1)
				go func() { failed <- f(c.Client(once, 1)) }()
				<-arrived
				select {
				case err := <-failed:
					t.Fatalf("without a leader: %v", err)
				case <-time.After(50 * time.Millisecond): // it could have failed by now, and waits
				}
				c.SetLeader(elected)
				if err := <-failed; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestNoLeaderIsSaidInTheEnd(t *testing.T) {
	c := newCluster(t, 1, func(cfg *rpc.Config) { cfg.LeaderWait = 50 * time.Millisecond })
	c.SetLeader(-1)
	cl := c.Client(once)
	_, err := cl.Nodes.DrainNode(t.Context(), &api.DrainNodeRequest{NodeId: "n1"})
	if wasmatrix.CodeOf(err) != wasmatrix.CodeNoLeader {
		t.Errorf("write: %v", err)
	}
	if _, err = cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{}); wasmatrix.CodeOf(err) != wasmatrix.CodeNoLeader {
		t.Errorf("read: %v", err)
	}
	if _, err = cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{Stale: true}); err != nil {
		t.Errorf("stale read: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err = cl.Nodes.ListNodes(ctx, &api.ListNodesRequest{}); wasmatrix.CodeOf(err) != wasmatrix.CodeTimeout {
		t.Errorf("with a deadline that passes first: %v", err)
	}
}

// TestTheDeadlineBoundsTheWaitForALeader, and what waited has had no effect.
func TestTheDeadlineBoundsTheWaitForALeader(t *testing.T) {
	c := newCluster(t, 1, func(cfg *rpc.Config) { cfg.LeaderWait = time.Hour })
	c.SetLeader(-1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.Servers[0].Addr+"/wasmatrix.v1.NodeService/DrainNode", strings.NewReader(`{"nodeId":"n1"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connect-Timeout-Ms", "50")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, e := answerOf(t, res); e == nil || e.Code != wasmatrix.CodeTimeout || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeNone {
		t.Errorf("%v", e)
	}
}

// TestALeaderThatDiesLeavesTheOutcomeUnknown: the follower cannot know, and says so.
func TestALeaderThatDiesLeavesTheOutcomeUnknown(t *testing.T) {
	c := newCluster(t, 2)
	addNode(t, c, "n1", "127.0.0.1:1")
	var executed atomic.Int32
	c.Servers[0].Before(func(next http.Handler, _ http.ResponseWriter, r *http.Request) {
		executed.Add(1)
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
	_, e := call(t, c.Servers[1].Addr, "NodeService/DrainNode", `{"nodeId":"n1","drain":true}`)
	if e == nil || e.Code != wasmatrix.CodeCommunication || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown {
		t.Errorf("%v, details %v", e, e.Details)
	}
	if n, _ := c.Servers[0].Machine.Snapshot().Node("n1"); !n.Draining || executed.Load() != 1 {
		t.Errorf("the leader executed it %d times, draining: %t", executed.Load(), n.Draining)
	}
	// The same for a read is tried again, at the next leader.
	c.Servers[0].Before(func(_ http.Handler, _ http.ResponseWriter, _ *http.Request) {
		c.SetLeader(1)
		panic(http.ErrAbortHandler)
	})
	if _, e := call(t, c.Servers[1].Addr, "NodeService/ListNodes", `{}`); e != nil {
		t.Error(e)
	}
}

// TestADeadLeaderIsReplaced: where the leader cannot even be reached, nothing
// happened there, and the call waits for the next.
func TestADeadLeaderIsReplaced(t *testing.T) {
	c := newCluster(t, 2)
	addNode(t, c, "n1", "127.0.0.1:1")
	c.Servers[0].Stop()
	done := make(chan error, 1)
	go func() {
		_, err := c.Client(once, 1).Nodes.DrainNode(t.Context(), &api.DrainNodeRequest{NodeId: "n1", Drain: true})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("with the leader dead: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	c.SetLeader(1)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestALeaderThatStepsDownRefuses: the call that it refused goes to the next.
func TestALeaderThatStepsDownRefuses(t *testing.T) {
	c := newCluster(t, 2)
	addNode(t, c, "n1", "127.0.0.1:1")
	c.Servers[0].Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		c.SetLeader(1)
		next.ServeHTTP(w, r)
	})
	for name, opts := range protocols {
		c.SetLeader(0)
		cl := c.Client(func(cfg *client.Config) { cfg.Options = opts; cfg.RetryFor = -1 }, 1)
		if _, err := cl.Nodes.DrainNode(t.Context(), &api.DrainNodeRequest{NodeId: "n1", Drain: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.SetLeader(0)
		if _, err := cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{}); err != nil {
			t.Errorf("%s, read: %v", name, err)
		}
	}
	// Asked directly, it passes the call on itself.
	c.SetLeader(0)
	if _, err := c.Client(once, 0).Nodes.DrainNode(t.Context(), &api.DrainNodeRequest{NodeId: "n1"}); err != nil {
		t.Error(err)
	}
}

func TestStaleReadsStayHere(t *testing.T) {
	c := newCluster(t, 2)
	c.Servers[1].Hold()
	addNode(t, c, "n1", "127.0.0.1:1")
	cl := c.Client(once, 1)
	stale, err := cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{Stale: true})
	if err != nil || len(stale.Nodes) != 0 {
		t.Errorf("the lagging follower has %v, %v", stale, err)
	}
	fresh, err := cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{})
	if err != nil || len(fresh.Nodes) != 1 {
		t.Errorf("a linearizable read has %v, %v", fresh, err)
	}
	c.Servers[1].Release()
}

// TestAPanicIsAnError sees that the client gets a code, and not the reason.
func TestAPanicIsAnError(t *testing.T) {
	c := newCluster(t, 1, func(cfg *rpc.Config) { cfg.Log = panicking{cfg.Log} })
	for name, opts := range protocols {
		cl := c.Client(func(cfg *client.Config) { cfg.Options = opts; cfg.RetryFor = -1 })
		_, err := cl.Nodes.ListNodes(t.Context(), &api.ListNodesRequest{})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeInternal || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type panicking struct{ rpc.Log }

func (panicking) Read(context.Context) error { panic("a secret") }

// TestAuthenticationIsAtOneGate covers unary calls and streams, here and forwarded.
func TestAuthenticationIsAtOneGate(t *testing.T) {
	c := newCluster(t, 2, func(cfg *rpc.Config) {
		cfg.Authenticate = func(ctx context.Context, _ string, h http.Header) (context.Context, error) {
			if h.Get("Authorization") != "Bearer token" {
				return nil, wasmatrix.Errorf(wasmatrix.CodeUnauthenticated, "no token")
			}
			return ctx, nil
		}
	})
	addNode(t, c, "n1", "127.0.0.1:1")
	for name, opts := range protocols {
		cl := c.Client(func(cfg *client.Config) { cfg.Options = opts; cfg.RetryFor = -1 }, 1)
		drain := func(ctx context.Context) error {
			_, err := cl.Nodes.DrainNode(ctx, &api.DrainNodeRequest{NodeId: "n1"})
			return err
		}
		watch := func(ctx context.Context) error {
			s, err := cl.Events.WatchEvents(ctx, &api.WatchEventsRequest{})
			if err != nil {
				return err
			}
			defer s.Close()
			s.Receive()
			return s.Err()
		}
		for what, f := range map[string]func(context.Context) error{"drain": drain, "watch": watch} {
			if err := f(t.Context()); wasmatrix.CodeOf(err) != wasmatrix.CodeUnauthenticated {
				t.Errorf("%s, %s without a token: %v", name, what, err)
			}
			ctx, info := connect.NewClientContext(t.Context())
			info.RequestHeader().Set("Authorization", "Bearer token")
			if err := f(ctx); err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}
