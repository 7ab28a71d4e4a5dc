package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
)

// start starts one instance of module m.
func start(t testing.TB, cl *client.Client, id string) {
	t.Helper()
	if _, err := cl.Instances.StartInstance(t.Context(), &api.StartInstanceRequest{
		InstanceId: id, Labels: map[string]string{"app": id[:1]}, Module: &api.StartInstanceRequest_ModuleName{ModuleName: "m"},
		Restart: &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ALWAYS},
	}); err != nil {
		t.Fatal(err)
	}
}

func watchCluster(t *testing.T, n int, configure ...func(*rpc.Config)) (*rpctest.Cluster, *client.Client) {
	c := newCluster(t, n, configure...)
	addNode(t, c, "n1", "127.0.0.1:1")
	addModule(t, c, "m")
	return c, c.Client(once, n-1)
}

// stream is what both kinds of watch have.
type stream[T any] interface {
	Receive() bool
	Msg() *T
	Err() error
}

func receive[T any](t testing.TB, s stream[T]) *T {
	t.Helper()
	if !s.Receive() {
		t.Fatalf("the stream ended: %v", s.Err())
	}
	return s.Msg()
}

func TestWatchInstances(t *testing.T) {
	c, cl := watchCluster(t, 2)
	start(t, cl, "a1")
	start(t, cl, "a2")
	start(t, cl, "b1")
	w, err := cl.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{Selectors: []string{"app=a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, want := range []string{"a1", "a2"} {
		if m := receive(t, w); m.GetInstance().GetInstanceId() != want || m.Bookmark {
			t.Fatalf("listed %v, want %s", m, want)
		}
	}
	if m := receive(t, w); !m.Bookmark || m.Instance != nil || m.Index == 0 {
		t.Fatalf("%v is not a bookmark", m)
	}
	report(t, c, "n1", "b1", 1, wasmatrix.StatusRunning)
	report(t, c, "n1", "a2", 1, wasmatrix.StatusRunning)
	if m := receive(t, w); m.Instance.InstanceId != "a2" || m.Instance.Status != api.InstanceStatus_INSTANCE_STATUS_RUNNING {
		t.Fatalf("changed: %v", m)
	}
	start(t, cl, "a3")
	if m := receive(t, w); m.Instance.InstanceId != "a3" {
		t.Fatalf("new: %v", m)
	}
}

func TestWatchOneInstance(t *testing.T) {
	c, cl := watchCluster(t, 1)
	w, err := cl.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{InstanceId: "a1"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if m := receive(t, w); !m.Bookmark {
		t.Fatalf("there is none yet: %v", m)
	}
	start(t, cl, "b1")
	start(t, cl, "a1")
	if m := receive(t, w); m.Instance.InstanceId != "a1" {
		t.Fatalf("started: %v", m)
	}
	report(t, c, "n1", "a1", 1, wasmatrix.StatusStopped)
	if m := receive(t, w); m.Instance.Status != api.InstanceStatus_INSTANCE_STATUS_STOPPED {
		t.Fatalf("stopped: %v", m)
	}
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.CollectGarbage{At: wasmatrix.TimeOf(time.Now()), FinalBefore: wasmatrix.TimeOf(time.Now()), Limit: 10, MaxFinal: 100}); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, w); !m.Removed || m.Instance.InstanceId != "a1" {
		t.Fatalf("removed: %v", m)
	}
}

// TestWatchMissesNothing runs watches of both kinds against writers: the last
// that each watch saw of every instance is its last state.
func TestWatchMissesNothing(t *testing.T) {
	c, cl := watchCluster(t, 1)
	const n = 60
	w, err := cl.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{From: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := i; j < n; j += 4 {
				id := fmt.Sprintf("i%d", j)
				start(t, cl, id)
				report(t, c, "n1", wasmatrix.InstanceID(id), 1, wasmatrix.StatusRunning)
				report(t, c, "n1", wasmatrix.InstanceID(id), 2, wasmatrix.StatusStopped)
			}
		})
	}
	wg.Wait()
	_, last := c.Servers[0].Machine.Snapshot().FactRange()
	for next := uint64(1); next <= last; {
		m := receive(t, e)
		if m.Missed != 0 {
			t.Fatalf("missed %d", m.Missed)
		}
		for _, event := range m.Events {
			if event.Index != next {
				t.Fatalf("event %d came, want %d", event.Index, next)
			}
			next++
		}
		if m.Next != next {
			t.Fatalf("next is %d after event %d", m.Next, next-1)
		}
	}
	stopped := make(map[string]bool)
	for len(stopped) < n {
		if m := receive(t, w); m.GetInstance().GetStatus() == api.InstanceStatus_INSTANCE_STATUS_STOPPED {
			stopped[m.Instance.InstanceId] = true
		}
	}
}

