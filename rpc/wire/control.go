package wire

import (
	"maps"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// RegistrationTo converts a registration. Cluster is the one the node belongs
// to, "" before it has belonged to any.
func RegistrationTo(r wasmatrix.Registration, cluster wasmatrix.ClusterID) *api.RegisterRequest {
	m := &api.RegisterRequest{
		NodeId:    string(r.ID),
		BootId:    string(r.Boot),
		Address:   r.Addr,
		Version:   r.Version,
		Labels:    maps.Clone(r.Labels),
		Capacity:  CapacityTo(r.Capacity),
		ClusterId: string(cluster),
	}
	m.Holding = HoldingsTo(r.Holding)
	return m
}

// RegistrationFrom converts back.
func RegistrationFrom(m *api.RegisterRequest) (wasmatrix.Registration, error) {
	r := wasmatrix.Registration{
		ID:       wasmatrix.NodeID(m.GetNodeId()),
		Boot:     wasmatrix.BootID(m.GetBootId()),
		Addr:     m.GetAddress(),
		Version:  m.GetVersion(),
		Labels:   maps.Clone(m.GetLabels()),
		Capacity: CapacityFrom(m.GetCapacity()),
	}
	for _, h := range m.GetHolding() {
		status, err := StatusFrom(h.GetStatus())
		if err != nil {
			return r, err
		}
		r.Holding = append(r.Holding, wasmatrix.Holding{
			Instance: wasmatrix.InstanceID(h.GetInstanceId()), Epoch: h.GetEpoch(), Status: status, GrantsIndex: h.GetGrantsIndex(),
		})
	}
	return r, nil
}

// LeaseTo converts a lease.
func LeaseTo(l wasmatrix.Lease) *api.Lease {
	return &api.Lease{Ttl: durationpb.New(time.Duration(l.TTL)), Term: l.Term, Resync: l.Resync}
}

// LeaseFrom converts back.
func LeaseFrom(m *api.Lease) (wasmatrix.Lease, error) {
	ttl, err := DurationFrom(m.GetTtl(), "lease.ttl")
	return wasmatrix.Lease{TTL: int64(ttl), Term: m.GetTerm(), Resync: m.GetResync()}, err
}

// ReportTo converts a report.
func ReportTo(r wasmatrix.Report) *api.Report {
	return &api.Report{
		InstanceId: string(r.Instance),
		Epoch:      r.Epoch,
		Attempt:    r.Attempt,
		Seq:        r.Seq,
		Status:     StatusTo(r.Status),
		Reason:     r.Reason,
		Error:      string(r.Error),
		ExitCode:   clone(r.ExitCode),
		Crash:      CrashTo(r.Crash),
		Time:       timeTo(r.At),
	}
}

// ReportFrom converts back.
func ReportFrom(m *api.Report) (wasmatrix.Report, error) {
	status, err := StatusFrom(m.GetStatus())
	if err != nil {
		return wasmatrix.Report{}, err
	}
	crash, err := CrashFrom(m.GetCrash())
	if err != nil {
		return wasmatrix.Report{}, err
	}
	return wasmatrix.Report{
		Instance: wasmatrix.InstanceID(m.GetInstanceId()),
		Epoch:    m.GetEpoch(),
		Attempt:  m.GetAttempt(),
		Seq:      m.GetSeq(),
		Status:   status,
		Reason:   m.GetReason(),
		Error:    wasmatrix.Code(m.GetError()),
		ExitCode: clone(m.ExitCode),
		Crash:    crash,
		At:       timeFrom(m.GetTime()),
	}, nil
}

// HoldingsTo converts what a node has.
func HoldingsTo(holding []wasmatrix.Holding) []*api.Holding {
	out := make([]*api.Holding, len(holding))
	for i, h := range holding {
		out[i] = &api.Holding{InstanceId: string(h.Instance), Epoch: h.Epoch, Status: StatusTo(h.Status), GrantsIndex: h.GrantsIndex}
	}
	return out
}
