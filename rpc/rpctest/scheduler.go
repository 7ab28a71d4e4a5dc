package rpctest

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc"
)

// scheduler places everything on the first node that is up, and pushes nothing.
type scheduler struct{ s *Server }

func (d *scheduler) Start(ctx context.Context, item wasmatrix.StartItem) (wasmatrix.StartResult, error) {
	var node wasmatrix.NodeID
	for n := range d.s.Machine.Snapshot().Nodes() {
		if n.Eligible() {
			node = n.ID
			break
		}
	}
	if node == "" && !item.Spec.Queue {
		return wasmatrix.StartResult{}, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "no node is up")
	}
	for i := range item.Placements {
		item.Placements[i].Node = node
	}
	answer, err := d.s.Propose(ctx, wasmatrix.StartInstances{At: now(), Items: []wasmatrix.StartItem{item}})
	if err != nil {
		return wasmatrix.StartResult{}, err
	}
	return answer.([]wasmatrix.StartResult)[0], nil
}

func (d *scheduler) Stop(ctx context.Context, req wasmatrix.Request, id wasmatrix.InstanceID) error {
	answer, err := d.s.Propose(ctx, wasmatrix.StopInstances{At: now(), Items: []wasmatrix.StopItem{{Request: req, Instance: id}}})
	if err != nil {
		return err
	}
	if e := answer.([]*wasmatrix.Error)[0]; e != nil {
		return e
	}
	return nil
}

func (d *scheduler) Restart(ctx context.Context, req wasmatrix.Request, id wasmatrix.InstanceID) (*wasmatrix.Instance, error) {
	answer, err := d.s.Propose(ctx, wasmatrix.RestartInstance{At: now(), Request: req, Instance: id})
	if err != nil {
		return nil, err
	}
	return answer.(*wasmatrix.Instance), nil
}

func (d *scheduler) Assign(ctx context.Context, req wasmatrix.Request, a *wasmatrix.Assignment) (*wasmatrix.Assignment, error) {
	answer, err := d.s.Propose(ctx, wasmatrix.AssignCapability{At: now(), Request: req, Assignment: a})
	if err != nil {
		return nil, err
	}
	return answer.(*wasmatrix.Assignment), nil
}

// Revoke commits, and then waits for as long as [Cluster.Deaf] says so.
func (d *scheduler) Revoke(ctx context.Context, req wasmatrix.Request, id wasmatrix.InstanceID, capability wasmatrix.CapabilityID) error {
	if _, err := d.s.Propose(ctx, wasmatrix.RevokeCapability{At: now(), Request: req, Instance: id, Capability: capability}); err != nil {
		return err
	}
	if !d.s.cluster.Deaf.Load() {
		return nil
	}
	<-ctx.Done()
	inst, _ := d.s.Machine.Snapshot().Instance(id)
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "node %s has not confirmed", inst.Node).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeCommitted).With("node", string(inst.Node))
}

func (d *scheduler) ReportDenials(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, seq uint64, denials []wasmatrix.Denial) error {
	req := wasmatrix.Request{ID: wasmatrix.RequestID(fmt.Sprintf("denials/%s/%d", boot, seq))}
	_, err := d.s.Propose(ctx, wasmatrix.RecordDenials{At: now(), Request: req, Node: node, Boot: boot, Denials: denials})
	return err
}

func (d *scheduler) Register(ctx context.Context, r wasmatrix.Registration) (wasmatrix.Lease, error) {
	r.Holding = nil
	if _, err := d.s.Propose(ctx, wasmatrix.RegisterNode{At: now(), Registration: r}); err != nil {
		return wasmatrix.Lease{}, err
	}
	return wasmatrix.Lease{TTL: int64(3 * time.Second), Term: 1}, nil
}

func (d *scheduler) Renew(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID) (wasmatrix.Lease, error) {
	if err := d.s.Read(ctx); err != nil {
		return wasmatrix.Lease{}, err
	}
	n, ok := d.s.Machine.Snapshot().Node(node)
	if !ok {
		return wasmatrix.Lease{}, wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "no node %s", node)
	}
	return wasmatrix.Lease{TTL: int64(3 * time.Second), Term: 1, Resync: n.Boot != boot}, nil
}