func TestWatchEventsSaysWhatItMissed(t *testing.T) {
	c := rpctest.New(t, 1, func() rpctest.Machine { return machineOf(fsm.Options{MaxFacts: 10}) })
	for i := range 30 {
		addNode(t, c, wasmatrix.NodeID(fmt.Sprintf("n%d", i)), "127.0.0.1:1")
	}
	first, last := c.Servers[0].Machine.Snapshot().FactRange()
	if first < 20 {
		t.Fatalf("facts %d to %d are kept: the test is of no use", first, last)
	}
	cl := c.Client(once)
	w, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{From: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if m := receive(t, w); m.Missed != first-5 || m.Events[0].Index != first || m.Next != last+1 {
		t.Errorf("facts from 5 on, of which %d to %d are kept: %v", first, last, m)
	}
	l, err := cl.Events.ListEvents(t.Context(), &api.ListEventsRequest{From: 5, Limit: 3})
	if err != nil || l.Missed != first-5 || l.First != first || l.Next != first+3 || len(l.Events) != 3 {
		t.Errorf("list: %v, %v", l, err)
	}
	none, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{Filter: &api.EventFilter{Kinds: []string{"node_drain"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if m := receive(t, none); m.Missed != 0 || len(m.Events) != 0 || m.Next != last+1 {
		t.Errorf("from now on: %v", m)
	}
	addNode(t, c, "n99", "127.0.0.1:1")
	if _, err := cl.Nodes.DrainNode(t.Context(), &api.DrainNodeRequest{NodeId: "n1", Drain: true}); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, none); len(m.Events) != 1 || m.Events[0].Kind != "node_drain" {
		t.Errorf("filtered: %v", m)
	}
}

// TestWatchesEndWithTheServer: cleanly, with a code that says to go elsewhere.
func TestWatchesEndWithTheServer(t *testing.T) {
	c, cl := watchCluster(t, 1)
	w, err := cl.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	receive(t, w)
	receive(t, e)
	c.Servers[0].Stop()
	for _, err := range []error{rest(w), rest(e)} {
		if e := wasmatrix.AsError(err); e == nil || e.Code != wasmatrix.CodeCommunication || e.Time.IsZero() {
			t.Errorf("a watch ended with %v", err)
		}
	}
}

func rest[T any](s stream[T]) error {
	for s.Receive() {
	}
	return s.Err()
}

func TestStopWaitsForTheNode(t *testing.T) {
	c, cl := watchCluster(t, 2)
	start(t, cl, "a1")
	report(t, c, "n1", "a1", 1, wasmatrix.StatusRunning)
	type answer struct {
		res *api.StopInstanceResponse
		err error
	}
	stopped := make(chan answer, 1)
	go func() {
		res, err := cl.Instances.StopInstance(t.Context(), &api.StopInstanceRequest{InstanceId: "a1"})
		stopped <- answer{res, err}
	}()
	for { // the stop is committed
		changed := c.Servers[0].Machine.Changed()
		if i, _ := c.Servers[0].Machine.Snapshot().Instance("a1"); i.StopRequested {
			break
		}
		<-changed
	}
	select {
	case a := <-stopped:
		t.Fatalf("answered %v, %v before the node confirmed", a.res, a.err)
	default:
	}
	report(t, c, "n1", "a1", 2, wasmatrix.StatusStopped)
	if a := <-stopped; a.err != nil || a.res.Instance.Status != api.InstanceStatus_INSTANCE_STATUS_STOPPED {
		t.Errorf("answered %v, %v", a.res, a.err)
	}
}

func TestStopSaysWhenTheNodeDoesNotConfirm(t *testing.T) {
	_, cl := watchCluster(t, 2)
	start(t, cl, "a1")
	_, err := cl.Instances.StopInstance(t.Context(), &api.StopInstanceRequest{InstanceId: "a1", Timeout: durationpb.New(20 * time.Millisecond)})
	e := wasmatrix.AsError(err)
	if e == nil || e.Code != wasmatrix.CodeTimeout || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeCommitted || e.Details["node"] != "n1" {
		t.Errorf("%v, details %v", err, e.Details)
	}
	res, err := cl.Instances.StopInstance(t.Context(), &api.StopInstanceRequest{InstanceId: "a1", Timeout: durationpb.New(0)})
	if err != nil || !res.Instance.StopRequested {
		t.Errorf("without waiting: %v, %v", res, err)
	}
}

// node is a node process with given output.
type node struct {
	id     wasmatrix.NodeID
	pieces []rpc.LogPiece
	ended  chan struct{} // a follower waits for it

	invoke   func(context.Context, wasmatrix.Invocation) (wasmatrix.InvocationResult, error)
	details  map[wasmatrix.InstanceID][]wasmatrix.CrashDetail
	usage    wasmatrix.NodeUsage
	prepared chan wasmatrix.Digest // nil declines

	mu        sync.Mutex
	orders    []wasmatrix.Order
	terms     []uint64
	indexes   []uint64
	sets      []*wasmatrix.GrantSet
	providers []wasmatrix.PlacedProvider
}

// obey takes in what a leader says, by what f does.
func (n *node) obey(term uint64, boot wasmatrix.BootID, index uint64, f func()) error {
	if boot != "boot" {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "this is boot")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.terms, n.indexes = append(n.terms, term), append(n.indexes, index)
	f()
	return nil
}

func (n *node) Execute(_ context.Context, term uint64, boot wasmatrix.BootID, index uint64, orders []wasmatrix.Order) error {
	return n.obey(term, boot, index, func() { n.orders = append(n.orders, orders...) })
}

func (n *node) SetGrants(_ context.Context, term uint64, boot wasmatrix.BootID, index uint64, sets []*wasmatrix.GrantSet) error {
	return n.obey(term, boot, index, func() { n.sets = sets })
}

func (n *node) SetProviders(_ context.Context, term uint64, boot wasmatrix.BootID, index uint64, providers []wasmatrix.PlacedProvider) error {
	return n.obey(term, boot, index, func() { n.providers = providers })
}

func (n *node) Ping() (wasmatrix.NodeID, wasmatrix.BootID) { return n.id, "boot" }

func (n *node) Holding() []wasmatrix.Holding {
	return []wasmatrix.Holding{{Instance: "a1", Epoch: 1, Status: wasmatrix.StatusRunning}}
}

func (n *node) Attached(_ context.Context, term uint64) error {
	if term == 0 {
		return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "term 0 is over")
	}
	return nil
}

func (n *node) Logs(ctx context.Context, q rpc.LogQuery, emit func(rpc.LogPiece) error) error {
	for _, p := range n.pieces {
		if q.Stream != rpc.LogBoth && q.Stream != p.Stream {
			continue
		}
		if err := emit(p); err != nil {
			return err
		}
	}
	if q.Follow && n.ended != nil {
		select {
		case <-n.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (n *node) Invoke(ctx context.Context, inv wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
	if n.invoke == nil {
		return wasmatrix.InvocationResult{}, wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "no instance %s", inv.Instance)
	}
	return n.invoke(ctx, inv)
}

func (n *node) CrashDetails(id wasmatrix.InstanceID) []wasmatrix.CrashDetail { return n.details[id] }

func (n *node) Usage(bool) wasmatrix.NodeUsage { return n.usage }

func (n *node) Prepare(d wasmatrix.Digest) bool {
	if n.prepared == nil {
		return false
	}
	n.prepared <- d
	return true
}

// serveNode serves a node and returns its address and what ends it.
func serveNode(t testing.TB, n *node) (string, func()) {
	t.Helper()
	return serveAgent(t, n)
}

func serveAgent(t testing.TB, n rpc.Agent) (string, func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := rpc.Serve(ctx, l, rpc.NewAgentServer(rpc.AgentConfig{Agent: n}), rpc.HTTPConfig{Grace: time.Second}); err != nil {
			t.Errorf("serving the node: %v", err)
		}
	}()
	end := func() { cancel(); <-done }
	t.Cleanup(end)
	return l.Addr().String(), end
}

func output(t testing.TB, cl *client.Client, req *api.StreamLogsRequest) (string, error) {
	t.Helper()
	s, err := cl.Instances.StreamLogs(t.Context(), req)
	if err != nil {
		return "", err
	}
	defer s.Close()
	var out string
	for s.Receive() {
		out += string(s.Msg().Data)
	}
	return out, s.Err()
}

func TestLogsComeFromTheNode(t *testing.T) {
	c := newCluster(t, 2)
	n := &node{id: "n1", pieces: []rpc.LogPiece{
		{Stream: rpc.LogStdout, Data: []byte("one "), Time: time.Unix(1, 0)}, {Stream: rpc.LogStderr, Data: []byte("two "), Dropped: 7}, {Stream: rpc.LogStdout, Data: []byte("three")},
	}}
	addr, end := serveNode(t, n)
	addNode(t, c, "n1", addr)
	addModule(t, c, "m")
	cl := c.Client(once, 1)
	start(t, cl, "a1")
	for stream, want := range map[api.LogStream]string{
		api.LogStream_LOG_STREAM_UNSPECIFIED: "one two three", api.LogStream_LOG_STREAM_STDOUT: "one three", api.LogStream_LOG_STREAM_STDERR: "two ",
	} {
		if out, err := output(t, cl, &api.StreamLogsRequest{InstanceId: "a1", Stream: stream}); err != nil || out != want {
			t.Errorf("%v: %q, %v; want %q", stream, out, err, want)
		}
	}
	c.Servers[1].Hold() // a follower that does not know it asks the leader
	start(t, cl, "a2")
	if out, err := output(t, cl, &api.StreamLogsRequest{InstanceId: "a2"}); err != nil || out != "one two three" {
		t.Errorf("through a lagging follower: %q, %v", out, err)
	}
	c.Servers[1].Release()
	if _, err := output(t, cl, &api.StreamLogsRequest{InstanceId: "nope"}); wasmatrix.CodeOf(err) != wasmatrix.CodeInstanceNotFound {
		t.Errorf("of what is not there: %v", err)
	}
	if _, err := output(t, cl, &api.StreamLogsRequest{InstanceId: "a1", Stream: 9}); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("of an unknown stream: %v", err)
	}
	end()
	if _, err := output(t, cl, &api.StreamLogsRequest{InstanceId: "a1"}); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
		t.Errorf("with the node unreachable: %v", err)
	}
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.MarkNodeDown{At: 9, Node: "n1", Boot: "boot", Reason: "gone"}); err != nil {
		t.Fatal(err)
	}
	if _, err := output(t, cl, &api.StreamLogsRequest{InstanceId: "a1"}); wasmatrix.CodeOf(err) != wasmatrix.CodeNodeNotFound {
		t.Errorf("with the node down: %v", err)
	}
}

