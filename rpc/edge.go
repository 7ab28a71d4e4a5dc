package rpc

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Bounds of what is read, in bytes.
const (
	maxCall     = 4 << 20  // a message of a call by users, unless configured
	maxPart     = 1 << 20  // a message of a stream
	maxInternal = 64 << 20 // a message between processes of the cluster: a node may hold 100,000 instances
	maxKept     = 256 << 10
)

// How long a client may take to send a body. Calls are small; streams may go on
// for as long as pieces keep coming.
const (
	firstBytesTimeout = 30 * time.Second
	restTimeout       = 5 * time.Minute
	partTimeout       = time.Minute
)

// edge is what stands between HTTP and the services of a process: the mux, and
// around every procedure the [exchange] and the forwarding.
type edge struct {
	mux          http.ServeMux
	log          hclog.Logger
	callTimeout  time.Duration
	maxCall      int64
	maxModule    int64
	authenticate func(context.Context, string, http.Header) (context.Context, error)
	forward      *forwarder // nil in a node process
}

// procedure is what the edge must know of one before its message is decoded.
type procedure struct {
	leader bool // only the leader can do it
	stream bool // the client sends a stream, which cannot be kept to be sent again
	// answers says that the server sends a stream, which must be passed on piece by piece.
	answers bool
	// refusable says that a handler may refuse a stream after its first message,
	// which then can be sent elsewhere: only that message says where.
	refusable bool
	// local says that another server is not asked, whatever this one answers.
	local bool
}

// procedures lists those that differ from a call that every server answers.
var procedures = map[string]procedure{
	apiconnect.InstanceServiceStartInstanceProcedure:        {leader: true},
	apiconnect.InstanceServiceStopInstanceProcedure:         {leader: true},
	apiconnect.InstanceServiceRestartInstanceProcedure:      {leader: true},
	apiconnect.CapabilityServiceAssignCapabilityProcedure:   {leader: true},
	apiconnect.CapabilityServiceRevokeCapabilityProcedure:   {leader: true},
	apiconnect.ProviderServiceStartProviderProcedure:        {leader: true},
	apiconnect.ProviderServiceStopProviderProcedure:         {leader: true},
	apiconnect.ProviderServiceUpdateProviderProcedure:       {leader: true},
	apiconnect.ProviderServiceRemoveProviderProcedure:       {leader: true},
	apiconnect.ModuleServicePushModuleProcedure:             {leader: true, stream: true},
	apiconnect.ModuleServiceRemoveModuleProcedure:           {leader: true},
	apiconnect.ModuleReplicationServiceStoreModuleProcedure: {stream: true},
	apiconnect.NodeServiceDrainNodeProcedure:                {leader: true},
	apiconnect.ClusterServiceListPeersProcedure:             {leader: true},
	apiconnect.ClusterServiceRemovePeerProcedure:            {leader: true},
	apiconnect.ClusterServiceTransferLeadershipProcedure:    {leader: true},
	apiconnect.ClusterServiceSaveSnapshotProcedure:          {answers: true},
	apiconnect.InstanceServiceStreamLogsProcedure:           {answers: true},
	apiconnect.EventServiceWatchEventsProcedure:             {answers: true},
	apiconnect.InstanceServiceWatchInstancesProcedure:       {answers: true},
	apiconnect.ClusterServiceRestoreSnapshotProcedure:       {stream: true, refusable: true},
	apiconnect.ControlServiceRegisterProcedure:              {leader: true},
	apiconnect.ControlServiceRenewProcedure:                 {leader: true},
	apiconnect.ControlServiceReportStatusProcedure:          {leader: true},
	apiconnect.ControlServiceReportDenialsProcedure:         {leader: true},
	apiconnect.ControlServiceGetGrantsProcedure:             {local: true},
	apiconnect.ControlServiceRaiseFencesProcedure:           {local: true},
	reflectV1:      {stream: true},
	reflectV1Alpha: {stream: true},
}

const (
	reflectV1      = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
	reflectV1Alpha = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
)

// options are those of every handler: the one interceptor chain, and the limits.
func (e *edge) options() []connect.HandlerOption {
	opts := []connect.HandlerOption{
		connect.WithInterceptors(&interceptor{log: e.log, callTimeout: e.callTimeout}),
		connect.WithCompressMinBytes(16 << 10),
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			return []connect.HandlerOption{connect.WithReadMaxBytes(int(e.limit(spec.Procedure)))}
		}),
	}
	if e.authenticate != nil {
		opts = append(opts, connect.WithRequestGate(e.gate))
	}
	return opts
}

// gate is the place of authentication: before anything of the body is read.
func (e *edge) gate(ctx context.Context, spec connect.Spec, _ connect.Peer, header http.Header) (context.Context, error) {
	out, err := e.authenticate(ctx, spec.Procedure, header)
	if err == nil {
		return out, nil
	}
	if x, ok := exchangeOf(ctx); ok {
		x.failed(wire.Coded(err))
	}
	return nil, wire.ToConnect(err)
}

