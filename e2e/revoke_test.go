package e2e

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

const (
	revokeRounds = 100
	// settle is for how long nothing may come after a revocation has answered: a
	// guest that may still call does so within a millisecond.
	settle = 20 * time.Millisecond
)

// TestRevokeUnderLoad takes capabilities away from a guest that calls in a tight
// loop, a hundred times (I7): after the answer no write changes what another instance
// reads, and no request is sent to a server outside the cluster, by its clock.
func TestRevokeUnderLoad(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	allowLoopback(t, cl)
	rec := newRecorder(t, nil)
	reader := startProbe(t, c, cl, "reader", withCaps(shared(grant("kv", "kv", "kv:read"), "hot")))
	startGuest(t, c, cl, "hammer", harness.Wasm(t, probePkg, false), func(r *api.StartInstanceRequest) {
		r.Args = []string{"all", "kv", "k", "http", rec.URL}
	})
	value := func() int {
		r, err := reader.call(t.Context(), probeRequest{Op: "kv.get", Cap: "kv", Key: "k"})
		if err != nil {
			t.Fatal(err)
		}
		if r.Code == -int32(abi.ErrNotFound) {
			return -1
		}
		n, err := strconv.Atoi(r.Value)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		return n
	}
	assign := func(id, typ string, permissions ...string) {
		t.Helper()
		req := &api.AssignCapabilityRequest{InstanceId: "hammer", CapabilityId: id, Type: typ, Permissions: permissions}
		if typ == "kv" {
			req.Namespace = "hot"
		}
		if _, err := cl.Capabilities.AssignCapability(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	lates := 0
	for round := range revokeRounds {
		before, written := len(rec.arrivals()), value()
		assign("kv", "kv", "kv:write")
		assign("http", "http", "http:request")
		rec.await(t, before)
		harness.Eventually(t, "a write", func(context.Context) error {
			if value() == written {
				return context.DeadlineExceeded
			}
			return nil
		})
		var wg sync.WaitGroup
		answered := make(map[string]time.Time)
		var mu sync.Mutex
		for _, id := range []string{"kv", "http"} {
			wg.Go(func() {
				if _, err := cl.Capabilities.RevokeCapability(t.Context(), &api.RevokeCapabilityRequest{InstanceId: "hammer", CapabilityId: id}); err != nil {
					t.Errorf("round %d: revoking %s: %v", round, id, err)
				}
				mu.Lock()
				answered[id] = time.Now()
				mu.Unlock()
			})
		}
		wg.Wait()
		left := value()
		time.Sleep(settle)
		if now := value(); now != left {
			t.Fatalf("round %d: after the revocation the value went from %d to %d", round, left, now)
		}
		// The guest makes one request at a time. One that was sent before, and that the
		// server only had to read, may be noted after; another was begun after.
		late := 0
		for _, a := range rec.arrivals()[before:] {
			if a.at.After(answered["http"]) {
				late++
			}
		}
		if late > 1 {
			t.Fatalf("round %d: %d requests came after the revocation", round, late)
		}
		lates += late
	}
	if in := c.AwaitStatus(cl, "hammer", api.InstanceStatus_INSTANCE_STATUS_RUNNING); in.GetRestarts() != 0 {
		t.Errorf("the guest was restarted %d times", in.GetRestarts())
	}
	t.Logf("%d requests in %d rounds, of which %d were sent before a revocation and read after", len(rec.arrivals()), revokeRounds, lates)
}

// TestRevokeWhileCutOff takes a capability away while the guest's node is cut off
// by the network, and the guest goes on calling. The answer is TIMEOUT, with the
// node, where it is not waited for; or comes when the node's lease is over, and
// after it nothing more (I7).
func TestRevokeWhileCutOff(t *testing.T) {
	cell, err := harness.NewCell(t)
	if err != nil {
		t.Skipf("this machine gives tests no network of their own: %v", err)
	}
	c := harness.New(t, harness.Options{Servers: 3, Host: cell.Outside})
	n := c.AddNodeIn(cell)
	for _, a := range c.Agents() {
		a.Start()
	}
	c.WaitReady()
	cl := c.Client()
	allowLoopback(t, cl)
	l, err := cell.Listen()
	if err != nil {
		t.Fatal(err)
	}
	rec := newRecorder(t, l)
	startGuest(t, c, cl, "hammer", harness.Wasm(t, probePkg, false), withCaps(grant("http", "http", "http:request")), func(r *api.StartInstanceRequest) {
		r.Args = []string{"http", "http", rec.URL}
	})
	rec.await(t, 10)
	cell.Cut()
	cut := time.Now()
	revoke := func(timeout time.Duration) error {
		_, err := cl.Capabilities.RevokeCapability(t.Context(), &api.RevokeCapabilityRequest{
			RequestId: "take-it-away", InstanceId: "hammer", CapabilityId: "http", Timeout: durationpb.New(timeout),
		})
		return err
	}
	err = revoke(500 * time.Millisecond)
	e := wasmatrix.AsError(err)
	if e == nil || e.Code != wasmatrix.CodeTimeout || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeCommitted || e.Details["node"] != n.Name {
		t.Fatalf("with little patience the answer is %v", err)
	}
	rec.await(t, len(rec.arrivals())) // the guest goes on meanwhile
	if err := revoke(30 * time.Second); err != nil {
		t.Fatalf("asked again: %v", err)
	}
	answered := time.Now()
	time.Sleep(time.Second)
	var last time.Time
	for _, a := range rec.arrivals() {
		last = a.at
	}
	if last.After(answered) {
		t.Fatalf("a request came %s after the revocation", last.Sub(answered))
	}
	if last.Before(cut) {
		t.Fatal("no request came after the node was cut off: nothing was shown")
	}
	t.Logf("cut off, the guest called for %s, and the revocation answered after %s", last.Sub(cut), answered.Sub(cut))

	cell.Heal()
	c.AwaitNode(n, "up")
	time.Sleep(settle)
	if all := rec.arrivals(); all[len(all)-1].at.After(answered) {
		t.Fatal("back in the network the guest calls again")
	}
}
