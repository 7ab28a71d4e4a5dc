package messaging

import (
	"crypto/rand"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/wasmatrix/wasmatrix"
)

// Bounds of a server. They hold for all its connections; what a guest may do is
// bounded before, by the gate.
const (
	// MaxMessage is the largest message, in bytes.
	MaxMessage = 1 << 20
	// serverMaxPending is how many bytes may wait for one connection. Who does not
	// take them is cut off.
	serverMaxPending = 64 << 20
	// serverWriteDeadline is how long a connection may take nothing.
	serverWriteDeadline = 5 * time.Second
	serverMaxConns      = 64 << 10 // two of each node
	serverMaxSubs       = 1 << 19  // of one connection
	serverMaxClosed     = 16       // connections remembered after their end
	serverPing          = 2 * time.Second
	serverPingsOut      = 2
	serverStart         = 10 * time.Second // to listen
)

// ServerConfig says where a [Server] listens and whom it serves.
type ServerConfig struct {
	Name string // for the logs of others
	// Bind is the host to listen on, for clients and for routes.
	Bind string
	// ClientPort and RoutePort are the ports there; 0 picks free ones.
	ClientPort, RoutePort int
	// Advertise is the host by which others reach the server; "" is Bind, which
	// must then be one.
	Advertise string
	// Cluster is the name that servers must share to route to one another. It
	// keeps clusters apart of which one has taken over an address of the other. ""
	// refuses all routes until [Server.SetCluster].
	Cluster string
	// Token is what clients must present; "" admits everybody.
	Token string
	// RouteUser and RoutePassword are what servers present to one another, the same
	// on all; "" admits everybody.
	RouteUser, RoutePassword string
	Logger                   hclog.Logger // nil logs nothing
}

// unnamed begins the name of a cluster that is not known yet, which nobody else has.
const unnamed = "unnamed-"

// ServerAddr is where a server is reached, each host:port.
type ServerAddr struct {
	Client string // for [ClientConfig.Servers]
	Route  string // for [Server.SetPeers] of the others
}

// Server is one server of NATS in this process. Its methods may be called
// concurrently.
type Server struct {
	cfg       ServerConfig
	log       *serverLog
	name      string // for NATS
	nats      *natsserver.Server
	addr      ServerAddr
	responder *nats.Conn

	mu      sync.Mutex // serialises changes; guards what follows
	cluster string     // in force; a name that nobody else has until one is given
	named   bool
	peers   []string // sorted, without the server itself
	closed  bool
}

// OpenServer starts a server and returns when it listens. It listens on the two
// addresses of the config alone, and handles no signals.
func OpenServer(cfg ServerConfig) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Bind == "" {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "messaging has no address to listen on")
	}
	if cfg.Advertise == "" {
		if ip := net.ParseIP(cfg.Bind); ip != nil && ip.IsUnspecified() {
			return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "messaging listens on %s, which is no address to reach it by", cfg.Bind)
		}
		cfg.Advertise = cfg.Bind
	}
	s := &Server{
		cfg: cfg, log: newServerLog(cfg.Logger), cluster: cfg.Cluster, named: cfg.Cluster != "",
		// NATS lets no two servers of one name route to one another.
		name: cfg.Name + "-" + rand.Text()[:8],
	}
	if !s.named {
		s.cluster = unnamed + rand.Text()
	}
	ns, err := natsserver.NewServer(s.options())
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "messaging server: %w", err)
	}
	s.nats = ns
	ns.SetLoggerV2(s.log, cfg.Logger.IsTrace(), false, false)
	ns.Start()
	if err := s.begin(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// begin waits for the listeners and takes up answering.
func (s *Server) begin() error {
	for deadline := time.Now().Add(serverStart); !s.nats.ReadyForConnections(30 * time.Millisecond); {
		if err := s.log.fatal(); err != nil {
			return wasmatrix.Errorf(wasmatrix.CodeValidation, "messaging server: %w", err)
		}
		if time.Now().After(deadline) {
			return wasmatrix.Errorf(wasmatrix.CodeInternal, "messaging server does not listen after %s", serverStart)
		}
	}
	port := func(a net.Addr) string { return strconv.Itoa(a.(*net.TCPAddr).Port) }
	s.addr = ServerAddr{
		Client: net.JoinHostPort(s.cfg.Advertise, port(s.nats.Addr())),
		Route:  net.JoinHostPort(s.cfg.Advertise, port(s.nats.ClusterAddr())),
	}
	var err error
	if s.responder, err = respond(s.nats, s.addr.Client, s.cfg.Token); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "messaging server: %w", err)
	}
	return nil
}

