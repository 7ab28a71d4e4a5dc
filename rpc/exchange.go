package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// exchange is one request and its response. It stands between net/http and
// Connect to do what interceptors cannot: give failures that Connect finds
// before any interceptor runs (a message that is malformed or too large, a
// procedure or content type that does not exist) the detail that every failure
// has; and take back what was answered here, to have the leader answer.
//
// It is used by the goroutine that serves the request.
type exchange struct {
	http.ResponseWriter
	request *http.Request

	started bool // the client was sent something
	coded   bool // the failure under way carries its detail
	// held is the HTTP status of a failure without detail, whose body is kept
	// back too; 0 is none.
	held int
	body bytes.Buffer

	redirectable func() bool      // reports whether the call can be made again; nil is never
	moved        *wasmatrix.Error // why it must be, once it was refused here; what is written is dropped
}

type exchangeKey struct{}

// exchangeOf finds the exchange of a call from its handler's context.
func exchangeOf(ctx context.Context) (*exchange, bool) {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	return x, ok
}

func newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	return &exchange{ResponseWriter: w, request: r}
}

// failed is told of a failure that will be sent with its detail.
func (x *exchange) failed(e *wasmatrix.Error) {
	x.coded = true
	if x.started {
		return
	}
	if (e.Code == wasmatrix.CodeNotLeader || e.Code == wasmatrix.CodeNoLeader) && x.redirectable != nil && x.redirectable() {
		x.moved = e
		return
	}
	x.Header().Set(wire.HeaderCode, string(e.Code))
}

// reset forgets what was refused here, so that the call can be made again.
func (x *exchange) reset() {
	clear(x.Header())
	x.moved, x.coded, x.held, x.redirectable = nil, false, 0, nil
	x.body.Reset()
}

// WriteHeader implements [http.ResponseWriter].
func (x *exchange) WriteHeader(status int) {
	switch {
	case x.moved != nil || x.started || x.held != 0:
	case status >= 400 && !x.coded:
		x.held = status
	default:
		x.started = status >= 200
		x.ResponseWriter.WriteHeader(status)
	}
}

// maxHeldBody bounds what is kept of the body of a failure, in bytes.
const maxHeldBody = 64 << 10

// Write implements [http.ResponseWriter].
func (x *exchange) Write(b []byte) (int, error) {
	if x.moved == nil && x.held == 0 {
		x.started = true
		return x.ResponseWriter.Write(b)
	}
	if x.held != 0 {
		x.body.Write(b[:min(len(b), max(maxHeldBody-x.body.Len(), 0))])
	}
	return len(b), nil
}

// Flush implements [http.Flusher], which Connect demands for streams. Before
// anything was written it does nothing: a failure may still have to be changed.
func (x *exchange) Flush() {
	if x.started && x.moved == nil {
		_ = http.NewResponseController(x.ResponseWriter).Flush()
	}
}

// Unwrap serves [http.ResponseController].
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// errorWriter writes errors as the protocol of a request wants them. It has no state.
var errorWriter = connect.NewErrorWriter()

// refuse answers with e. Code is Connect's, 0 for that of the table. Status is
// the HTTP status in the protocols that express failures by one, 0 for that of
// the code.
func (x *exchange) refuse(status int, code connect.Code, e *wasmatrix.Error) {
	if x.started {
		return
	}
	x.coded, x.held, x.moved = true, 0, nil
	h := x.Header()
	for name := range h {
		if name != "Allow" && name != "Accept-Post" && name != "Upgrade" {
			delete(h, name)
		}
	}
	h.Set(wire.HeaderCode, string(e.Code))
	ce := wire.ToConnect(e)
	if code != 0 {
		ce = wire.WithCode(code, e)
	}
	var w http.ResponseWriter = x
	if status != 0 && !x.grpc() && !x.streaming() {
		w = &statusWriter{exchange: x, status: status}
	}
	// A client that is gone hears no error.
	_ = errorWriter.Write(w, x.request, ce)
}

// statusWriter replaces the HTTP status.
type statusWriter struct {
	*exchange
	status int
}

func (w *statusWriter) WriteHeader(int) { w.exchange.WriteHeader(w.status) }

func (x *exchange) contentType() string { return x.request.Header.Get("Content-Type") }
func (x *exchange) grpc() bool          { return strings.HasPrefix(x.contentType(), "application/grpc") }
func (x *exchange) streaming() bool {
	return strings.HasPrefix(x.contentType(), "application/connect+")
}

// finish completes a failure that was sent without its detail. Call it last.
func (x *exchange) finish() {
	if x.started {
		return
	}
	if x.held != 0 {
		status, code, e := x.heldError()
		x.refuse(status, code, e)
		return
	}
	if !x.grpc() {
		return
	}
	if code, message, ok := grpcStatus(x.Header()); ok && !x.coded {
		x.refuse(0, code, wire.Coded(connect.NewError(code, errors.New(message))))
	}
	// The flush that was held back: without it net/http may forget trailers that
	// follow no body (golang/go#54723).
	_ = http.NewResponseController(x.ResponseWriter).Flush()
}

// heldError reads what Connect, or the mux, wanted to say.
func (x *exchange) heldError() (status int, code connect.Code, e *wasmatrix.Error) {
	var said struct {
		Code    connect.Code `json:"code"`
		Message string       `json:"message"`
	}
	if json.Unmarshal(x.body.Bytes(), &said) == nil && said.Code != 0 {
		return x.held, said.Code, wire.Coded(connect.NewError(said.Code, errors.New(said.Message)))
	}
	invalid := func(code connect.Code, format string, args ...any) (int, connect.Code, *wasmatrix.Error) {
		return x.held, code, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, format, args...)
	}
	switch x.held {
	case http.StatusNotFound:
		return invalid(connect.CodeUnimplemented, "there is no procedure at %s", x.request.URL.Path)
	case http.StatusMethodNotAllowed:
		return invalid(connect.CodeUnimplemented, "method %s is not allowed: %s", x.request.Method, x.Header().Get("Allow"))
	case http.StatusUnsupportedMediaType:
		return invalid(connect.CodeInvalidArgument, "content type %q is not supported: application/json or application/proto for calls, application/connect+json or application/connect+proto for streams, application/grpc", x.contentType())
	case http.StatusHTTPVersionNotSupported:
		return invalid(connect.CodeUnimplemented, "this procedure needs HTTP/2")
	default:
		if x.held < http.StatusInternalServerError {
			return invalid(connect.CodeInvalidArgument, "%s", http.StatusText(x.held))
		}
		return x.held, connect.CodeInternal, wasmatrix.Errorf(wasmatrix.CodeInternal, "%s", http.StatusText(x.held))
	}
}

// grpcStatus finds the failure in the trailers (gRPC) or headers (gRPC-Web) of a
// response without messages.
func grpcStatus(h http.Header) (connect.Code, string, bool) {
	for _, prefix := range []string{http.TrailerPrefix, ""} {
		s := h.Get(prefix + "Grpc-Status")
		if s == "" {
			continue
		}
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n == 0 {
			return 0, "", false
		}
		return connect.Code(n), percentDecode(h.Get(prefix + "Grpc-Message")), true
	}
	return 0, "", false
}

// percentDecode reads a Grpc-Message. What is not encoded stays as it is.
func percentDecode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
