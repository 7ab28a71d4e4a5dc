package agent

import (
	"context"
	"io"
	"sync"
	"weak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/module/replica"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// clusterView is the cluster as users see and change it.
type clusterView struct{ *server }

func (v clusterView) Status(context.Context) (rpc.ClusterStatus, error) {
	st := v.cluster.Status()
	hash, index := v.hashes.of(v.machine.State())
	return rpc.ClusterStatus{
		Server: st.Server, Name: st.Name, State: st.State, Term: st.Term,
		Leader: st.Leader.ID, LeaderAddr: st.Leader.APIAddr,
		CommitIndex: st.Commit, AppliedIndex: st.Applied, LastIndex: st.LastIndex, LastContact: max(0, st.LastContact),
		StateHash: hexHash(hash), StateIndex: index,
		Voters: st.Voters, FailureTolerance: st.FailureTolerance, StartedAt: v.started,
		Groups: []rpc.HostedGroup{v.kvStatus()},
	}, nil
}

func (v clusterView) kvStatus() rpc.HostedGroup {
	st, holds := v.cluster.Group(kvGroup).Status(), v.store.Stats()
	hash, index := v.kvHash.of(v.store)
	return rpc.HostedGroup{
		Name: kvGroup, State: st.State, Term: st.Term, Leader: st.Leader.ID, CommitIndex: st.Commit, AppliedIndex: st.Applied,
		StateHash: hexHash(hash), StateIndex: index, Voters: st.Voters,
		Namespaces: uint64(holds.Namespaces), Keys: holds.Entries, Bytes: holds.Bytes,
	}
}

func (v clusterView) Members(context.Context) ([]rpc.Member, error) {
	var out []rpc.Member
	for _, m := range v.cluster.Members() {
		api := m.APIAddr
		if m.Role == gossip.RoleNode {
			api = m.AgentAddr
		}
		out = append(out, rpc.Member{
			Name: m.Name, Role: string(m.Role), GossipAddr: m.Addr, APIAddr: api,
			Status: string(m.Status), Version: m.Version,
		})
	}
	return out, nil
}

func (v clusterView) Peers(ctx context.Context) ([]rpc.Peer, uint64, error) {
	peers, index, err := v.cluster.Peers(ctx)
	if err != nil {
		return nil, 0, err
	}
	var out []rpc.Peer
	for _, p := range peers {
		out = append(out, rpc.Peer{
			Server: p.ID, Name: p.Name, RaftAddr: p.RaftAddr, APIAddr: p.APIAddr,
			Voter: p.Voter, Leader: p.Leader, Healthy: p.Healthy,
			LastIndex: p.LastIndex, LastContact: p.LastContact, Version: p.Version,
		})
	}
	return out, index, nil
}

func (v clusterView) Join(ctx context.Context, addrs []string) (int, error) {
	return v.cluster.Join(ctx, addrs)
}

// Leave takes this server out of the group and then ends the process.
func (v clusterView) Leave(ctx context.Context) error {
	if err := v.cluster.Leave(ctx); err != nil {
		return err
	}
	v.leaveOnce.Do(func() { close(v.leave) })
	return nil
}

func (v clusterView) RemovePeer(ctx context.Context, server string) (wasmatrix.ServerID, error) {
	return v.cluster.RemovePeer(ctx, server)
}

func (v clusterView) TransferLeadership(ctx context.Context, server string) (wasmatrix.ServerID, error) {
	return v.cluster.TransferLeadership(ctx, server)
}

func (v clusterView) SaveSnapshot(ctx context.Context, group string, w io.Writer) error {
	switch group {
	case "":
		return v.cluster.SaveSnapshot(ctx, w)
	case kvGroup:
		return v.cluster.Group(kvGroup).SaveSnapshot(ctx, w)
	default:
		return errNoGroup(group)
	}
}

func errNoGroup(group string) error {
	return wasmatrix.Errorf(wasmatrix.CodeValidation, "there is no group %q: \"\" for the control plane, or %s", group, kvGroup).
		With(wasmatrix.DetailField, "group")
}

// hashCache keeps the hash of the last state that was asked for, since hashing
// reads all of it, but not the state, which would hold on to all that has changed
// since.
type hashCache struct {
	mu    sync.Mutex
	state weak.Pointer[fsm.State]
	hash  [32]byte
}

func (h *hashCache) of(s *fsm.State) (hash [32]byte, index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := weak.Make(s); h.state != p {
		h.state, h.hash = p, s.Hash()
	}
	return h.hash, s.Index()
}

// replicaPeers tells the module replication who the servers are.
type replicaPeers struct{ cluster *cluster.Cluster }

func (r replicaPeers) Peers() []replica.Peer {
	self := r.cluster.Identity().Server
	api := map[wasmatrix.ServerID]string{self: r.cluster.Addrs().API}
	for _, m := range r.cluster.Members() {
		if m.Role == gossip.RoleServer && m.APIAddr != "" {
			api[m.Server] = m.APIAddr
		}
	}
	var out []replica.Peer
	for _, s := range r.cluster.Servers() {
		out = append(out, replica.Peer{Name: string(s.ID), Addr: api[s.ID], Voter: s.Voter, Self: s.ID == self})
	}
	return out
}

// moduleCopier moves module bytes between servers' disks.
type moduleCopier struct{ *client.Transfer }

// Fetch asks the peer for what is on its own disk.
func (m moduleCopier) Fetch(ctx context.Context, addr string, d wasmatrix.Digest, w io.Writer) error {
	return m.FetchLocal(ctx, addr, d, w)
}

// moduleService is the module replication as the API calls it.
type moduleService struct{ *replica.Replicator }

func (m moduleService) Push(ctx context.Context, h rpc.ModuleHeader, r io.Reader) (*wasmatrix.Module, bool, error) {
	return m.Replicator.Push(ctx, replica.Header(h), r)
}
