package rpc

import (
	"context"
	"io"
	"slices"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// clusters serves ClusterService.
type clusters struct{ *Server }

func (c *clusters) GetStatus(ctx context.Context, _ *api.GetStatusRequest) (*api.GetStatusResponse, error) {
	s, err := c.cfg.Cluster.Status(ctx)
	if err != nil {
		return nil, err
	}
	snap := c.cfg.State.Snapshot()
	res := &api.GetStatusResponse{
		ClusterId:         string(snap.Cluster()),
		ServerId:          string(s.Server),
		Name:              s.Name,
		Version:           wasmatrix.Version,
		State:             s.State,
		Term:              s.Term,
		LeaderId:          string(s.Leader),
		LeaderAddress:     s.LeaderAddr,
		CommitIndex:       s.CommitIndex,
		AppliedIndex:      s.AppliedIndex,
		LastIndex:         s.LastIndex,
		LastContact:       wire.DurationTo(s.LastContact),
		StateHash:         s.StateHash,
		StateIndex:        s.StateIndex,
		Voters:            uint32(s.Voters),
		FailureTolerance:  int32(s.FailureTolerance),
		Instances:         uint64(snap.InstanceCount()),
		StartedAt:         wire.StdTime(s.StartedAt),
		InstancesByStatus: make(map[string]uint64),
	}
	for node := range snap.Nodes() {
		if node.Status == wasmatrix.NodeUp {
			res.NodesUp++
		} else {
			res.NodesDown++
		}
	}
	for status := wasmatrix.StatusPending; status <= wasmatrix.StatusCrashed; status++ {
		if n := snap.StatusCount(status); n > 0 {
			res.InstancesByStatus[status.String()] = uint64(n)
		}
	}
	for _, g := range s.Groups {
		res.Groups = append(res.Groups, &api.HostedGroup{
			Name: g.Name, State: g.State, Term: g.Term, LeaderId: string(g.Leader), CommitIndex: g.CommitIndex, AppliedIndex: g.AppliedIndex,
			StateHash: g.StateHash, StateIndex: g.StateIndex, Voters: uint32(g.Voters), Namespaces: g.Namespaces, Keys: g.Keys, Bytes: g.Bytes,
		})
	}
	return res, nil
}

func (c *clusters) ListMembers(ctx context.Context, _ *api.ListMembersRequest) (*api.ListMembersResponse, error) {
	members, err := c.cfg.Cluster.Members(ctx)
	if err != nil {
		return nil, err
	}
	res := &api.ListMembersResponse{}
	for _, m := range members {
		res.Members = append(res.Members, &api.Member{
			Name: m.Name, Role: m.Role, GossipAddress: m.GossipAddr, ApiAddress: m.APIAddr, Status: m.Status, Version: m.Version,
		})
	}
	return res, nil
}

func (c *clusters) ListPeers(ctx context.Context, _ *api.ListPeersRequest) (*api.ListPeersResponse, error) {
	peers, index, err := c.cfg.Cluster.Peers(ctx)
	if err != nil {
		return nil, err
	}
	res := &api.ListPeersResponse{Index: index}
	for _, p := range peers {
		res.Peers = append(res.Peers, &api.Peer{
			ServerId: string(p.Server), Name: p.Name, RaftAddress: p.RaftAddr, ApiAddress: p.APIAddr, Voter: p.Voter, Leader: p.Leader,
			Healthy: p.Healthy, LastIndex: p.LastIndex, LastContact: wire.DurationTo(p.LastContact), Version: p.Version,
		})
	}
	return res, nil
}

// maxJoin bounds the addresses of one Join.
const maxJoin = 100

func (c *clusters) Join(ctx context.Context, m *api.JoinRequest) (*api.JoinResponse, error) {
	bad := func(format string, args ...any) error {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, format, args...).With(wasmatrix.DetailField, "addresses")
	}
	if n := len(m.GetAddresses()); n == 0 || n > maxJoin {
		return nil, bad("%d addresses given: 1 to %d are allowed", n, maxJoin)
	}
	if slices.Contains(m.GetAddresses(), "") {
		return nil, bad("an address is empty")
	}
	n, err := c.cfg.Cluster.Join(ctx, m.GetAddresses())
	if err != nil {
		return nil, err
	}
	return &api.JoinResponse{Contacted: uint32(n)}, nil
}

