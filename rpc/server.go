package rpc

import (
	"context"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// Config configures a [Server]. The interfaces are required; zero in any other
// field means its default.
type Config struct {
	State      State
	Log        Log
	Scheduler  Scheduler
	Leadership Leadership
	Cluster    Cluster
	Modules    Modules
	// Calls carries out the calls of guests that come from nodes, as of the
	// embedded kv. Nil carries out none. It stays the caller's.
	Calls capability.Host
	// PromptReads says that a stale get of kv waits for nothing in Calls once its
	// context has ended, and is at once done with or without it where the answer is
	// at hand, in memory: others may wait for it.
	PromptReads bool

	// Fences is the embedded kv's; nil has none.
	Fences Fences

	// Transport carries what this server sends to the leader and to nodes;
	// [client.NewTransport] makes one. It stays the caller's. Required.
	Transport http.RoundTripper
	// Name is what this server calls itself to the leader when it forwards.
	Name   string
	Logger hclog.Logger // default: discards

	// MaxRequest bounds the message of a call, in bytes; default 4 MiB.
	// StartInstance may have a module besides.
	MaxRequest int64
	// MaxModule bounds a module, in bytes; default [wasmatrix.DefaultMaxModule].
	MaxModule int64
	// LeaderWait is how long a request waits for a leader to be known before it
	// fails with NO_LEADER; default 5 s.
	LeaderWait time.Duration
	// CallTimeout bounds a call whose client set no deadline; default 30 s.
	// Streams have none.
	CallTimeout time.Duration

	// Inspect tells what the bytes of a module are, so that a strict start can be
	// refused before they are stored; default: they are stored first.
	Inspect func([]byte) (*wasmatrix.Module, error)
	// Ready says why this server should be given no requests, nil if it should;
	// default: ready while a leader is known.
	Ready func(context.Context) error
	// Authenticate judges every call before its body is read, and returns the
	// context that its handler gets. Forwarded calls are judged where they
	// arrive, with the headers of the client. Nil lets everyone in.
	Authenticate func(ctx context.Context, procedure string, header http.Header) (context.Context, error)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.MaxRequest == 0 {
		c.MaxRequest = maxCall
	}
	if c.MaxModule == 0 {
		c.MaxModule = wasmatrix.DefaultMaxModule
	}
	if c.LeaderWait == 0 {
		c.LeaderWait = 5 * time.Second
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = 30 * time.Second
	}
	if c.Ready == nil {
		c.Ready = func(context.Context) error {
			if _, _, known := c.Leadership.Leader(); !known {
				return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "no leader is known")
			}
			return nil
		}
	}
	return c
}

// Server is the API of one server: an [http.Handler] for [Serve].
type Server struct {
	cfg     Config
	handler http.Handler
	agents  *client.Agents
	feed    *feed
	calls   *carrying

	preparing chan struct{} // has one for each module that is being offered to nodes

	mu     sync.Mutex
	closed bool           // guarded by mu: no work begins
	work   sync.WaitGroup // what goes on behind calls; Add with mu held

	closing context.Context //nolint:containedctx // of everything that lasts as long as the server
	close   context.CancelFunc
	once    sync.Once
}

// NewServer makes the API of a server. Close it.
func NewServer(cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, agents: client.NewAgents(cfg.Transport), feed: newFeed(cfg.State), preparing: make(chan struct{}, maxPreparing)}
	s.closing, s.close = context.WithCancel(context.Background())

	e := &edge{
		log: cfg.Logger, callTimeout: cfg.CallTimeout, maxCall: cfg.MaxRequest, maxModule: cfg.MaxModule, authenticate: cfg.Authenticate,
		forward: &forwarder{
			leadership: cfg.Leadership, transport: cfg.Transport, name: cfg.Name, wait: cfg.LeaderWait,
			callTimeout: cfg.CallTimeout, log: cfg.Logger,
		},
	}
	opts := e.options()
	e.handle(apiconnect.NewInstanceServiceHandler(&instances{s}, opts...))
	e.handle(apiconnect.NewCapabilityServiceHandler(&capabilities{s}, opts...))
	e.handle(apiconnect.NewProviderServiceHandler(&providers{s}, opts...))
	e.handle(apiconnect.NewModuleServiceHandler(&modules{s}, opts...))
	e.handle(apiconnect.NewModuleReplicationServiceHandler(&replication{s}, opts...))
	e.handle(apiconnect.NewNodeServiceHandler(&nodes{s}, opts...))
	e.handle(apiconnect.NewEventServiceHandler(&events{s}, opts...))
	e.handle(apiconnect.NewClusterServiceHandler(&clusters{s}, opts...))
	s.calls = e.carry(cfg.Calls, s.closing, cfg.PromptReads)
	e.handle(apiconnect.NewControlServiceHandler(&control{Server: s}, opts...))
	services := []string{
		apiconnect.InstanceServiceName, apiconnect.CapabilityServiceName, apiconnect.ProviderServiceName, apiconnect.ModuleServiceName,
		apiconnect.ModuleReplicationServiceName, apiconnect.NodeServiceName, apiconnect.EventServiceName,
		apiconnect.ClusterServiceName, apiconnect.ControlServiceName,
	}
	e.handle(grpchealth.NewHandler(&health{services: services, ready: cfg.Ready}, opts...))
	reflector := grpcreflect.NewStaticReflector(append(services, grpchealth.HealthV1ServiceName)...)
	e.handle(grpcreflect.NewHandlerV1(reflector, opts...))
	e.handle(grpcreflect.NewHandlerV1Alpha(reflector, opts...))
	e.probes(cfg.Ready)
	s.handler = e.handler()
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends the streams that would go on for ever, with COMMUNICATION_FAILURE,
// so that their clients turn to another server. Calls under way are not
// disturbed: shutting down the HTTP server waits for them.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.close()
		s.feed.close()
		s.work.Wait()
	})
	return nil
}

// Drain waits for the links over which calls of guests are carried out, and breaks
// those that are left when ctx ends. Close has ended what goes on for ever on them.
func (s *Server) Drain(ctx context.Context) { s.calls.links.drain(ctx) }

// begin runs f on a goroutine that Close waits for; f must end with closing. It
// returns false once the server is closed.
func (s *Server) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Go(f)
	return true
}

// errClosing ends the streams of a server that shuts down.
func errClosing() error {
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "this server is shutting down").
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// errReplaced ends the watches of a state that was replaced: who watched has to
// begin anew.
func errReplaced() error {
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "the state was replaced by that of a snapshot").
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// read returns the state, current as of the call unless stale will do. Where this
// server does not lead it fails with NOT_LEADER or NO_LEADER, and the edge sends
// the call to the leader.
func (s *Server) read(ctx context.Context, stale bool) (wasmatrix.Snapshot, error) {
	if !stale {
		if err := leading(s.cfg.Leadership); err != nil {
			return nil, err
		}
		if err := s.cfg.Log.Read(ctx); err != nil {
			return nil, err
		}
	}
	return s.cfg.State.Snapshot(), nil
}
