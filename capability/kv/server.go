package kv

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
)

// Group is the Raft group that replicates the store.
type Group interface {
	// Propose returns what the store on this server answered to a command that a
	// majority has on disk; an answer that is an error is the error. Where this
	// server does not lead the error is NOT_LEADER, with the leader's API address as
	// [wasmatrix.DetailLeader], or NO_LEADER. Other errors than the store's carry
	// [wasmatrix.DetailOutcome].
	Propose(ctx context.Context, command []byte) (any, error)
	// Read returns when the store here has everything that was acknowledged before
	// it was called. It works on the leader only.
	Read(ctx context.Context) error
}

// ServerConfig configures a [Server]. Group, Store and Provider are required.
type ServerConfig struct {
	Group Group
	Store *store.Store // what Group drives
	// Provider returns the configuration of a provider that uses the embedded
	// store; CAPABILITY_NOT_FOUND or PROVIDER_UNAVAILABLE otherwise.
	Provider func(wasmatrix.ProviderID) (wasmatrix.KVConfig, error)
	// State returns the state of the control plane as this server has it, by which
	// [Server.Run] tells what belongs to instances that are gone. Without it
	// nothing of them is removed.
	State func() wasmatrix.Snapshot
	// MaxBytes bounds the whole store, which every server has in memory: keys and
	// values of all namespaces, and 128 bytes for each entry. 2 GiB by default.
	MaxBytes int64
	Now      func() time.Time // time.Now by default
	Collect  time.Duration    // how often what belongs to no instance is looked for; 10 s by default
	Logger   hclog.Logger     // nil discards
}

// Server carries out kv calls on a server of the cluster. Calls of several
// providers may come; their namespaces never meet. Besides the errors of
// [capability.KV] there are NOT_LEADER and NO_LEADER, which a [Client] hides.
//
// Its methods are safe for concurrent use. It starts nothing but what Run does.
type Server struct {
	ServerConfig
}

var _ capability.KV = (*Server)(nil)

// NewServer makes a server.
func NewServer(c ServerConfig) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 2 << 30
	}
	if c.Collect <= 0 {
		c.Collect = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return &Server{c}
}

func (s *Server) clock() wasmatrix.Time { return wasmatrix.TimeOf(s.Now()) }

func callerOf(scope *capability.Scope) store.Caller {
	return store.Caller{Instance: scope.Instance, Incarnation: scope.Incarnation, Epoch: scope.Epoch, Exclusive: scope.Exclusive}
}

func namespaceOf(scope *capability.Scope) store.Namespace {
	return store.Namespace{Provider: scope.Provider, Name: scope.Namespace}
}

// settle makes the store here fit to be read under a scope, and returns the clock
// by which it is: zero is state time, to which commands agree.
func (s *Server) settle(ctx context.Context, scope *capability.Scope) (wasmatrix.Time, error) {
	if scope.Stale {
		return s.clock(), nil
	}
	return 0, s.Group.Read(ctx)
}

// Get implements [capability.KV]. A stale one takes less than a microsecond, and
// no memory.
func (s *Server) Get(ctx context.Context, scope *capability.Scope, key string) (capability.Entry, bool, error) {
	if err := checkKey(key); err != nil {
		return capability.Entry{}, false, err
	}
	if err := checkScope(scope, wasmatrix.AccessKVRead, key); err != nil {
		return capability.Entry{}, false, err
	}
	clock, err := s.settle(ctx, scope)
	if err != nil {
		return capability.Entry{}, false, err
	}
	caller := callerOf(scope)
	value, revision, ok, err := s.Store.Get(&caller, namespaceOf(scope), key, clock)
	return capability.Entry{Value: value, Revision: revision}, ok, err
}