func (c *clusters) Leave(ctx context.Context, _ *api.LeaveRequest) (*api.LeaveResponse, error) {
	if err := c.cfg.Cluster.Leave(ctx); err != nil {
		return nil, err
	}
	return &api.LeaveResponse{}, nil
}

// maxServerName is more than the longest server ID has.
const maxServerName = 128

func (c *clusters) RemovePeer(ctx context.Context, m *api.RemovePeerRequest) (*api.RemovePeerResponse, error) {
	if m.GetServer() == "" || len(m.GetServer()) > maxServerName {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "no server given: a server ID or the name of a server").With(wasmatrix.DetailField, "server")
	}
	id, err := c.cfg.Cluster.RemovePeer(ctx, m.GetServer())
	if err != nil {
		return nil, err
	}
	return &api.RemovePeerResponse{ServerId: string(id)}, nil
}

func (c *clusters) TransferLeadership(ctx context.Context, m *api.TransferLeadershipRequest) (*api.TransferLeadershipResponse, error) {
	if len(m.GetServer()) > maxServerName {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "that is no server ID or name of a server").With(wasmatrix.DetailField, "server")
	}
	id, err := c.cfg.Cluster.TransferLeadership(ctx, m.GetServer())
	if err != nil {
		return nil, err
	}
	return &api.TransferLeadershipResponse{LeaderId: string(id)}, nil
}

// groupToLead checks the name of a group, and for that of the control plane that
// this server leads it.
func (c *clusters) groupToLead(group string) error {
	if group == "" {
		if err := leading(c.cfg.Leadership); err != nil {
			return err
		}
		return nil
	}
	return field(wasmatrix.ValidateName("group", group), "group")
}

// ofGroup marks an error that another server leads a hosted group, so that the
// edge passes the call on to that one.
func ofGroup(group string, err error) error {
	e := wire.Coded(err)
	if e == nil {
		return nil
	}
	if group != "" && (e.Code == wasmatrix.CodeNotLeader || e.Code == wasmatrix.CodeNoLeader) {
		return e.With(detailGroup, group)
	}
	return e
}

// SaveSnapshot is served by the leader of the group, so that what it saves has all
// that was acknowledged.
func (c *clusters) SaveSnapshot(ctx context.Context, m *api.SaveSnapshotRequest, stream *connect.ServerStream[api.SaveSnapshotResponse]) error {
	group := m.GetGroup()
	if err := c.groupToLead(group); err != nil {
		return err
	}
	w := &partWriter{send: func(b []byte) error { return stream.Send(&api.SaveSnapshotResponse{Data: b}) }}
	if err := c.cfg.Cluster.SaveSnapshot(ctx, group, w); err != nil {
		return ofGroup(group, err)
	}
	return w.flush()
}

// RestoreSnapshot is served by the leader of the group, which the first piece
// names. Nothing but that is read before it is known who leads.
func (c *clusters) RestoreSnapshot(ctx context.Context, stream *connect.ClientStream[api.RestoreSnapshotRequest]) (*api.RestoreSnapshotResponse, error) {
	next := func() ([]byte, error) {
		if stream.Receive() {
			return stream.Msg().GetData(), nil
		}
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	first, err := next()
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "there is no snapshot in the stream: %w", err)
	}
	group := stream.Msg().GetGroup()
	if err := c.groupToLead(group); err != nil {
		return nil, err
	}
	r := &partReader{rest: first, next: func() ([]byte, error) {
		b, err := next()
		if err == nil && stream.Msg().GetGroup() != "" && stream.Msg().GetGroup() != group {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a piece of group %q in a snapshot of %q", stream.Msg().GetGroup(), group).
				With(wasmatrix.DetailField, "group")
		}
		return b, err
	}}
	hash, index, err := c.cfg.Cluster.RestoreSnapshot(ctx, group, r)
	if err != nil {
		return nil, ofGroup(group, err)
	}
	return &api.RestoreSnapshotResponse{StateHash: hash, Index: index}, nil
}
