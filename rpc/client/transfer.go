package client

import (
	"context"
	"io"
	"net/http"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Transfer moves module bytes between given processes: no retries, no rotation.
type Transfer struct {
	modules     apiconnect.ModuleServiceClient
	replication apiconnect.ModuleReplicationServiceClient
}

// NewTransfer makes a Transfer over a transport such as that of [NewTransport],
// which stays the caller's.
func NewTransfer(rt http.RoundTripper) *Transfer {
	h := newRouter(rt, nil)
	return &Transfer{
		modules:     apiconnect.NewModuleServiceClient(h, baseURL, internal...),
		replication: apiconnect.NewModuleReplicationServiceClient(h, baseURL, internal...),
	}
}

// Fetch writes the bytes of a module that the server at addr (host:port) has, or
// can get from another server. The caller checks the digest. MODULE_NOT_FOUND
// says that there is none.
func (t *Transfer) Fetch(ctx context.Context, addr string, d wasmatrix.Digest, w io.Writer) error {
	return t.fetch(ctx, addr, d, false, w)
}

// FetchLocal is Fetch from the disk of that server only.
func (t *Transfer) FetchLocal(ctx context.Context, addr string, d wasmatrix.Digest, w io.Writer) error {
	return t.fetch(ctx, addr, d, true, w)
}

func (t *Transfer) fetch(ctx context.Context, addr string, d wasmatrix.Digest, local bool, w io.Writer) error {
	stream, err := t.modules.GetModule(withTarget(ctx, addr), &api.GetModuleRequest{Digest: d.String(), Local: local})
	if err != nil {
		return wire.FromConnect(err)
	}
	defer stream.Close()
	var size, got int64
	for first := true; stream.Receive(); first = false {
		if first {
			size = stream.Msg().GetSizeBytes()
		}
		n, err := w.Write(stream.Msg().GetData())
		got += int64(n)
		if err != nil {
			return wasmatrix.Errorf(wasmatrix.CodeStorage, "module %s cannot be written: %w", d.Short(), err)
		}
	}
	if err := stream.Err(); err != nil {
		return wire.FromConnect(err)
	}
	if got != size {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "%s sent %d of %d bytes of module %s", addr, got, size, d.Short())
	}
	return nil
}

// Store has the server at addr (host:port) put size bytes of r on its disk, and
// returns when they are synchronised.
func (t *Transfer) Store(ctx context.Context, addr string, d wasmatrix.Digest, size int64, r io.Reader) error {
	stream, err := t.replication.StoreModule(withTarget(ctx, addr))
	if err != nil {
		return wire.FromConnect(err)
	}
	_, err = sendModule(stream, &api.PushModuleHeader{Digest: d.String(), SizeBytes: size}, r, nil)
	if err != nil {
		return wire.FromConnect(err)
	}
	return nil
}

// internal are the options of clients within the cluster: no repetition, and no
// compression, which costs more than it saves between machines that are close.
var internal = []connect.ClientOption{connect.WithInterceptors(codedErrors{}), connect.WithAcceptCompression("gzip", nil, nil)}

// codedErrors is the interceptor of clients that do not repeat calls.
type codedErrors struct{}

func (codedErrors) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err != nil {
			return nil, wire.FromConnect(err)
		}
		return res, nil
	}
}

func (codedErrors) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (codedErrors) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		return &codedConn{StreamingClientConn: next(ctx, spec)}
	}
}