// options makes the options in force from the state of s. NATS compares those it
// is given with those it has, so they are made anew from the same each time.
func (s *Server) options() *natsserver.Options {
	o := &natsserver.Options{
		ServerName: s.name, Host: s.cfg.Bind, Port: orAny(s.cfg.ClientPort),
		NoSigs: true, NoSystemAccount: true,
		MaxConn: serverMaxConns, MaxSubs: serverMaxSubs, MaxPayload: MaxMessage, MaxPending: serverMaxPending,
		WriteDeadline: serverWriteDeadline, MaxClosedClients: serverMaxClosed,
		PingInterval: serverPing, MaxPingsOut: serverPingsOut,
		Authorization: s.cfg.Token,
		Cluster: natsserver.ClusterOpts{
			Name: s.cluster, Host: s.cfg.Bind, Port: orAny(s.cfg.RoutePort),
			Username: s.cfg.RouteUser, Password: s.cfg.RoutePassword,
			// The port is the one that is listened on.
			Advertise: net.JoinHostPort(s.cfg.Advertise, "0"),
			// Clients learn servers from the member list.
			NoAdvertise: true,
			// There is one account, whose messages take one connection anyway.
			PoolSize:     -1,
			PingInterval: serverPing, MaxPingsOut: serverPingsOut, WriteDeadline: serverWriteDeadline,
		},
	}
	if !s.named {
		return o
	}
	for _, p := range s.peers {
		u := &url.URL{Scheme: "nats-route", Host: p}
		if s.cfg.RouteUser != "" {
			u.User = url.UserPassword(s.cfg.RouteUser, s.cfg.RoutePassword)
		}
		o.Routes = append(o.Routes, u)
	}
	return o
}

func orAny(port int) int {
	if port == 0 {
		return natsserver.RANDOM_PORT
	}
	return port
}

// Addr returns where the server is reached.
func (s *Server) Addr() ServerAddr { return s.addr }

// SetPeers says where the other servers are: the Route addresses of all that are
// members now, in any order; the server's own among them is left out. Those that
// are new are dialled until they answer. Routes to those that are gone end, unless
// the other end still lists this server: then it dials again, and is admitted.
// It does not wait for routes.
func (s *Server) SetPeers(routes []string) error {
	peers := slices.Clone(routes)
	for _, p := range peers {
		if host, port, err := net.SplitHostPort(p); err != nil || host == "" || port == "" {
			return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "route %q is not of the form host:port", p)
		}
	}
	slices.Sort(peers)
	peers = slices.Compact(peers)
	peers = slices.DeleteFunc(peers, func(p string) bool { return p == s.addr.Route })
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(peers, s.peers) {
		return nil
	}
	s.peers = peers
	return s.reload()
}

// SetCluster gives the name that the config left out. It cannot be changed.
func (s *Server) SetCluster(name string) error {
	if name == "" {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the name of a messaging cluster is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named {
		if name != s.cluster {
			return wasmatrix.Errorf(wasmatrix.CodeConflict, "messaging is of cluster %q and cannot be of %q", s.cluster, name)
		}
		return nil
	}
	s.cluster, s.named = name, true
	return s.reload()
}

func (s *Server) reload() error {
	if s.closed {
		return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "messaging server is closed")
	}
	if err := s.nats.ReloadOptions(s.options()); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "messaging server: %w", err)
	}
	return nil
}

// Routes returns how many other servers are connected with this one.
func (s *Server) Routes() int { return s.nats.NumRemotes() }

// Close ends all connections and returns when the server's goroutines have ended.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.stop()
	}
	return nil
}

func (s *Server) stop() {
	if s.responder != nil {
		s.responder.Close()
	}
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}
