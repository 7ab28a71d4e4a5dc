package rpc

import (
	"context"
	"net"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// control serves ControlService to nodes.
type control struct{ *Server }

func checkProcess(node, boot string) error {
	if _, err := nodeID(node); err != nil {
		return err
	}
	return field(wasmatrix.ValidateName("boot ID", boot), "boot_id")
}

func (c *control) Register(ctx context.Context, m *api.RegisterRequest) (*api.RegisterResponse, error) {
	if err := checkProcess(m.GetNodeId(), m.GetBootId()); err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(m.GetAddress()); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "address %q is not host:port", m.GetAddress()).With(wasmatrix.DetailField, "address")
	}
	if err := wasmatrix.ValidateLabels(m.GetLabels()); err != nil {
		return nil, err
	}
	cluster := c.cfg.State.Snapshot().Cluster()
	if theirs := wasmatrix.ClusterID(m.GetClusterId()); theirs != "" && cluster != "" && theirs != cluster {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "node %s belongs to cluster %s, this is cluster %s", m.GetNodeId(), theirs, cluster).
			With(wasmatrix.DetailField, "cluster_id")
	}
	r, err := wire.RegistrationFrom(m)
	if err != nil {
		return nil, err
	}
	lease, err := c.cfg.Scheduler.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	// By now the cluster has an identity, since its leader took the node in.
	return &api.RegisterResponse{Lease: wire.LeaseTo(lease), ClusterId: string(c.cfg.State.Snapshot().Cluster())}, nil
}

func (c *control) Renew(ctx context.Context, m *api.RenewRequest) (*api.RenewResponse, error) {
	if err := checkProcess(m.GetNodeId(), m.GetBootId()); err != nil {
		return nil, err
	}
	lease, err := c.cfg.Scheduler.Renew(ctx, wasmatrix.NodeID(m.GetNodeId()), wasmatrix.BootID(m.GetBootId()))
	if err != nil {
		return nil, err
	}
	return &api.RenewResponse{Lease: wire.LeaseTo(lease)}, nil
}

func (c *control) ReportStatus(ctx context.Context, m *api.ReportStatusRequest) (*api.ReportStatusResponse, error) {
	if err := checkProcess(m.GetNodeId(), m.GetBootId()); err != nil {
		return nil, err
	}
	reports := make([]wasmatrix.Report, len(m.GetReports()))
	for n, r := range m.GetReports() {
		var err error
		if reports[n], err = wire.ReportFrom(r); err != nil {
			return nil, err
		}
	}
	applied, err := c.cfg.Scheduler.Report(ctx, wasmatrix.NodeID(m.GetNodeId()), wasmatrix.BootID(m.GetBootId()), reports)
	if err != nil {
		return nil, err
	}
	return &api.ReportStatusResponse{Applied: applied}, nil
}

func (c *control) ReportDenials(ctx context.Context, m *api.ReportDenialsRequest) (*api.ReportDenialsResponse, error) {
	if err := checkProcess(m.GetNodeId(), m.GetBootId()); err != nil {
		return nil, err
	}
	if m.GetSeq() == 0 {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "seq counts from 1").With(wasmatrix.DetailField, "seq")
	}
	denials := make([]wasmatrix.Denial, len(m.GetDenials()))
	for n, d := range m.GetDenials() {
		var err error
		if denials[n], err = wire.DenialFrom(d); err != nil {
			return nil, err
		}
	}
	if err := c.cfg.Scheduler.ReportDenials(ctx, wasmatrix.NodeID(m.GetNodeId()), wasmatrix.BootID(m.GetBootId()), m.GetSeq(), denials); err != nil {
		return nil, err
	}
	return &api.ReportDenialsResponse{}, nil
}

// GetGrants is answered by every server, so that a node that carries out calls
// from elsewhere can ask while there is no leader.
func (c *control) GetGrants(ctx context.Context, m *api.GetGrantsRequest) (*api.GetGrantsResponse, error) {
	id, err := instanceID(m.GetInstanceId())
	if err != nil {
		return nil, err
	}
	snap, err := c.awaitIndex(ctx, m.GetMinIndex())
	if err != nil {
		return nil, err
	}
	res := &api.GetGrantsResponse{}
	if inst, ok := snap.Instance(id); ok && inst.Status.OnNode() {
		res.Grants = wire.GrantSetTo(wasmatrix.GrantsOf(snap, inst))
	}
	return res, nil
}

// awaitIndex returns a state that has a log index.
func (s *Server) awaitIndex(ctx context.Context, index uint64) (wasmatrix.Snapshot, error) {
	for {
		changed, restored := s.cfg.State.Changed(), s.cfg.State.Restored()
		snap := s.cfg.State.Snapshot()
		if snap.Index() >= index {
			return snap, nil
		}
		select {
		case <-changed:
		case <-restored:
		case <-s.closing.Done():
			return nil, errClosing()
		case <-ctx.Done():
			return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the state of this server is at index %d, and did not reach %d in time", snap.Index(), index).
				With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
		}
	}
}
