package store

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	kvpb "github.com/wasmatrix/wasmatrix/gen/kv"
)

// SchemaVersion is the highest version of the schema that this build
// understands. Each command is written with the lowest that does.
//
//	1  the first release
const SchemaVersion = 1

// UnknownCommandError says that a command was written by a newer release.
type UnknownCommandError struct {
	Version   uint32 // of the schema that understands it
	Field     int    // number of its field in the envelope; 0 where the version tells
	Ignorable bool   // this build may go on without it
}

func (e *UnknownCommandError) Error() string {
	what := fmt.Sprintf("schema version %d", e.Version)
	if e.Field != 0 {
		what += fmt.Sprintf(", field %d", e.Field)
	}
	return fmt.Sprintf("the kv log has a command of a newer release (%s; this build, %s, knows versions up to %d): upgrade this server", what, wasmatrix.Version, SchemaVersion)
}

// Caller is the instance on whose behalf something is read or written.
type Caller struct {
	Instance    wasmatrix.InstanceID
	Incarnation uint64 // log index, of the control plane, that created its record
	Epoch       uint64
	Exclusive   bool // earlier epochs are refused once this one has written
}

// Quota bounds a namespace, and the whole store. What is beyond it already may
// stay, and shrink.
type Quota struct {
	Keys  uint64
	Bytes uint64 // of keys and values
	// Total is of keys and values in all namespaces, and 128 bytes for each entry,
	// which is about what it takes besides; 0 is no bound.
	Total uint64
}

// Set writes an entry. Answer: Written; CONFLICT with [DetailRevision], or
// RESOURCE_EXHAUSTED for a quota.
type Set struct {
	At        wasmatrix.Time
	Caller    Caller
	Namespace Namespace
	Key       string
	Value     []byte
	TTL       time.Duration // from state time on; 0 is for ever
	// Expect is the revision that the entry must have, 0 that there must be none;
	// nil writes whatever there is.
	Expect *uint64
	ID     [16]byte // zero is not remembered
	Quota  Quota
}

// Written answers a Set.
type Written struct{ Revision uint64 }

// Delete removes an entry. Answer: Deleted.
type Delete struct {
	At        wasmatrix.Time
	Caller    Caller
	Namespace Namespace
	Key       string
	ID        [16]byte // zero is not remembered
}

// Deleted answers a Delete.
type Deleted struct{ Existed bool }

// RaiseFences raises fences; one that is higher already stays. Answer: []Fence,
// those in force for each that was given.
type RaiseFences struct {
	At     wasmatrix.Time
	Fences []Fence
}

// Expire removes entries whose time has run out, at most Limit of them.
// Answer: Removed.
type Expire struct {
	At    wasmatrix.Time
	Limit uint32
}

// Drop removes namespaces, at most Limit entries of them, and fences, whose
// epochs are ignored. Answer: Removed.
type Drop struct {
	At         wasmatrix.Time
	Namespaces []Namespace
	Fences     []Fence
	Limit      uint32
}

// Removed answers Expire and Drop.
type Removed struct {
	Entries int
	More    bool // something was left for the limit's sake
}

// Encode writes the command as the log keeps it. Text that is not valid UTF-8
// is INVALID_REQUEST.
func (c *Set) Encode() ([]byte, error) {
	m := &kvpb.Set{
		Caller: c.Caller.proto(), Namespace: c.Namespace.proto(), Key: c.Key, Value: c.Value, Ttl: int64(c.TTL), Expect: c.Expect,
		Quota: &kvpb.Quota{Keys: c.Quota.Keys, Bytes: c.Quota.Bytes, Total: c.Quota.Total},
	}
	if c.ID != ([16]byte{}) {
		m.WriteId = c.ID[:]
	}
	return encode(&kvpb.Envelope{At: int64(c.At), Command: &kvpb.Envelope_Set{Set: m}})
}