func (d *scheduler) Report(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, reports []wasmatrix.Report) ([]bool, error) {
	answer, err := d.s.Propose(ctx, wasmatrix.ApplyReports{At: now(), Node: node, Boot: boot, Reports: reports})
	if err != nil {
		return nil, err
	}
	return answer.([]bool), nil
}

// group is a Raft group of the servers, all of them voters.
type group struct{ s *Server }

func (g *group) id() wasmatrix.ServerID { return wasmatrix.ServerID(g.s.Addr) }

func (g *group) Status(context.Context) (rpc.ClusterStatus, error) {
	addr, self, _ := g.s.Leader()
	status := rpc.ClusterStatus{Server: g.id(), Name: g.s.Addr, State: "follower", LeaderAddr: addr, Voters: len(g.s.cluster.Servers)}
	if self {
		status.State = "leader"
	}
	status.Groups = []rpc.HostedGroup{{
		Name: HostedGroup, State: "follower", Term: 1, Leader: "s.1", CommitIndex: 2, AppliedIndex: 3, StateHash: "ab", StateIndex: 4,
		Voters: 5, Namespaces: 6, Keys: 7, Bytes: 8,
	}}
	return status, nil
}

func (g *group) Members(context.Context) ([]rpc.Member, error) {
	var out []rpc.Member
	for _, s := range g.s.cluster.Servers {
		out = append(out, rpc.Member{Name: s.Addr, Role: "server", APIAddr: s.Addr, Status: "alive"})
	}
	return out, nil
}

func (g *group) Peers(ctx context.Context) ([]rpc.Peer, uint64, error) {
	if err := g.s.Read(ctx); err != nil {
		return nil, 0, err
	}
	var out []rpc.Peer
	for _, s := range g.s.cluster.Servers {
		out = append(out, rpc.Peer{Server: wasmatrix.ServerID(s.Addr), APIAddr: s.Addr, Voter: true, Leader: s == g.s, Healthy: true})
	}
	return out, 1, nil
}

func (g *group) Join(_ context.Context, addrs []string) (int, error) { return len(addrs), nil }
func (g *group) Leave(context.Context) error                         { return nil }

func (g *group) RemovePeer(ctx context.Context, server string) (wasmatrix.ServerID, error) {
	return wasmatrix.ServerID(server), g.s.Read(ctx)
}

func (g *group) TransferLeadership(ctx context.Context, server string) (wasmatrix.ServerID, error) {
	return wasmatrix.ServerID(server), g.s.Read(ctx)
}

// SnapshotSize is how many bytes SaveSnapshot writes, before the name of the group:
// more than one piece.
const SnapshotSize = 700_000

// HostedGroup is the name of a group that is led by a server of its own.
const HostedGroup = "kv"

// leading fails unless this server leads a group.
func (g *group) leading(ctx context.Context, name string) error {
	switch name {
	case "":
		return g.s.Read(ctx)
	case HostedGroup:
		g.s.cluster.mu.Lock()
		defer g.s.cluster.mu.Unlock()
		return g.s.leads(g.s.cluster.hosted)
	default:
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "there is no group %q", name).With(wasmatrix.DetailField, "group")
	}
}

func (g *group) SaveSnapshot(ctx context.Context, name string, w io.Writer) error {
	if err := g.leading(ctx, name); err != nil {
		return err
	}
	_, err := w.Write(append(make([]byte, SnapshotSize), name...))
	return err
}

// RestoreSnapshot answers with the digest of the name of the group and what it
// read, and the size as the index.
func (g *group) RestoreSnapshot(ctx context.Context, name string, r io.Reader) (string, uint64, error) {
	if err := g.leading(ctx, name); err != nil {
		return "", 0, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return "", 0, err
	}
	d := wasmatrix.DigestOf(append([]byte(name), b...))
	return hex.EncodeToString(d[:]), uint64(len(b)), nil
}