// TestLogsFollowAnInstance to the node where it is placed after its own is lost.
func TestLogsFollowAnInstance(t *testing.T) {
	c := newCluster(t, 1)
	one := &node{id: "n1", pieces: []rpc.LogPiece{{Data: []byte("one ")}}, ended: make(chan struct{})}
	two := &node{id: "n2", pieces: []rpc.LogPiece{{Data: []byte("two")}}, ended: make(chan struct{})}
	addr1, end := serveNode(t, one)
	addr2, _ := serveNode(t, two)
	addNode(t, c, "n1", addr1)
	addModule(t, c, "m")
	cl := c.Client(once)
	start(t, cl, "a1")
	addNode(t, c, "n2", addr2)
	s, err := cl.Instances.StreamLogs(t.Context(), &api.StreamLogsRequest{InstanceId: "a1", Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if m := receive(t, s); string(m.Data) != "one " {
		t.Fatalf("%q", m.Data)
	}
	end()
	for _, cmd := range []wasmatrix.Command{
		wasmatrix.MarkNodeDown{At: 9, Node: "n1", Boot: "boot", Reason: "gone"},
		wasmatrix.PlaceInstances{At: 10, Items: []wasmatrix.PlaceItem{{Instance: "a1", Epoch: 1, Node: "n2"}}},
	} {
		if answer, err := c.Servers[0].Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		} else if errs, ok := answer.([]*wasmatrix.Error); ok && errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	if m := receive(t, s); string(m.Data) != "two" {
		t.Fatalf("%q", m.Data)
	}
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.ApplyReports{At: 11, Node: "n2", Boot: "boot", Reports: []wasmatrix.Report{
		{Instance: "a1", Epoch: 2, Attempt: 1, Seq: 1, Status: wasmatrix.StatusStopped},
	}}); err != nil {
		t.Fatal(err)
	}
	close(two.ended)
	if err := rest(s); err != nil {
		t.Error(err)
	}
}

func TestAgents(t *testing.T) {
	n := &node{id: "n1"}
	addr, end := serveNode(t, n)
	agents := client.NewAgents(newTransport(t))
	record := &wasmatrix.Node{ID: "n1", Boot: "boot", Addr: addr}
	spec := wasmatrix.Spec{Module: wasmatrix.DigestOf(wasm)}.WithDefaults()
	orders := []wasmatrix.Order{
		{Kind: wasmatrix.OrderStart, Instance: "a", Epoch: 1, Spec: &spec}, {Kind: wasmatrix.OrderStart, Instance: "b", Epoch: 2, Spec: &spec},
		{Kind: wasmatrix.OrderStop, Instance: "c", Epoch: 3, Forget: true},
	}
	if err := agents.Execute(t.Context(), record, 7, 40, orders); err != nil {
		t.Fatal(err)
	}
	a, err := wasmatrix.NewAssignment("a", "c", wasmatrix.Grant{Type: wasmatrix.ProviderKV, Permissions: []wasmatrix.Permission{"kv:read"}})
	if err != nil {
		t.Fatal(err)
	}
	set := &wasmatrix.GrantSet{Instance: "a", Epoch: 1, Index: 3, Incarnation: 2, Assignments: []*wasmatrix.Assignment{a}}
	if err := agents.SetGrants(t.Context(), record, 7, 41, []*wasmatrix.GrantSet{set}); err != nil {
		t.Fatal(err)
	}
	placed := []wasmatrix.PlacedProvider{{
		Provider: &wasmatrix.Provider{ID: "cache", Type: wasmatrix.ProviderKV, Config: map[string]string{"url": "redis://:secret@h:1"}, Revision: 2},
		Hosts:    []wasmatrix.ProviderHost{{Node: "n2", Addr: "h:2"}},
	}}
	if err := agents.SetProviders(t.Context(), record, 7, 42, placed); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.indexes, []uint64{40, 41, 42}) || !reflect.DeepEqual(n.sets, []*wasmatrix.GrantSet{set}) || !reflect.DeepEqual(n.providers, placed) {
		t.Errorf("the node was told %+v and %+v, of indexes %v", n.sets, n.providers, n.indexes)
	}
	if len(n.orders) != 3 || n.orders[0].Spec != n.orders[1].Spec || n.orders[1].Instance != "b" || !n.orders[2].Forget || !slices.Equal(n.terms, []uint64{7, 7, 7}) {
		t.Errorf("the node got %+v in terms %v", n.orders, n.terms)
	}
	if boot, err := agents.Ping(t.Context(), record); err != nil || boot != "boot" {
		t.Errorf("ping: %q, %v", boot, err)
	}
	if _, err := agents.Ping(t.Context(), &wasmatrix.Node{ID: "n2", Addr: addr}); wasmatrix.CodeOf(err) != wasmatrix.CodeNodeNotFound {
		t.Errorf("ping of another node: %v", err)
	}
	if err := agents.Execute(t.Context(), &wasmatrix.Node{ID: "n1", Boot: "old", Addr: addr}, 7, 43, nil); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
		t.Errorf("orders for another boot: %v", err)
	}
	if err := agents.Attach(t.Context(), record, 0); wasmatrix.CodeOf(err) != wasmatrix.CodeNotLeader {
		t.Errorf("attach in an old term: %v", err)
	}
	if err := agents.Attach(t.Context(), &wasmatrix.Node{ID: "n1", Boot: "old", Addr: addr}, 7); wasmatrix.CodeOf(err) != wasmatrix.CodeNodeNotFound {
		t.Errorf("attach to another boot: %v", err)
	}
	broke := make(chan error, 1)
	go func() { broke <- agents.Attach(t.Context(), record, 7) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() { cancelled <- agents.Attach(ctx, record, 7) }()
	cancel()
	if err := <-cancelled; err == nil {
		t.Error("a cancelled stream ended without an error")
	}
	select {
	case err := <-broke:
		t.Fatalf("the stream broke by itself: %v", err)
	default:
	}
	end()
	if err := <-broke; wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
		t.Errorf("the stream to a node that ended: %v", err)
	}
	if _, err := agents.Ping(t.Context(), record); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("ping where nothing listens: %v", err)
	}
}

// TestI2_AWatchBeginsWithWhatWasAcknowledged watches at a follower that lags: what
// was acknowledged comes before the bookmark, unless a stale beginning will do.
func TestI2_AWatchBeginsWithWhatWasAcknowledged(t *testing.T) {
	c, cl := watchCluster(t, 2)
	c.Servers[1].Hold()
	defer c.Servers[1].Release()
	start(t, cl, "a1")
	behind := c.Client(nil, 1)
	for _, id := range []string{"", "a1"} {
		w, err := behind.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{InstanceId: id})
		if err != nil {
			t.Fatal(err)
		}
		if m := receive(t, w); m.GetInstance().GetInstanceId() != "a1" {
			t.Errorf("a watch of %q began with %v", id, m)
		}
		w.Close()
		w, err = behind.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{InstanceId: id, ReadMode: api.ReadMode_READ_MODE_STALE})
		if err != nil {
			t.Fatal(err)
		}
		if m := receive(t, w); !m.GetBookmark() {
			t.Errorf("a stale watch of %q began with %v", id, m)
		}
		w.Close()
	}
}
