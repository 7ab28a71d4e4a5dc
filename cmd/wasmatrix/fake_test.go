package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/module"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// fakeServer serves the API from a handful of records, over HTTP/1.1 and HTTP/2
// without TLS as servers do. It keeps the last request of each kind.
type fakeServer struct {
	url string

	mu        sync.Mutex
	cond      *sync.Cond // on streams
	last      map[string]proto.Message
	streams   map[string]int  // opened, by name
	broken    map[string]bool // streams that have broken once
	instances []*api.Instance
	modules   []*api.Module
	providers map[string]*api.Provider
	pushed    map[string][]byte
	restored  []byte
	leader    string
	hold      bool // streams of logs end only with their client
}

func startFake() (*fakeServer, func()) {
	f := &fakeServer{last: map[string]proto.Message{}, streams: map[string]int{}, broken: map[string]bool{}, pushed: map[string][]byte{}, leader: "a.0badcafe"}
	f.cond = sync.NewCond(&f.mu)
	f.instances = fakeInstances()
	f.providers = fakeProviders()
	f.modules = []*api.Module{{
		Digest: fakeDigest, Names: []string{"hello", "hi"}, SizeBytes: 1536, Kind: "command",
		Imports: []string{"wasi_snapshot_preview1.fd_write"}, Exports: []string{"_start", "bad\n:1", "handle"},
		CreatedAt: ago(49 * time.Hour), UsedAt: ago(90 * time.Minute), Users: 2,
	}}
	mux := http.NewServeMux()
	opts := connect.WithInterceptors(errorInterceptor())
	for _, h := range []func() (string, http.Handler){
		func() (string, http.Handler) {
			return apiconnect.NewInstanceServiceHandler(fakeInstanceService{fakeServer: f}, opts)
		},
		func() (string, http.Handler) {
			return apiconnect.NewModuleServiceHandler(fakeModuleService{fakeServer: f}, opts)
		},
		func() (string, http.Handler) {
			return apiconnect.NewNodeServiceHandler(fakeNodeService{fakeServer: f}, opts)
		},
		func() (string, http.Handler) {
			return apiconnect.NewCapabilityServiceHandler(fakeCapabilityService{fakeServer: f}, opts)
		},
		func() (string, http.Handler) {
			return apiconnect.NewProviderServiceHandler(fakeProviderService{fakeServer: f}, opts)
		},
		func() (string, http.Handler) {
			return apiconnect.NewEventServiceHandler(fakeEventService{fakeServer: f}, opts)
		},
		func() (string, http.Handler) {
			return apiconnect.NewClusterServiceHandler(fakeClusterService{fakeServer: f}, opts)
		},
	} {
		mux.Handle(h())
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	f.url = srv.URL
	return f, func() {
		srv.CloseClientConnections()
		srv.Close()
	}
}

const fakeDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// fixed is the time of what is shown as a time, ago of what is shown as an age.
var fixed = timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC))

func ago(d time.Duration) *timestamppb.Timestamp {
	return timestamppb.New(time.Now().Add(-d - 20*time.Second))
}

func fakeInstances() []*api.Instance {
	spec := &api.InstanceSpec{
		Module: fakeDigest, ModuleName: "hello", Args: []string{"-v", "two words"}, Env: map[string]string{"B": "2", "A": "1"},
		Labels: map[string]string{"app": "web"}, Constraints: []string{"zone=a"},
		Restart: &api.RestartPolicy{
			Mode: api.RestartMode_RESTART_MODE_ON_FAILURE, MaxRetries: 5,
			Backoff: &api.Backoff{
				Initial: durationpb.New(time.Second), Multiplier: 2, Max: durationpb.New(time.Minute), Jitter: 0.1, Reset_: durationpb.New(30 * time.Second),
			},
		},
		Limits: &api.Limits{MemoryBytes: 64 << 20, CpuMillis: 500, Deadline: durationpb.New(time.Hour), Fuel: 2e9}, Exclusive: true,
		Stdin: make([]byte, 1536),
	}
	plain := &api.InstanceSpec{Module: fakeDigest, Restart: &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_NEVER}, Limits: &api.Limits{MemoryBytes: 1 << 20, CpuMillis: 1000}}
	return []*api.Instance{
		{
			InstanceId: "batch", Spec: plain, Status: api.InstanceStatus_INSTANCE_STATUS_STOPPED, Node: "n2", Epoch: 1, Attempt: 1, Reason: "exited",
			ExitCode: proto.Int32(0), CreatedAt: ago(3 * time.Minute), ChangedAt: fixed, CreateIndex: 9, ModifyIndex: 12,
		},
		{
			InstanceId: "broken", Spec: plain, Status: api.InstanceStatus_INSTANCE_STATUS_CRASHED, Node: "n2", Epoch: 2, Attempt: 3,
			Reason: "exit: code 3\x1b[31m\n", LastError: "RESTART_POLICY_VIOLATION", ExitCode: proto.Int32(3), Restarts: 4, Crashes: 5,
			CreatedAt: ago(26 * time.Hour), ChangedAt: fixed,
		},
		{InstanceId: "queued", Spec: plain, Status: api.InstanceStatus_INSTANCE_STATUS_PENDING, Reason: "no node has room", CreatedAt: ago(5 * time.Second), ChangedAt: fixed},
		{
			InstanceId: "web-1", Spec: spec, Status: api.InstanceStatus_INSTANCE_STATUS_RUNNING, Node: "n1", Epoch: 1, Attempt: 2, Restarts: 1, Crashes: 1,
			CreatedAt: ago(90 * time.Minute), StartedAt: fixed, ChangedAt: fixed,
		},
	}
}

