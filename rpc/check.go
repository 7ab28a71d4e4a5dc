package rpc

import (
	"encoding/hex"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// now is the time of a command. It is the leader's, since only it gets here.
func now() wasmatrix.Time { return wasmatrix.TimeOf(time.Now()) }

// request identifies a mutating message and looks whether it was answered
// before, with the instances that it created or concerned.
func (s *Server) request(m proto.Message) (req wasmatrix.Request, before []wasmatrix.InstanceID, answered bool, err error) {
	if req, err = wire.Request(m); err != nil {
		return req, nil, false, err
	}
	before, answered, err = s.cfg.State.Snapshot().Answered(req)
	return req, before, answered, err
}

// field names the field in an error that a validator of the root package gave.
func field(err error, name string) error {
	if err == nil {
		return nil
	}
	return wasmatrix.AsError(err).With(wasmatrix.DetailField, name)
}

func instanceID(s string) (wasmatrix.InstanceID, error) {
	id := wasmatrix.InstanceID(s)
	return id, field(id.Validate(), "instance_id")
}

func instanceNotFound(id wasmatrix.InstanceID) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "there is no instance %s", id)
}

// checkModuleSize refuses an empty module and one over the limit. What the bytes
// must be is for the module room.
func (s *Server) checkModuleSize(size int64) error {
	if size <= 0 {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the module is empty").With(wasmatrix.DetailField, "module")
	}
	if size > s.cfg.MaxModule {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the module has %d bytes, at most %d are allowed", size, s.cfg.MaxModule).
			With(wasmatrix.DetailField, "module")
	}
	return nil
}

func moduleNotFound(ref string) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "there is no module %s", ref)
}

// minDigestPrefix is the least that is taken for the beginning of a digest, in
// hexadecimal digits.
const minDigestPrefix = 4

// findModule resolves a digest, a name, or an unambiguous prefix of a digest, in
// this order.
func findModule(snap wasmatrix.Snapshot, ref string) (*wasmatrix.Module, error) {
	if ref == "" {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "no module given").With(wasmatrix.DetailField, "module")
	}
	if d, err := wasmatrix.ParseDigest(ref); err == nil {
		if m, ok := snap.Module(d); ok {
			return m, nil
		}
		return nil, moduleNotFound(ref)
	}
	if m, ok := snap.ModuleNamed(ref); ok {
		return m, nil
	}
	prefix := strings.ToLower(strings.TrimPrefix(ref, "sha256:"))
	if _, err := hex.DecodeString(prefix + strings.Repeat("0", len(prefix)%2)); err != nil || len(prefix) < minDigestPrefix {
		if strings.HasPrefix(ref, "sha256:") {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "%q is neither a digest nor the beginning of one", ref).With(wasmatrix.DetailField, "module")
		}
		if err := wasmatrix.ValidateName("module name", ref); err != nil {
			return nil, field(err, "module")
		}
		return nil, moduleNotFound(ref)
	}
	var found *wasmatrix.Module
	for m := range snap.Modules() {
		if !strings.HasPrefix(strings.TrimPrefix(m.Digest.String(), "sha256:"), prefix) {
			continue
		}
		if found != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "%q is the beginning of several digests, among them %s and %s",
				ref, found.Digest, m.Digest).With(wasmatrix.DetailField, "module")
		}
		found = m
	}
	if found == nil {
		return nil, moduleNotFound(ref)
	}
	return found, nil
}
