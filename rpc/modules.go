package rpc

import (
	"context"
	"io"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// modules serves ModuleService.
type modules struct{ *Server }

// moduleStream is a module that comes in pieces, after its header.
type moduleStream struct {
	header *api.PushModuleHeader
	digest wasmatrix.Digest
	bytes  io.Reader
}

// receiveModule reads the header and checks it. Reading the bytes fails where
// there are more than it says; whether they are all, and the right ones, is for
// the module room.
func (s *Server) receiveModule(stream *connect.ClientStream[api.PushModuleRequest]) (*moduleStream, error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the stream is empty: a header comes first")
	}
	header := stream.Msg().GetHeader()
	if header == nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a header comes first").With(wasmatrix.DetailField, "header")
	}
	digest, err := wasmatrix.ParseDigest(header.GetDigest())
	if err != nil {
		return nil, field(err, "header.digest")
	}
	if err := s.checkModuleSize(header.GetSizeBytes()); err != nil {
		return nil, err
	}
	if name := header.GetName(); name != "" {
		if err := wasmatrix.ValidateName("module name", name); err != nil {
			return nil, field(err, "header.name")
		}
	}
	left := header.GetSizeBytes()
	return &moduleStream{header: header, digest: digest, bytes: &partReader{next: func() ([]byte, error) {
		if !stream.Receive() {
			if err := stream.Err(); err != nil {
				return nil, err
			}
			return nil, io.EOF
		}
		if stream.Msg().GetHeader() != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a second header").With(wasmatrix.DetailField, "header")
		}
		data := stream.Msg().GetData()
		if left -= int64(len(data)); left < 0 {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the module has more than the %d bytes that its header says", header.GetSizeBytes()).
				With(wasmatrix.DetailField, "header.size_bytes")
		}
		return data, nil
	}}}, nil
}

func (s *Server) moduleTo(snap wasmatrix.Snapshot, m *wasmatrix.Module) *api.Module {
	return wire.ModuleTo(m, snap.ModuleNames(m.Digest), snap.ModuleUsers(m.Digest))
}

func (s *modules) PushModule(ctx context.Context, stream *connect.ClientStream[api.PushModuleRequest]) (*api.PushModuleResponse, error) {
	in, err := s.receiveModule(stream)
	if err != nil {
		return nil, err
	}
	req, _, answered, err := s.request(in.header)
	if err != nil {
		return nil, err
	}
	if m, ok := s.cfg.State.Snapshot().Module(in.digest); ok && answered {
		return &api.PushModuleResponse{Module: s.moduleTo(s.cfg.State.Snapshot(), m), Existed: true}, nil
	}
	m, existed, err := s.cfg.Modules.Push(ctx, ModuleHeader{Request: req, Digest: in.digest, Size: in.header.GetSizeBytes(), Name: in.header.GetName()}, in.bytes)
	if err != nil {
		return nil, err
	}
	if !existed {
		s.prepare(m.Digest) //nolint:contextcheck // outlives the call
	}
	return &api.PushModuleResponse{Module: s.moduleTo(s.cfg.State.Snapshot(), m), Existed: existed}, nil
}

func (s *modules) GetModule(ctx context.Context, m *api.GetModuleRequest, stream *connect.ServerStream[api.GetModuleResponse]) error {
	digest, err := wasmatrix.ParseDigest(m.GetDigest())
	if err != nil {
		return field(err, "digest")
	}
	r, size, err := s.cfg.Modules.Open(ctx, digest, m.GetLocal())
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, partSize)
	res := &api.GetModuleResponse{SizeBytes: size}
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			res.Data = buf[:n]
			if err := stream.Send(res); err != nil {
				return err
			}
			res.SizeBytes = 0
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return wasmatrix.Errorf(wasmatrix.CodeStorage, "module %s cannot be read: %w", digest.Short(), err)
		}
	}
}

func (s *modules) InspectModule(ctx context.Context, m *api.InspectModuleRequest) (*api.InspectModuleResponse, error) {
	snap, err := s.read(ctx, m.GetStale())
	if err != nil {
		return nil, err
	}
	found, err := findModule(snap, m.GetModule())
	if err != nil {
		return nil, err
	}
	return &api.InspectModuleResponse{Module: s.moduleTo(snap, found)}, nil
}

func (s *modules) ListModules(ctx context.Context, m *api.ListModulesRequest) (*api.ListModulesResponse, error) {
	snap, err := s.read(ctx, m.GetStale())
	if err != nil {
		return nil, err
	}
	res := &api.ListModulesResponse{}
	for mod := range snap.Modules() {
		res.Modules = append(res.Modules, s.moduleTo(snap, mod))
	}
	return res, nil
}

func (s *modules) RemoveModule(ctx context.Context, m *api.RemoveModuleRequest) (*api.RemoveModuleResponse, error) {
	if m.GetModule() == "" {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "no module given").With(wasmatrix.DetailField, "module")
	}
	req, _, answered, err := s.request(m)
	if err != nil {
		return nil, err
	}
	if answered { // the name may be gone with the module
		return &api.RemoveModuleResponse{}, nil
	}
	snap, err := s.read(ctx, false)
	if err != nil {
		return nil, err
	}
	found, err := findModule(snap, m.GetModule())
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Modules.Remove(ctx, req, found.Digest); err != nil {
		return nil, err
	}
	return &api.RemoveModuleResponse{}, nil
}

// replication serves ModuleReplicationService.
type replication struct{ *Server }

func (s *replication) StoreModule(ctx context.Context, stream *connect.ClientStream[api.PushModuleRequest]) (*api.StoreModuleResponse, error) {
	in, err := s.receiveModule(stream)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Modules.Store(ctx, in.digest, in.header.GetSizeBytes(), in.bytes); err != nil {
		return nil, err
	}
	return &api.StoreModuleResponse{}, nil
}
