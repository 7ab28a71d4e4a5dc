package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Bounds of what is read, in bytes.
const (
	maxCall     = 4 << 20  // a message of a call by users, unless configured
	maxPart     = 1 << 20  // a message of a stream
	maxInternal = 64 << 20 // a message between processes of the cluster: a node may hold 100,000 instances
	maxKept     = 256 << 10

	lastingBuffer = 64 << 10
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
	// lasting says that the stream stays open while nothing comes.
	lasting bool
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
	apiconnect.ProviderCallServiceCarryProcedure:            {stream: true, answers: true, lasting: true, local: true},
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
	case path == apiconnect.ProviderCallServiceCarryProcedure:
		return wire.MaxCarry
	case procedures[path].stream:
		return maxPart
	default:
		return e.maxCall
	}
}

func (e *edge) handle(path string, h http.Handler) { e.mux.Handle(path, h) }

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

// takeBody reads a small body whole, so that it can be sent twice, and bounds
// the time and size of a larger one.
func (c *call) takeBody(limit int64) error {
	r := c.request
	if r.Method == http.MethodGet || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if c.procedure.lasting {
		// Whoever is gone is noticed by the pings of the connection. Messages are
		// small and many, and each Read has a price.
		c.rest = bufio.NewReaderSize(r.Body, lastingBuffer)
		return nil
	}
	deadlines := http.NewResponseController(c.ResponseWriter)
	if c.procedure.stream {
		c.rest = &patientReader{r: r.Body, deadlines: deadlines}
		if c.procedure.refusable {
			c.first = &recorder{r: c.rest}
			c.rest = c.first
		}
		return nil
	}
	// Envelopes and compression may add to the message; Connect enforces the
	// limit itself, on what it decodes.
	if most := limit + maxPart; r.ContentLength > most {
		return bodyError(&http.MaxBytesError{Limit: most})
	}
	body := http.MaxBytesReader(c.ResponseWriter, r.Body, limit+maxPart)
	release := boundReading(deadlines, firstBytesTimeout)
	first, err := readUpTo(body, r.ContentLength, maxKept+1)
	release()
	if err != nil {
		return bodyError(err)
	}
	c.kept = first
	if len(first) <= maxKept {
		return nil
	}
	_ = deadlines.SetReadDeadline(time.Now().Add(restTimeout))
	c.rest = body
	return nil
}

// boundReading ends the reading of a body after d, unless it is released
// before. Most bodies are there at once: for them a timer of our own is cheaper
// than a deadline, which HTTP/2 passes to another goroutine twice a call.
func boundReading(deadlines *http.ResponseController, d time.Duration) (release func()) {
	ended := make(chan struct{})
	t := time.AfterFunc(d, func() {
		defer close(ended)
		_ = deadlines.SetReadDeadline(time.Unix(1, 0)) // not supported in some tests: then there is none
	})
	return func() {
		if !t.Stop() {
			<-ended
			_ = deadlines.SetReadDeadline(time.Time{})
		}
	}
}

// readUpTo reads to the end, but at most limit bytes. Length is what the client
// announced, or negative; it is a hint only.
func readUpTo(r io.Reader, length, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	if length >= 0 {
		// One more than there is, and what Buffer wants, so that it need not grow to see the end.
		buf.Grow(int(min(length, limit)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(r, limit))
	return buf.Bytes(), err
}

// bodyError says why a body could not be read.
func bodyError(err error) *wasmatrix.Error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the request has more than %d bytes", tooLarge.Limit)
	}
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the request's body broke off: %w", err)
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

// whole reports whether the body is kept, so that the call can be made again.
func (c *call) whole() bool { return c.rest == nil }

// again reports whether the body can be read once more from its start.
func (c *call) again() bool { return c.whole() || c.first != nil && !c.first.lost }

// body is a reader of the body from its start. Unless again, it can be read once.
func (c *call) body() io.Reader {
	switch {
	case c.whole():
		return bytes.NewReader(c.kept)
	case c.first != nil:
		return c.first.start()
	}
	return io.MultiReader(bytes.NewReader(c.kept), c.rest)
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

// recorder keeps the beginning of a body while that is about one message, so that
// it can be read once more.
type recorder struct {
	r    io.Reader
	kept []byte
	lost bool // more was read than is kept
}

// maxRecorded has a message with its envelope, in bytes, and what a reader may
// take besides.
const maxRecorded = maxPart + 64<<10

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	switch {
	case r.lost:
	case len(r.kept)+n > maxRecorded:
		r.kept, r.lost = nil, true
	default:
		r.kept = append(r.kept, b[:n]...)
	}
	return n, err
}

// start is a reader from the start, of what is not lost.
func (r *recorder) start() io.Reader {
	return io.MultiReader(bytes.NewReader(slices.Clone(r.kept)), r)
}

// patientReader waits for each piece of a stream, but not for ever.
type patientReader struct {
	r         io.Reader
	deadlines *http.ResponseController
}

func (p *patientReader) Read(b []byte) (int, error) {
	_ = p.deadlines.SetReadDeadline(time.Now().Add(partTimeout))
	return p.r.Read(b)
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