// limit is the size of one message of a procedure, in bytes on the wire.
func (e *edge) limit(path string) int64 {
	service, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case path == apiconnect.InstanceServiceStartInstanceProcedure:
		return e.maxModule/3*4 + e.maxCall // module_bytes are base64 in JSON
	case path == apiconnect.InstanceServiceInvokeInstanceProcedure:
		return wasmatrix.MaxInvokeData/3*4 + e.maxCall // data is, too
	case service == apiconnect.ControlServiceName, service == apiconnect.NodeAgentServiceName:
		return maxInternal
	case procedures[path].stream:
		return maxPart
	default:
		return e.maxCall
	}
}

func (e *edge) handle(path string, h http.Handler) { e.mux.Handle(path, h) }

// carry has calls of guests carried out until closing ends.
func (e *edge) carry(host capability.Host, closing context.Context, prompt bool) *carrying { //nolint:revive // it is not this call's
	c := &carrying{host: host, closing: closing, prompt: prompt, timeout: e.callTimeout, log: e.log, authenticate: e.authenticate}
	e.handle(http.MethodGet+" "+wire.CallsPath, c)
	return c
}

// handler is the whole of the process's HTTP.
func (e *edge) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := e.mux.Handler(r)
		if strings.HasPrefix(pattern, http.MethodGet+" ") {
			h.ServeHTTP(w, r)
			return
		}
		x := newExchange(w, r)
		defer x.finish()
		if pattern == "" {
			x.refuse(http.StatusNotFound, connect.CodeUnimplemented,
				wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "there is no procedure at %s", r.URL.Path))
			return
		}
		e.serve(x, h) //nolint:contextcheck // it is in the request
	})
}

// serve handles one call: what of it can be judged by its headers, the body's
// time and size, and where it is executed.
func (e *edge) serve(x *exchange, here http.Handler) {
	r := x.request
	timeout, err := readTimeout(r.Header)
	if err == nil {
		err = checkEncoding(r.Header)
	}
	if err != nil {
		x.refuse(0, connect.CodeInvalidArgument, wasmatrix.AsError(err))
		return
	}
	p := procedures[r.URL.Path]
	forwarded := r.Header.Get(wire.HeaderForwarded) != ""
	if forwarded && p.leader && e.forward != nil {
		if err := leading(e.forward.leadership); err != nil {
			x.refuse(0, 0, err)
			return
		}
	}
	c := &call{exchange: x, procedure: p, timeout: timeout, start: time.Now(), here: here}
	defer c.release()
	if err := c.takeBody(e.limit(r.URL.Path)); err != nil {
		x.refuse(0, 0, wasmatrix.AsError(err))
		return
	}
	if forwarded || e.forward == nil || p.local {
		here.ServeHTTP(x, c.local())
		return
	}
	e.forward.serve(c)
}

// call is a request on its way to where it is executed.
type call struct {
	*exchange
	procedure procedure
	timeout   time.Duration // that the client asked for; 0 is none
	start     time.Time
	here      http.Handler

	kept  []byte    // the body, or its beginning
	rest  io.Reader // what follows kept; nil where kept is everything
	first *recorder // rest, where that may be read again from its start

	ctx    context.Context //nolint:containedctx // see context; nil until it is wanted
	cancel context.CancelFunc
}

// context is the request's, with the deadline that the client asked for. It is
// for what happens beyond this process: a handler here sets its own.
func (c *call) context() context.Context {
	if c.ctx == nil {
		c.ctx = c.request.Context()
		if c.timeout > 0 {
			c.ctx, c.cancel = context.WithDeadline(c.ctx, c.start.Add(c.timeout))
		}
	}
	return c.ctx
}

// release gives the connection back without the deadline of this body.
func (c *call) release() {
	if c.cancel != nil {
		c.cancel()
	}
	if c.rest != nil {
		_ = http.NewResponseController(c.ResponseWriter).SetReadDeadline(time.Time{})
	}
}

// local is the request for the handlers of this process.
func (c *call) local() *http.Request {
	r := c.request.WithContext(context.WithValue(c.request.Context(), exchangeKey{}, c.exchange))
	if r.Method != http.MethodGet {
		// Closing is left to the HTTP server, since the body may be needed again.
		r.Body = io.NopCloser(c.body())
	}
	return r
}

// checkEncoding refuses what Connect could not decompress, before it would
// refuse in words of its own.
func checkEncoding(h http.Header) error {
	for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
		switch h.Get(name) {
		case "", "identity", "gzip":
		default:
			return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "compression %q is not supported: gzip or identity", h.Get(name)).
				With(wasmatrix.DetailField, name)
		}
	}
	return nil
}

// leading fails with NOT_LEADER and a hint, or NO_LEADER, unless this server leads.
func leading(l Leadership) *wasmatrix.Error {
	addr, self, known := l.Leader()
	switch {
	case self:
		return nil
	case !known:
		return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "the cluster has no leader at the moment")
	case addr == "":
		return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "this server does not lead, and does not know yet where the leader is")
	default:
		return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "this server does not lead").With(wasmatrix.DetailLeader, addr)
	}
}
