package rpc

import (
	"context"
	"net"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// control serves ControlService to nodes.
type control struct {
	*Server
	apiconnect.UnimplementedControlServiceHandler
}

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