var fakeCrashes = []*api.Crash{{
	Kind: "trap", Message: "unreachable", Stack: []string{"main.run+0x1f", "_start"}, Node: "n1", Epoch: 1, Attempt: 1,
	Uptime: durationpb.New(1500 * time.Millisecond), Time: fixed, Fuel: 123456789, MemoryPeakBytes: 3 << 19,
}}

// fakeStderr is what a guest wrote that would take over the terminal.
const fakeStderr = "panic: \x1b[2J\x1b]0;mine\x07\r\n\n\tmain.go:7 \xff\u202e\n"

// note keeps a request.
func (f *fakeServer) note(m proto.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last[string(m.ProtoReflect().Descriptor().Name())] = proto.Clone(m)
}

// opened counts a stream that has sent what it has so far.
func (f *fakeServer) opened(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams[name]++
	f.cond.Broadcast()
}

// breaks reports whether a stream should break, which the first of a name does.
func (f *fakeServer) breaks(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken[name] {
		return false
	}
	f.broken[name] = true
	return true
}

func (f *fakeServer) waitStream(name string) bool {
	late := false
	timer := time.AfterFunc(patience, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		late = true
		f.cond.Broadcast()
	})
	defer timer.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.streams[name] == 0 && !late {
		f.cond.Wait()
	}
	return !late
}

// errorInterceptor puts the details into errors as servers do.
func errorInterceptor() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			res, err := next(ctx, req)
			if err != nil {
				return nil, wire.ToConnect(err)
			}
			return res, nil
		}
	})
}

func (f *fakeServer) instance(id string) (*api.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.instances {
		if i.GetInstanceId() == id {
			return i, nil
		}
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "no instance %q", id).With("instance", id)
}

type fakeInstanceService struct {
	apiconnect.UnimplementedInstanceServiceHandler
	*fakeServer
}

func (s fakeInstanceService) StartInstance(_ context.Context, req *api.StartInstanceRequest) (*api.StartInstanceResponse, error) {
	s.note(req)
	what := req.GetModuleDigest() + req.GetModuleName()
	if _, err := s.module(what); err != nil {
		return nil, err
	}
	if req.GetLimits().GetMemoryBytes() > wasmatrix.MaxMemory {
		return nil, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "no node has room for it").With("missing", "memory")
	}
	if req.GetStrict() && len(req.GetCapabilities()) == 0 {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "the module needs capabilities of types that it is not given: http, kv").
			With("missing", "http,kv")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &api.StartInstanceResponse{}
	for n := range max(req.GetCount(), 1) {
		id := req.GetInstanceId()
		if id == "" {
			id = "i-1"
		}
		if req.GetCount() > 1 {
			id = fmt.Sprintf("%s-%d", id, n+1)
		}
		status, reason := api.InstanceStatus_INSTANCE_STATUS_RUNNING, ""
		if req.GetEnv()["FATE"] == "crash" && n == 0 {
			status, reason = api.InstanceStatus_INSTANCE_STATUS_CRASHED, "trap: unreachable"
		}
		s.instances = append(s.instances, &api.Instance{
			InstanceId: id, Spec: &api.InstanceSpec{Module: req.GetModuleDigest(), ModuleName: req.GetModuleName()}, Status: status,
			Reason: reason, LastError: map[bool]string{true: "WASM_RUNTIME_ERROR"}[reason != ""], Node: "n1", Epoch: 1, CreatedAt: ago(0),
		})
		res.InstanceIds = append(res.InstanceIds, id)
	}
	res.InstanceId = res.GetInstanceIds()[0]
	return res, nil
}

