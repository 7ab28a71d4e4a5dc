package agent

import (
	"context"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
	"github.com/wasmatrix/wasmatrix/cluster"
)

// kvGroup is the name of the Raft group of the embedded kv.
const kvGroup = "kv"

// kvMaxCommand is the largest command of kv, in bytes: a value and what goes with
// it.
const kvMaxCommand = 2 << 20

// kvGroup describes the group to the cluster.
func (s *server) kvGroup() cluster.GroupConfig {
	raft := s.cfg.Server.Raft
	return cluster.GroupConfig{
		Name: kvGroup, Machine: s.store, Verify: store.Verify, MaxCommandBytes: kvMaxCommand,
		SnapshotThreshold: raft.SnapshotThreshold, SnapshotInterval: raft.SnapshotInterval,
		SnapshotsKept: raft.SnapshotRetain, TrailingLogs: raft.TrailingLogs,
	}
}

// newKV makes the server's end of the embedded kv.
func (s *server) newKV() *kv.Server {
	return kv.NewServer(kv.ServerConfig{
		Group: s.cluster.Group(kvGroup), Store: s.store,
		Provider: func(id wasmatrix.ProviderID) (wasmatrix.KVConfig, error) { return embeddedKV(s.machine.State(), id) },
		State:    replicatedState{s.machine}.Snapshot,
		MaxBytes: int64(s.cfg.Server.KV.MaxBytes),
		Logger:   s.log.Named(kvGroup),
	})
}

// embeddedKV returns the configuration of a provider that the servers have.
func embeddedKV(snap wasmatrix.Snapshot, id wasmatrix.ProviderID) (wasmatrix.KVConfig, error) {
	p, ok := wasmatrix.ProviderOf(snap, id)
	switch {
	case !ok:
		return wasmatrix.KVConfig{}, wasmatrix.Errorf(wasmatrix.CodeCapabilityNotFound, "there is no provider %q", id)
	case p.Type != wasmatrix.ProviderKV:
		return wasmatrix.KVConfig{}, wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "provider %q is of type %s", id, p.Type)
	case p.Stopped:
		return wasmatrix.KVConfig{}, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "provider %q is stopped", id).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	conf, err := wasmatrix.KVConfigOf(p.Config)
	if err == nil && conf.URL != "" {
		err = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "provider %q is not embedded in the servers", id)
	}
	return conf, err
}

// fence raises epochs in kv for the dispatcher, here or at the server that leads
// kv, and returns those in force.
func (s *server) fence(ctx context.Context, fences []wasmatrix.Fence) ([]wasmatrix.Fence, error) {
	inForce, err := kvFences{s}.Raise(ctx, fences)
	e := wasmatrix.AsError(err)
	if e == nil || e.Code != wasmatrix.CodeNotLeader || e.Details[wasmatrix.DetailLeader] == "" {
		return inForce, err
	}
	return s.fences.Raise(ctx, e.Details[wasmatrix.DetailLeader], fences)
}

// kvFences raises epochs in kv where this server leads it.
type kvFences struct{ *server }

func (f kvFences) Raise(ctx context.Context, fences []wasmatrix.Fence) ([]wasmatrix.Fence, error) {
	list := make([]store.Fence, len(fences))
	for i, one := range fences {
		list[i] = store.Fence(one)
	}
	raised, err := f.kv.Fence(ctx, list)
	if err != nil {
		return nil, err
	}
	inForce := make([]wasmatrix.Fence, len(raised))
	for i, one := range raised {
		inForce[i] = wasmatrix.Fence(one)
	}
	return inForce, nil
}

// serverProviders are what a server carries out for nodes: the embedded kv.
type serverProviders struct{ *server }

func (p serverProviders) KV(_ context.Context, s *capability.Scope) (capability.KV, error) {
	if _, err := embeddedKV(p.machine.State(), s.Provider); err != nil {
		return nil, err
	}
	return p.kv, nil
}

func (serverProviders) HTTP(context.Context, *capability.Scope) (capability.HTTP, error) {
	return nil, errNotOnServers()
}

func (serverProviders) Messaging(context.Context, *capability.Scope) (capability.Messaging, error) {
	return nil, errNotOnServers()
}

func errNotOnServers() error {
	return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "servers carry out calls of the embedded kv only")
}

// grants is what an instance was given by this server's state, once that has
// come to an index.
func (s *server) grants(ctx context.Context, id wasmatrix.InstanceID, atLeast uint64) (*wasmatrix.GrantSet, error) {
	for {
		changed := s.machine.Changed()
		state := s.machine.State()
		if state.Index() >= atLeast {
			i, ok := state.Instance(id)
			if !ok || !i.Status.OnNode() {
				return nil, nil //nolint:nilnil // documented: it has no place
			}
			return wasmatrix.GrantsOf(state, i), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this server's state is behind the assignment").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
		}
	}
}

// storeHash keeps the hash of kv's state, since hashing reads all of it.
type storeHash struct {
	mu    sync.Mutex
	index uint64
	hash  [32]byte
}

func (h *storeHash) of(st *store.Store) (hash [32]byte, index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st.Stats().Index != h.index || h.index == 0 {
		h.hash, h.index = st.HashAt()
	}
	return h.hash, h.index
}