// Encode writes the command as the log keeps it. Text that is not valid UTF-8
// is INVALID_REQUEST.
func (c *Delete) Encode() ([]byte, error) {
	m := &kvpb.Delete{Caller: c.Caller.proto(), Namespace: c.Namespace.proto(), Key: c.Key}
	if c.ID != ([16]byte{}) {
		m.WriteId = c.ID[:]
	}
	return encode(&kvpb.Envelope{At: int64(c.At), Command: &kvpb.Envelope_Delete{Delete: m}})
}

// Encode writes the command as the log keeps it.
func (c *RaiseFences) Encode() ([]byte, error) {
	return encode(&kvpb.Envelope{At: int64(c.At), Command: &kvpb.Envelope_RaiseFences{RaiseFences: &kvpb.RaiseFences{Fences: fencesProto(c.Fences)}}})
}

// Encode writes the command as the log keeps it.
func (c *Expire) Encode() ([]byte, error) {
	return encode(&kvpb.Envelope{At: int64(c.At), Command: &kvpb.Envelope_Expire{Expire: &kvpb.Expire{Limit: c.Limit}}})
}

// Encode writes the command as the log keeps it.
func (c *Drop) Encode() ([]byte, error) {
	m := &kvpb.Drop{Fences: fencesProto(c.Fences), Limit: c.Limit}
	for _, n := range c.Namespaces {
		m.Namespaces = append(m.Namespaces, n.proto())
	}
	return encode(&kvpb.Envelope{At: int64(c.At), Command: &kvpb.Envelope_Drop{Drop: m}})
}

func (c *Caller) proto() *kvpb.Caller {
	return &kvpb.Caller{Instance: string(c.Instance), Incarnation: c.Incarnation, Epoch: c.Epoch, Exclusive: c.Exclusive}
}

func (n Namespace) proto() *kvpb.Namespace {
	return &kvpb.Namespace{Provider: string(n.Provider), Name: n.Name}
}

func fencesProto(all []Fence) []*kvpb.Fence {
	m := make([]*kvpb.Fence, len(all))
	for i, f := range all {
		m[i] = &kvpb.Fence{Instance: string(f.Instance), Incarnation: f.Incarnation, Epoch: f.Epoch}
	}
	return m
}

func encode(env *kvpb.Envelope) ([]byte, error) {
	env.Version = 1
	b, err := proto.Marshal(env)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "cannot encode a kv command: %w", err)
	}
	return b, nil
}

// decode reads an envelope. What only a newer release knows is an
// *UnknownCommandError, anything else that is wrong a *wasmatrix.Error. The
// message keeps nothing of b.
func decode(b []byte) (*kvpb.Envelope, error) {
	var env kvpb.Envelope
	if err := proto.Unmarshal(b, &env); err != nil {
		// A newer schema may have another type where this one has a command, so
		// the version, which never moves, is looked for even so.
		if v, ignorable := peekVersion(b); v > SchemaVersion {
			return nil, &UnknownCommandError{Version: v, Ignorable: ignorable}
		}
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "malformed kv command")
	}
	if env.Version > SchemaVersion {
		return nil, &UnknownCommandError{Version: env.Version, Ignorable: env.Ignorable}
	}
	if env.Command == nil {
		if num, _, n := protowire.ConsumeTag(env.ProtoReflect().GetUnknown()); n >= 0 {
			return nil, &UnknownCommandError{Version: env.Version, Field: int(num), Ignorable: env.Ignorable}
		}
		return nil, malformed("empty")
	}
	return &env, nil
}

// peekVersion reads the envelope's version and mark without the rest.
func peekVersion(b []byte) (version uint32, ignorable bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		b = b[n:]
		if typ != protowire.VarintType || num != 1 && num != 2 {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				break
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			break
		}
		if num == 1 {
			version = uint32(v)
		} else {
			ignorable = v != 0
		}
		b = b[n:]
	}
	return version, ignorable
}

// malformed is the answer to a command that no server proposes.
func malformed(what string) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "malformed kv command: %s", what)
}