// List implements [capability.KV].
func (s *Server) List(ctx context.Context, scope *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	if err := checkList(q); err != nil {
		return capability.Page{}, err
	}
	if err := checkScope(scope, wasmatrix.AccessKVRead, q.Prefix); err != nil {
		return capability.Page{}, err
	}
	clock, err := s.settle(ctx, scope)
	if err != nil {
		return capability.Page{}, err
	}
	caller := callerOf(scope)
	keys, more, err := s.Store.List(&caller, namespaceOf(scope), q.Prefix, q.After, q.Limit, clock)
	return capability.Page{Keys: keys, More: more}, err
}

// Set implements [capability.KV].
func (s *Server) Set(ctx context.Context, scope *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	conf, err := s.Provider(scope.Provider)
	if err != nil {
		return 0, err
	}
	if err := checkSet(key, value, o, conf.MaxValue); err != nil {
		return 0, err
	}
	if err := checkScope(scope, wasmatrix.AccessKVWrite, key); err != nil {
		return 0, err
	}
	c := store.Set{
		At: s.clock(), Caller: callerOf(scope), Namespace: namespaceOf(scope), Key: key, Value: value,
		TTL: min(o.TTL, maxTTL), Expect: o.Expect, ID: o.ID,
		Quota: store.Quota{Keys: uint64(conf.MaxKeys), Bytes: uint64(conf.MaxBytes), Total: uint64(s.MaxBytes)},
	}
	command, err := c.Encode()
	if err != nil {
		return 0, err
	}
	w, err := propose[store.Written](ctx, s, scope, command)
	return w.Revision, err
}

// Delete implements [capability.KV].
func (s *Server) Delete(ctx context.Context, scope *capability.Scope, key string, id capability.WriteID) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	if err := checkScope(scope, wasmatrix.AccessKVDelete, key); err != nil {
		return false, err
	}
	c := store.Delete{At: s.clock(), Caller: callerOf(scope), Namespace: namespaceOf(scope), Key: key, ID: id}
	command, err := c.Encode()
	if err != nil {
		return false, err
	}
	d, err := propose[store.Deleted](ctx, s, scope, command)
	return d.Existed, err
}

// settling bounds how long a write is waited for whose caller has gone. A group
// that does not commit has another leader, or none, long before.
const settling = 10 * time.Second

// propose returns the store's answer to a command. What was proposed for a caller is
// waited for even where the caller's context has ended: a revocation must be able
// to rely on it that nothing of a call that has ended comes after (I7).
func propose[T any](ctx context.Context, s *Server, scope *capability.Scope, command []byte) (T, error) {
	var zero T
	if scope != nil {
		if err := checkAlive(scope); err != nil {
			return zero, err
		}
		if err := ctx.Err(); err != nil {
			return zero, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the write was not begun: %w", err).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), settling)
		defer cancel()
	}
	answer, err := s.Group.Propose(ctx, command)
	if err != nil {
		return zero, err
	}
	if a, ok := answer.(T); ok {
		return a, nil
	}
	return zero, wasmatrix.Errorf(wasmatrix.CodeInternal, "the kv store answered with %s", fmt.Sprintf("%T", answer)).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// maxFences is how many fences one command raises.
const maxFences = 4096

// Fence refuses from now on the calls of all epochs below those given. It returns
// when that holds on every server, for linearizable calls, and those in force: one
// that was higher stays. It works on the leader only; of an error nothing can be
// concluded.
func (s *Server) Fence(ctx context.Context, fences []store.Fence) ([]store.Fence, error) {
	inForce := make([]store.Fence, 0, len(fences))
	for len(fences) > 0 {
		n := min(len(fences), maxFences)
		c := store.RaiseFences{At: s.clock(), Fences: fences[:n]}
		command, err := c.Encode()
		if err != nil {
			return nil, err
		}
		raised, err := propose[[]store.Fence](ctx, s, nil, command)
		if err != nil {
			return nil, err
		}
		inForce = append(inForce, raised...)
		fences = fences[n:]
	}
	return inForce, nil
}
