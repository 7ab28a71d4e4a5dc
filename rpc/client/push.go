package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// chunk is the size of one piece of a module or snapshot, in bytes. It is well
// below the limit of a message, and large enough that its overhead is nothing.
const chunk = 256 << 10

// Push is a module to be pushed.
type Push struct {
	// Bytes is read from the start, once for the digest unless it is given, and
	// once for each attempt.
	Bytes  io.ReaderAt
	Size   int64            // bytes
	Digest wasmatrix.Digest // zero: computed
	Name   string           // points this name at the module; "" leaves names alone
	// RequestID makes the effect happen once; "" has one drawn.
	RequestID wasmatrix.RequestID
	// Progress is told how many bytes were handed to the connection; it goes
	// back to zero when an attempt is repeated. May be nil.
	Progress func(sent, total int64)
}

// PushModule sends a module in pieces, from the start again where a server fails
// in between. It returns when a majority of servers has the module.
func (c *Client) PushModule(ctx context.Context, p Push) (*api.PushModuleResponse, error) {
	if p.Digest.IsZero() {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(p.Bytes, 0, p.Size)); err != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the module cannot be read: %w", err)
		}
		h.Sum(p.Digest[:0])
	}
	if p.RequestID == "" {
		p.RequestID = wire.NewRequestID()
	}
	header := &api.PushModuleHeader{RequestId: string(p.RequestID), Digest: p.Digest.String(), SizeBytes: p.Size, Name: p.Name}
	var res *api.PushModuleResponse
	// An attempt has no timeout of its own: how long it takes depends on the size.
	// A dead peer is noticed by the pings of the connection.
	err := c.retrier.do(ctx, apiconnect.ModuleServicePushModuleProcedure, 0, true, func(ctx context.Context) error {
		stream, err := c.Modules.PushModule(ctx)
		if err != nil {
			return err
		}
		res, err = sendModule(stream, header, io.NewSectionReader(p.Bytes, 0, p.Size), p.Progress)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// sendModule sends the header and the bytes of r, and returns the answer. A
// server may answer before it has read everything.
func sendModule[Res any](
	stream *connect.ClientStreamForClientSimple[api.PushModuleRequest, Res], header *api.PushModuleHeader, r io.Reader, progress func(sent, total int64),
) (*Res, error) {
	err := stream.Send(&api.PushModuleRequest{Part: &api.PushModuleRequest_Header{Header: header}})
	buf := make([]byte, chunk)
	for sent := int64(0); err == nil; {
		var n int
		n, err = io.ReadFull(r, buf)
		if n > 0 {
			if err := stream.Send(&api.PushModuleRequest{Part: &api.PushModuleRequest_Data{Data: buf[:n]}}); err != nil {
				break
			}
			sent += int64(n)
			if progress != nil {
				progress(sent, header.GetSizeBytes())
			}
		}
	}
	res, answer := stream.CloseAndReceive()
	if answer == nil {
		return res, nil
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		if _, coded := errors.AsType[*wasmatrix.Error](err); !coded {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the module cannot be read: %w", err)
		}
	}
	return nil, answer
}
