package rpc

import (
	"context"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// AgentConfig configures an [AgentServer]. Agent is required.
type AgentConfig struct {
	Agent Agent
	// Calls carries out the calls of guests of other nodes. Nil carries out none. It
	// stays the caller's.
	Calls  capability.Host
	Logger hclog.Logger // default: discards
	// CallTimeout bounds a call whose client set no deadline; default 30 s.
	CallTimeout time.Duration
	// Ready says why the node should be given no requests; default: always ready.
	Ready func(context.Context) error
	// Authenticate is as in [Config].
	Authenticate func(ctx context.Context, procedure string, header http.Header) (context.Context, error)
}

// AgentServer is the API of a node process: an [http.Handler] for [Serve].
type AgentServer struct {
	agent   Agent
	handler http.Handler
	calls   *carrying
	closing context.Context //nolint:containedctx // of everything that lasts as long as the server
	close   context.CancelFunc
	once    sync.Once
}

// NewAgentServer makes the API of a node process. Close it.
func NewAgentServer(cfg AgentConfig) *AgentServer {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 30 * time.Second
	}
	if cfg.Ready == nil {
		cfg.Ready = func(context.Context) error { return nil }
	}
	s := &AgentServer{agent: cfg.Agent}
	s.closing, s.close = context.WithCancel(context.Background())
	e := &edge{log: cfg.Logger, callTimeout: cfg.CallTimeout, maxCall: maxCall, authenticate: cfg.Authenticate}
	opts := e.options()
	e.handle(apiconnect.NewNodeAgentServiceHandler(s, opts...))
	s.calls = e.carry(cfg.Calls, s.closing, false)
	services := []string{apiconnect.NodeAgentServiceName}
	e.handle(grpchealth.NewHandler(&health{services: services, ready: cfg.Ready}, opts...))
	e.probes(cfg.Ready)
	s.handler = e.handler()
	return s
}

// ServeHTTP implements [http.Handler].
func (s *AgentServer) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends the streams that would go on for ever.
func (s *AgentServer) Close() error {
	s.once.Do(s.close)
	return nil
}

// Drain is [Server.Drain].
func (s *AgentServer) Drain(ctx context.Context) { s.calls.links.drain(ctx) }

// Execute implements NodeAgentService.
func (s *AgentServer) Execute(ctx context.Context, m *api.ExecuteRequest) (*api.ExecuteResponse, error) {
	orders, err := wire.OrdersFrom(m)
	if err != nil {
		return nil, err
	}
	if err := s.agent.Execute(ctx, m.GetTerm(), wasmatrix.BootID(m.GetBootId()), m.GetIndex(), orders); err != nil {
		return nil, err
	}
	return &api.ExecuteResponse{}, nil
}

// SetGrants implements NodeAgentService.
func (s *AgentServer) SetGrants(ctx context.Context, m *api.SetGrantsRequest) (*api.SetGrantsResponse, error) {
	sets, err := wire.GrantSetsFrom(m.GetSets())
	if err != nil {
		return nil, err
	}
	if err := s.agent.SetGrants(ctx, m.GetTerm(), wasmatrix.BootID(m.GetBootId()), m.GetIndex(), sets); err != nil {
		return nil, err
	}
	return &api.SetGrantsResponse{}, nil
}

// SetProviders implements NodeAgentService.
func (s *AgentServer) SetProviders(ctx context.Context, m *api.SetProvidersRequest) (*api.SetProvidersResponse, error) {
	placed, err := wire.PlacedProvidersFrom(m.GetProviders())
	if err != nil {
		return nil, err
	}
	if err := s.agent.SetProviders(ctx, m.GetTerm(), wasmatrix.BootID(m.GetBootId()), m.GetIndex(), placed); err != nil {
		return nil, err
	}
	return &api.SetProvidersResponse{}, nil
}

// Ping implements NodeAgentService.
func (s *AgentServer) Ping(context.Context, *api.PingRequest) (*api.PingResponse, error) {
	node, boot := s.agent.Ping()
	return &api.PingResponse{NodeId: string(node), BootId: string(boot)}, nil
}

// ListHoldings implements NodeAgentService.
func (s *AgentServer) ListHoldings(context.Context, *api.ListHoldingsRequest) (*api.ListHoldingsResponse, error) {
	return &api.ListHoldingsResponse{Holdings: wire.HoldingsTo(s.agent.Holding())}, nil
}

// Attach implements NodeAgentService: it stays for as long as both sides do.
func (s *AgentServer) Attach(ctx context.Context, m *api.AttachRequest, stream *connect.ServerStream[api.AttachResponse]) error {
	if err := s.agent.Attached(ctx, m.GetTerm()); err != nil {
		return err
	}
	_, boot := s.agent.Ping()
	if err := stream.Send(&api.AttachResponse{BootId: string(boot)}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing.Done():
		return errClosing()
	}
}

// Invoke implements NodeAgentService.
func (s *AgentServer) Invoke(ctx context.Context, m *api.InvokeRequest) (*api.InvokeResponse, error) {
	inv, err := invocation(m.GetRequest())
	if err != nil {
		return nil, err
	}
	result, err := s.agent.Invoke(ctx, inv)
	if err != nil {
		return nil, err
	}
	res, err := wire.InvocationResultTo(result)
	if err != nil {
		return nil, err
	}
	return &api.InvokeResponse{Response: res}, nil
}

// GetCrashDetails implements NodeAgentService.
func (s *AgentServer) GetCrashDetails(_ context.Context, m *api.GetCrashDetailsRequest) (*api.GetCrashDetailsResponse, error) {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return nil, err
	}
	res := &api.GetCrashDetailsResponse{}
	for _, d := range s.agent.CrashDetails(id) {
		res.Details = append(res.Details, wire.CrashDetailTo(d))
	}
	return res, nil
}

// GetUsage implements NodeAgentService.
func (s *AgentServer) GetUsage(_ context.Context, m *api.GetUsageRequest) (*api.GetUsageResponse, error) {
	return &api.GetUsageResponse{Usage: wire.UsageTo(s.agent.Usage(m.GetCollect()))}, nil
}

// PrepareModule implements NodeAgentService.
func (s *AgentServer) PrepareModule(_ context.Context, m *api.PrepareModuleRequest) (*api.PrepareModuleResponse, error) {
	digest, err := wasmatrix.ParseDigest(m.GetModule())
	if err != nil {
		return nil, field(err, "module")
	}
	return &api.PrepareModuleResponse{Accepted: s.agent.Prepare(digest)}, nil
}

// Logs implements NodeAgentService.
func (s *AgentServer) Logs(ctx context.Context, m *api.StreamLogsRequest, stream *connect.ServerStream[api.StreamLogsResponse]) error {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return err
	}
	if err := checkLogStream(m.GetStream()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing()) })() //nolint:contextcheck // the server's life, not the call's
	q := LogQuery{Instance: id, Stream: LogStream(m.GetStream()), Follow: m.GetFollow(), Tail: int(m.GetTailLines())}
	err = s.agent.Logs(ctx, q, func(p LogPiece) error {
		return stream.Send(&api.StreamLogsResponse{
			Stream: api.LogStream(p.Stream), Data: p.Data, Time: wire.StdTime(p.Time), Dropped: p.Dropped,
		})
	})
	if s.closing.Err() != nil && err != nil {
		return errClosing()
	}
	return err
}
