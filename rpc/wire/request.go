package wire

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/wasmatrix/wasmatrix"
)

// requestIDField is the name of the field that makes a retry have its effect
// once; every mutating request on the replicated state has it.
const requestIDField protoreflect.Name = "request_id"

// DefaultStopTimeout is how long StopInstance waits for the node unless told
// otherwise.
const DefaultStopTimeout = 30 * time.Second

// DefaultRevokeTimeout is how long RevokeCapability waits for the node unless told
// otherwise.
const DefaultRevokeTimeout = 30 * time.Second

// RequestID returns the request ID of a message, and whether it has a field for one.
func RequestID(m proto.Message) (id wasmatrix.RequestID, has bool) {
	r := m.ProtoReflect()
	f := r.Descriptor().Fields().ByName(requestIDField)
	if f == nil || f.Kind() != protoreflect.StringKind {
		return "", false
	}
	return wasmatrix.RequestID(r.Get(f).String()), true
}

// SetRequestID sets the request ID of a message that has a field for one.
func SetRequestID(m proto.Message, id wasmatrix.RequestID) {
	r := m.ProtoReflect()
	r.Set(r.Descriptor().Fields().ByName(requestIDField), protoreflect.ValueOfString(string(id)))
}

// timeoutField is how long a client waits for an answer. It is no part of what is
// asked: who has waited in vain may ask again with more patience.
const timeoutField protoreflect.Name = "timeout"

// Request identifies a mutating message: its request ID, drawn here if it has
// none (then it is not the same request when it is sent again), and a digest of
// all the rest but for a timeout. The digest is of the deterministic encoding, so it is the same
// for every server of one release. It fails with E1 for an ID that is not one.
// The message is changed for a moment, so nobody else may use it meanwhile.
func Request(m proto.Message) (wasmatrix.Request, error) {
	id, _ := RequestID(m)
	if id != "" {
		if err := id.Validate(); err != nil {
			return wasmatrix.Request{}, wasmatrix.AsError(err).With(wasmatrix.DetailField, string(requestIDField))
		}
	}
	SetRequestID(m, "")
	defer SetRequestID(m, id)
	r := m.ProtoReflect()
	if f := r.Descriptor().Fields().ByName(timeoutField); f != nil && r.Has(f) {
		defer r.Set(f, r.Get(f))
		r.Clear(f)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return wasmatrix.Request{}, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the request cannot be encoded: %w", err)
	}
	// The name keeps two kinds of request with the same fields apart.
	h := sha256.New()
	h.Write([]byte(m.ProtoReflect().Descriptor().FullName()))
	h.Write([]byte{0})
	h.Write(b)
	req := wasmatrix.Request{ID: id}
	copy(req.Body[:], h.Sum(nil))
	if id == "" {
		req.ID = NewRequestID()
	}
	return req, nil
}

// NewRequestID draws a request ID of 128 random bits.
func NewRequestID() wasmatrix.RequestID { return wasmatrix.RequestID("r-" + random(16)) }

// NewInstanceID draws an instance ID: "i-" and 13 characters for 64 random bits.
func NewInstanceID() wasmatrix.InstanceID { return wasmatrix.InstanceID("i-" + random(8)) }

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, says its documentation
	return base32Lower.EncodeToString(b)
}
