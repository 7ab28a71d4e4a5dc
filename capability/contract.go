package capability

import (
	"context"
	"strconv"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Scope says on whose behalf a call is made and how far it may reach. It is
// immutable, and shared by the calls under one assignment.
type Scope struct {
	Instance wasmatrix.InstanceID
	// Incarnation tells the record of the instance from an earlier one of its ID:
	// the log index that created it.
	Incarnation uint64
	Epoch       uint64
	Exclusive   bool // effects of an epoch that was superseded must be refused (I6)
	Capability  wasmatrix.CapabilityID
	// Granted is the log index of the assignment: who checks it against a state
	// below that index has to wait for it.
	Granted   uint64
	Provider  wasmatrix.ProviderID
	Namespace string // of kv, see [Namespace]
	Stale     bool   // kv reads may lag
	Rules     *wasmatrix.Rules
	// Alive reports whether the caller may still act, and is asked as late as can
	// be before bytes leave the process. nil is always.
	Alive func() bool
}

// Namespace returns the kv namespace of an assignment: the one it names, which
// others may share, or the instance's own. The two never meet.
func Namespace(a *wasmatrix.Assignment, incarnation uint64) string {
	if a.Namespace != "" {
		return SharedPrefix + a.Namespace
	}
	return OwnNamespace(a.Instance, incarnation)
}

// Prefixes of namespaces.
const (
	SharedPrefix = "shared/"
	OwnPrefix    = "own/"
)

// OwnNamespace is the namespace of one record of an instance alone.
func OwnNamespace(id wasmatrix.InstanceID, incarnation uint64) string {
	return OwnPrefix + string(id) + "/" + strconv.FormatUint(incarnation, 10)
}

// Errors of all methods of providers are [wasmatrix.Error]: PERMISSION_DENIED
// where the provider checks again and refuses, or the epoch is fenced;
// INVALID_REQUEST, RESOURCE_EXHAUSTED for quotas and sizes, CONFLICT for a
// revision that is not the one expected, TIMEOUT, PROVIDER_UNAVAILABLE, and
// COMMUNICATION_FAILURE where the other side failed. All methods may be called
// concurrently, and end soon after their context has.

// KV is a store of values under keys in namespaces.
type KV interface {
	// Get returns the entry of a key, and whether there is one.
	Get(ctx context.Context, s *Scope, key string) (Entry, bool, error)
	// Keys are UTF-8 of 1 to abi.MaxKey bytes.
	//
	// Set writes an entry and returns its revision. With CONFLICT, [DetailRevision]
	// has the revision that there is.
	Set(ctx context.Context, s *Scope, key string, value []byte, o SetOptions) (revision uint64, err error)
	// Delete removes an entry and reports whether there was one.
	Delete(ctx context.Context, s *Scope, key string, id WriteID) (existed bool, err error)
	// List returns keys in order of bytes.
	List(ctx context.Context, s *Scope, q ListQuery) (Page, error)
}

// DetailRevision is the key of the decimal revision in the details of a CONFLICT.
const DetailRevision = "revision"

// Entry is a value and its revision, which every write of the key changes.
// Revisions are above zero, and a later write has a higher one.
type Entry struct {
	Value    []byte // the callee's: not to be changed
	Revision uint64
}

// SetOptions say how an entry is written.
type SetOptions struct {
	TTL time.Duration // after which the entry is gone; 0 is for ever
	// Expect is the revision that the entry must have, 0 that there must be none;
	// nil writes whatever there is.
	Expect *uint64
	ID     WriteID
}

// WriteID is drawn at random for a write. A write that is sent again with its ID,
// because its outcome was unknown, has its effect once and the same answer. The
// zero ID is not remembered.
type WriteID [16]byte

// ListQuery selects keys.
type ListQuery struct {
	Prefix string
	After  string // only keys above it
	Limit  int    // 1 to abi.MaxListLimit
}

// Page is a part of a list. A page may have fewer keys than the limit and yet be
// followed by more.
type Page struct {
	Keys []string
	More bool
}

// HTTP makes requests to servers.
type HTTP interface {
	// Open begins a request, whose context bounds all of it, up to Close.
	// The permission of the scope is checked for the URL's host, and for each one
	// that a redirect leads to.
	Open(ctx context.Context, s *Scope, r *Request) (Exchange, error)
}

// Field is one line of a header.
type Field struct{ Name, Value string }

// Request is what a guest asks of a server.
type Request struct {
	Method, URL string
	Header      []Field
	Timeout     time.Duration // 0 is the provider's
}

// Response is how a server answers.
type Response struct {
	Status int
	Header []Field
}

// Exchange is one request under way. Its methods are called by one goroutine at
// a time, but for Close, which may come at any time and ends the others.
type Exchange interface {
	// Write sends the next piece of the body, and may keep it only until it
	// returns.
	Write(p []byte) (int, error)
	// Response ends the body and waits for the response's header. Further calls
	// return the same.
	Response() (*Response, error)
	// Read reads of the response's body, with [io.EOF] at its end.
	Read(p []byte) (int, error)
	// Close may be called more than once.
	Close() error
}

// Messaging delivers messages to those who subscribe, at most once.
type Messaging interface {
	// Publish returns when the message is with the messaging system.
	Publish(ctx context.Context, s *Scope, topic string, data []byte) error
	// Subscribe returns when messages that are published from then on will come.
	// ctx bounds the call, not the subscription, which goes on until Close.
	Subscribe(ctx context.Context, s *Scope, topic, group string) (Subscription, error)
}

// Message is one that was delivered.
type Message struct {
	Topic   string
	Data    []byte
	Dropped uint64 // messages lost before this one, since the last, because nobody took them
}

// Subscription is where messages wait, few enough to be bounded.
type Subscription interface {
	// Receive waits for a message; one that is there is returned even if ctx has
	// ended. It fails with the error of ctx, or with PROVIDER_UNAVAILABLE when no more
	// will come.
	Receive(ctx context.Context) (Message, error)
	// Close ends it, and Receive with it. It may be called more than once.
	Close() error
}