func (s fakeInstanceService) StopInstance(_ context.Context, req *api.StopInstanceRequest) (*api.StopInstanceResponse, error) {
	s.note(req)
	i, err := s.instance(req.GetInstanceId())
	return &api.StopInstanceResponse{Instance: i}, err
}

func (s fakeInstanceService) RestartInstance(_ context.Context, req *api.RestartInstanceRequest) (*api.RestartInstanceResponse, error) {
	s.note(req)
	i, err := s.instance(req.GetInstanceId())
	if err == nil && isFinal(i.GetStatus()) {
		err = wasmatrix.Errorf(wasmatrix.CodeRestartPolicyViolation, "instance %q has ended", req.GetInstanceId())
	}
	return &api.RestartInstanceResponse{Instance: i}, err
}

func (s fakeInstanceService) QueryInstance(_ context.Context, req *api.QueryInstanceRequest) (*api.QueryInstanceResponse, error) {
	s.note(req)
	i, err := s.instance(req.GetInstanceId())
	caps, needs := fakeGrants(req.GetInstanceId())
	return &api.QueryInstanceResponse{Instance: i, Capabilities: caps, Needs: needs}, err
}

// ListInstances gives one instance a page.
func (s fakeInstanceService) ListInstances(_ context.Context, req *api.ListInstancesRequest) (*api.ListInstancesResponse, error) {
	s.note(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &api.ListInstancesResponse{Index: 42}
	for _, i := range s.instances {
		if len(req.GetStatuses()) > 0 && !slices.Contains(req.GetStatuses(), i.GetStatus()) || i.GetInstanceId() <= req.GetPageToken() {
			continue
		}
		if len(res.GetInstances()) == 1 {
			res.NextPageToken = res.GetInstances()[0].GetInstanceId()
			break
		}
		res.Instances = append(res.Instances, i)
	}
	return res, nil
}

// WatchInstances breaks off once, as a server that is restarted does.
func (s fakeInstanceService) WatchInstances(ctx context.Context, req *api.WatchInstancesRequest, out *connect.ServerStream[api.WatchInstancesResponse]) error {
	s.note(req)
	i, err := s.instance(req.GetInstanceId())
	if err != nil {
		return wire.ToConnect(err)
	}
	starting := proto.CloneOf(i)
	starting.Status = api.InstanceStatus_INSTANCE_STATUS_STARTING
	for _, m := range []*api.WatchInstancesResponse{{Instance: starting, Index: 1}, {Bookmark: true, Index: 2}} {
		if err := out.Send(m); err != nil {
			return err
		}
	}
	if s.breaks("WatchInstances") {
		return wire.ToConnect(wasmatrix.Errorf(wasmatrix.CodeCommunication, "shutting down"))
	}
	s.opened("WatchInstances")
	if i.GetInstanceId() == "forever" {
		<-ctx.Done()
		return nil
	}
	return out.Send(&api.WatchInstancesResponse{Instance: i, Index: 3})
}

func (s fakeInstanceService) GetCrashInfo(_ context.Context, req *api.GetCrashInfoRequest) (*api.GetCrashInfoResponse, error) {
	s.note(req)
	i, err := s.instance(req.GetInstanceId())
	if err != nil || i.GetCrashes() == 0 {
		return &api.GetCrashInfoResponse{}, err
	}
	res := &api.GetCrashInfoResponse{
		Crashed: i.GetStatus() == api.InstanceStatus_INSTANCE_STATUS_CRASHED, CrashCount: i.GetCrashes(), Crashes: fakeCrashes,
		LastError: &api.Error{Code: "WASM_RUNTIME_ERROR", Message: "unreachable", Time: fixed},
	}
	if i.GetNode() == "n2" { // which is down
		unborn := &api.Crash{Kind: "start", Message: "no such import", Node: "n2", Epoch: 1, Attempt: 1, Time: fixed}
		res.Crashes = []*api.Crash{unborn, fakeCrashes[0]}
		res.DetailsMissing = "node n2 is down\x1b[2J"
		return res, nil
	}
	last := proto.CloneOf(fakeCrashes[0])
	last.Stderr = []byte(fakeStderr)
	res.Crashes = []*api.Crash{last}
	return res, nil
}

func (s fakeInstanceService) StreamLogs(ctx context.Context, req *api.StreamLogsRequest, out *connect.ServerStream[api.StreamLogsResponse]) error {
	s.note(req)
	if _, err := s.instance(req.GetInstanceId()); err != nil {
		return wire.ToConnect(err)
	}
	for _, m := range []*api.StreamLogsResponse{
		{Stream: api.LogStream_LOG_STREAM_STDOUT, Data: []byte("hello\n"), Time: fixed, Dropped: 2048},
		{Stream: api.LogStream_LOG_STREAM_STDERR, Data: []byte("oh no\n"), Time: fixed},
	} {
		if req.GetStream() != api.LogStream_LOG_STREAM_UNSPECIFIED && req.GetStream() != m.GetStream() {
			continue
		}
		if err := out.Send(m); err != nil {
			return err
		}
	}
	s.opened("StreamLogs")
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if req.GetFollow() && hold {
		<-ctx.Done()
	}
	return nil
}

type fakeModuleService struct {
	apiconnect.UnimplementedModuleServiceHandler
	*fakeServer
}

func (f *fakeServer) module(what string) (*api.Module, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.modules {
		if m.GetDigest() == what || slices.Contains(m.GetNames(), what) || len(what) >= 6 && strings.HasPrefix(strings.TrimPrefix(m.GetDigest(), "sha256:"), what) {
			return m, nil
		}
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "no module %q", what)
}

func (s fakeModuleService) PushModule(_ context.Context, in *connect.ClientStream[api.PushModuleRequest]) (*api.PushModuleResponse, error) {
	var header *api.PushModuleHeader
	var data []byte
	for in.Receive() {
		if h := in.Msg().GetHeader(); h != nil {
			header = proto.CloneOf(h)
			s.note(header)
		}
		data = append(data, in.Msg().GetData()...)
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	info, err := module.InspectBytes(data, 0)
	if err != nil {
		return nil, wire.ToConnect(err)
	}
	if info.Digest.String() != header.GetDigest() {
		return nil, wire.ToConnect(wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "another digest"))
	}
	m := wire.ModuleTo(info, nil, 0)
	if header.GetName() != "" {
		m.Names = []string{header.GetName()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.modules = append(s.modules, m)
	s.pushed[header.GetDigest()] = data
	return &api.PushModuleResponse{Module: m}, nil
}

func (s fakeModuleService) InspectModule(_ context.Context, req *api.InspectModuleRequest) (*api.InspectModuleResponse, error) {
	s.note(req)
	m, err := s.module(req.GetModule())
	return &api.InspectModuleResponse{Module: m}, err
}

func (s fakeModuleService) ListModules(_ context.Context, req *api.ListModulesRequest) (*api.ListModulesResponse, error) {
	s.note(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	return &api.ListModulesResponse{Modules: s.modules}, nil
}

func (s fakeModuleService) RemoveModule(_ context.Context, req *api.RemoveModuleRequest) (*api.RemoveModuleResponse, error) {
	s.note(req)
	m, err := s.module(req.GetModule())
	if err == nil && m.GetUsers() > 0 {
		err = wasmatrix.Errorf(wasmatrix.CodeConflict, "2 instances use it")
	}
	return &api.RemoveModuleResponse{}, err
}

type fakeNodeService struct {
	apiconnect.UnimplementedNodeServiceHandler
	*fakeServer
}

var fakeNodes = []*api.Node{
	{
		NodeId: "n1", Status: "up", Address: "10.0.0.1:7483", Version: "0.1.0", Labels: map[string]string{"node": "n1", "zone": "a", "disk": "ssd"},
		Capacity: &api.Capacity{MemoryBytes: 8 << 30, Instances: 1000}, Used: &api.Capacity{MemoryBytes: 64 << 20, Instances: 1},
		RegisteredAt: fixed, ChangedAt: fixed,
	},
	{
		NodeId: "n2", Status: "down", Reason: "lease ran out", Address: "10.0.0.2:7483", Labels: map[string]string{"node": "n2"},
		Capacity: &api.Capacity{MemoryBytes: 8 << 30, Instances: 1000}, Used: &api.Capacity{}, RegisteredAt: fixed,
	},
	{
		NodeId: "n3", Status: "up", Draining: true, Address: "10.0.0.3:7483", Version: "0.1.0", Labels: map[string]string{"node": "n3"},
		Capacity: &api.Capacity{MemoryBytes: 8 << 30, Instances: 1000}, Used: &api.Capacity{}, RegisteredAt: fixed,
	},
}

var fakeUsage = &api.NodeUsage{
	Instances: 1, ReservedBytes: 64 << 20, GuestMemoryBytes: 3 << 19, HeapBytes: 20 << 20, Goroutines: 41, Threads: 12, Descriptors: 23,
	Compiling: 2, Runnable: 3, Cores: 4, Cpu: durationpb.New(61500*time.Millisecond + 1234),
	CapabilityCalls: 1200, CapabilityDenials: 3, CapabilityCallsOpen: 2,
}

func (s fakeNodeService) ListNodes(_ context.Context, req *api.ListNodesRequest) (*api.ListNodesResponse, error) {
	s.note(req)
	return &api.ListNodesResponse{Nodes: fakeNodes}, nil
}

func (s fakeNodeService) GetNode(_ context.Context, req *api.GetNodeRequest) (*api.GetNodeResponse, error) {
	s.note(req)
	for _, n := range fakeNodes {
		if n.GetNodeId() == req.GetNodeId() {
			res := &api.GetNodeResponse{Node: n}
			if n.GetNodeId() == "n1" { // the others do not answer
				res.Usage = fakeUsage
			}
			return res, nil
		}
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "no node %q", req.GetNodeId())
}

type fakeEventService struct {
	apiconnect.UnimplementedEventServiceHandler
	*fakeServer
}

func fakeEvent(index uint64) *api.Event {
	e := &api.Event{Index: index, Time: fixed, Kind: "started", InstanceId: "web-1", Node: "n1", Epoch: 1, Attempt: 1}
	switch {
	case index == 6:
		e.Kind, e.Reason = "denied", "store kv.set: no permission (3 times)"
	case index%3 == 0:
		e.Kind, e.Reason = "crashed", "trap: unreachable"
	case index%3 == 1:
		e = &api.Event{Index: index, Time: fixed, Kind: "node_up", Node: "n1"}
	}
	return e
}

// ListEvents has the facts 3 to 7, two of them a page.
func (s fakeEventService) ListEvents(_ context.Context, req *api.ListEventsRequest) (*api.ListEventsResponse, error) {
	s.note(req)
	res := &api.ListEventsResponse{First: 3, Next: max(req.GetFrom(), 3)}
	if req.GetFrom() > 0 && req.GetFrom() < 3 {
		res.Missed = 3 - req.GetFrom()
	}
	for res.Next <= 7 && len(res.Events) < 2 {
		res.Events = append(res.Events, fakeEvent(res.Next))
		res.Next++
	}
	return res, nil
}

// WatchEvents sends two facts at a time, and breaks off after the first two as a
// server that is restarted does.
func (s fakeEventService) WatchEvents(ctx context.Context, req *api.WatchEventsRequest, out *connect.ServerStream[api.WatchEventsResponse]) error {
	s.note(req)
	next := req.GetFrom()
	if next == 0 {
		next = 100
	}
	missed := uint64(0)
	if next < 3 {
		missed, next = 3-next, 3
	}
	if err := out.Send(&api.WatchEventsResponse{Events: []*api.Event{fakeEvent(next), fakeEvent(next + 1)}, Next: next + 2, Missed: missed}); err != nil {
		return err
	}
	if s.breaks("WatchEvents") {
		return wire.ToConnect(wasmatrix.Errorf(wasmatrix.CodeNoLeader, "electing"))
	}
	s.opened("WatchEvents")
	<-ctx.Done()
	return nil
}

type fakeClusterService struct {
	apiconnect.UnimplementedClusterServiceHandler
	*fakeServer
}

func (s fakeClusterService) GetStatus(_ context.Context, req *api.GetStatusRequest) (*api.GetStatusResponse, error) {
	s.note(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	return &api.GetStatusResponse{
		ClusterId: "c-1", ServerId: "b.feedf00d", Name: "b", Version: "0.1.0", State: "follower", Term: 7, LeaderId: s.leader, LeaderAddress: "10.0.0.1:7480",
		CommitIndex: 40, AppliedIndex: 41, LastIndex: 42, LastContact: durationpb.New(12 * time.Millisecond), StateHash: "beef", StateIndex: 41,
		Voters: 3, FailureTolerance: 1, Instances: 4, NodesUp: 2, NodesDown: 1, StartedAt: fixed,
		InstancesByStatus: map[string]uint64{"running": 1, "crashed": 1, "stopped": 1, "pending": 1},
		Groups: []*api.HostedGroup{{
			Name: "kv", State: "follower", Term: 3, LeaderId: s.leader, CommitIndex: 90, AppliedIndex: 89, StateHash: "cafe", StateIndex: 88, Voters: 3,
			Namespaces: 2, Keys: 12, Bytes: 3 << 9,
		}},
	}, nil
}

func (s fakeClusterService) ListMembers(_ context.Context, req *api.ListMembersRequest) (*api.ListMembersResponse, error) {
	s.note(req)
	return &api.ListMembersResponse{Members: []*api.Member{
		{Name: "a", Role: "server", GossipAddress: "10.0.0.1:7482", ApiAddress: "10.0.0.1:7480", Status: "alive", Version: "0.1.0"},
		{Name: "n2", Role: "node", GossipAddress: "10.0.0.2:7484", Status: "dead"},
	}}, nil
}

func (s fakeClusterService) ListPeers(_ context.Context, req *api.ListPeersRequest) (*api.ListPeersResponse, error) {
	s.note(req)
	return &api.ListPeersResponse{Index: 42, Peers: []*api.Peer{
		{ServerId: "a.0badcafe", Name: "a", RaftAddress: "10.0.0.1:7481", ApiAddress: "10.0.0.1:7480", Voter: true, Leader: true, Healthy: true, LastIndex: 42, Version: "0.1.0"},
		{ServerId: "b.feedf00d", Name: "b", RaftAddress: "10.0.0.2:7481", ApiAddress: "10.0.0.2:7480", Voter: true, Healthy: true, LastIndex: 42, LastContact: durationpb.New(12 * time.Millisecond), Version: "0.1.0"},
		{ServerId: "c.5d3f0a91", Name: "c", RaftAddress: "10.0.0.3:7481", LastIndex: 7},
	}}, nil
}

func (s fakeClusterService) Join(_ context.Context, req *api.JoinRequest) (*api.JoinResponse, error) {
	s.note(req)
	return &api.JoinResponse{Contacted: 1}, nil
}

func (s fakeClusterService) Leave(_ context.Context, req *api.LeaveRequest) (*api.LeaveResponse, error) {
	s.note(req)
	return &api.LeaveResponse{}, nil
}

func (s fakeClusterService) RemovePeer(_ context.Context, req *api.RemovePeerRequest) (*api.RemovePeerResponse, error) {
	s.note(req)
	return &api.RemovePeerResponse{ServerId: "c.5d3f0a91"}, nil
}

func (s fakeClusterService) TransferLeadership(_ context.Context, req *api.TransferLeadershipRequest) (*api.TransferLeadershipResponse, error) {
	s.note(req)
	return &api.TransferLeadershipResponse{LeaderId: "b.feedf00d"}, nil
}

// smallModule is the smallest command there is, followed by a custom section of
// that many bytes.
func smallModule(padding int) []byte {
	wasm := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x04\x01\x60\x00\x00" + // type: () -> ()
		"\x03\x02\x01\x00" + // one function of it
		"\x07\x0a\x01\x06_start\x00\x00" +
		"\x0a\x04\x01\x02\x00\x0b")
	if padding > 0 {
		body := append([]byte{4, 'n', 'o', 't', 'e'}, make([]byte, padding)...)
		wasm = append(append(wasm, 0), leb(len(body))...)
		wasm = append(wasm, body...)
	}
	return wasm
}

func leb(n int) (out []byte) {
	for n >= 0x80 {
		out = append(out, byte(n)|0x80)
		n >>= 7
	}
	return append(out, byte(n))
}

func TestFakeModuleIsOne(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 20} {
		if m, err := module.Inspect(io.MultiReader(bytes.NewReader(smallModule(n))), 0); err != nil || m.Kind != wasmatrix.ModuleCommand {
			t.Errorf("%d: %v, %v", n, m, err)
		}
	}
}
