package wire

import (
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// statuses is both ways, by root value.
var statuses = [...]api.InstanceStatus{
	wasmatrix.StatusUnknown:  api.InstanceStatus_INSTANCE_STATUS_UNSPECIFIED,
	wasmatrix.StatusPending:  api.InstanceStatus_INSTANCE_STATUS_PENDING,
	wasmatrix.StatusStarting: api.InstanceStatus_INSTANCE_STATUS_STARTING,
	wasmatrix.StatusRunning:  api.InstanceStatus_INSTANCE_STATUS_RUNNING,
	wasmatrix.StatusBackoff:  api.InstanceStatus_INSTANCE_STATUS_BACKOFF,
	wasmatrix.StatusLost:     api.InstanceStatus_INSTANCE_STATUS_LOST,
	wasmatrix.StatusStopped:  api.InstanceStatus_INSTANCE_STATUS_STOPPED,
	wasmatrix.StatusCrashed:  api.InstanceStatus_INSTANCE_STATUS_CRASHED,
}

// StatusTo converts a status; one that the API does not have is UNSPECIFIED.
func StatusTo(s wasmatrix.Status) api.InstanceStatus {
	if int(s) < len(statuses) {
		return statuses[s]
	}
	return api.InstanceStatus_INSTANCE_STATUS_UNSPECIFIED
}

// StatusFrom converts back. UNSPECIFIED and unknown values are E1.
func StatusFrom(s api.InstanceStatus) (wasmatrix.Status, error) {
	if i := slices.Index(statuses[1:], s); i >= 0 {
		return wasmatrix.Status(i + 1), nil
	}
	return wasmatrix.StatusUnknown, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "unknown status %d", int32(s)).
		With(wasmatrix.DetailField, "status")
}

// InstanceTo converts an instance.
func InstanceTo(i *wasmatrix.Instance) *api.Instance {
	return &api.Instance{
		InstanceId:    string(i.ID),
		Spec:          SpecTo(i.Spec),
		Status:        StatusTo(i.Status),
		Node:          string(i.Node),
		Epoch:         i.Epoch,
		Attempt:       i.Attempt,
		StopRequested: i.StopRequested,
		Reason:        i.Reason,
		LastError:     string(i.LastError),
		ExitCode:      clone(i.ExitCode),
		Restarts:      i.Restarts,
		Crashes:       i.Crashes,
		CreatedAt:     timeTo(i.CreatedAt),
		StartedAt:     timeTo(i.StartedAt),
		ChangedAt:     timeTo(i.ChangedAt),
		CreateIndex:   i.CreateIndex,
		ModifyIndex:   i.ModifyIndex,
	}
}

// InstanceFrom converts back.
func InstanceFrom(m *api.Instance) (*wasmatrix.Instance, error) {
	spec, err := SpecFrom(m.GetSpec())
	if err != nil {
		return nil, err
	}
	status, err := StatusFrom(m.GetStatus())
	if err != nil {
		return nil, err
	}
	return &wasmatrix.Instance{
		ID:            wasmatrix.InstanceID(m.GetInstanceId()),
		Spec:          spec,
		Status:        status,
		Node:          wasmatrix.NodeID(m.GetNode()),
		Epoch:         m.GetEpoch(),
		Attempt:       m.GetAttempt(),
		StopRequested: m.GetStopRequested(),
		Reason:        m.GetReason(),
		LastError:     wasmatrix.Code(m.GetLastError()),
		ExitCode:      clone(m.ExitCode),
		Restarts:      m.GetRestarts(),
		Crashes:       m.GetCrashes(),
		CreatedAt:     timeFrom(m.GetCreatedAt()),
		StartedAt:     timeFrom(m.GetStartedAt()),
		ChangedAt:     timeFrom(m.GetChangedAt()),
		CreateIndex:   m.GetCreateIndex(),
		ModifyIndex:   m.GetModifyIndex(),
	}, nil
}

// CrashTo converts a crash; nil stays nil.
func CrashTo(c *wasmatrix.Crash) *api.Crash {
	if c == nil {
		return nil
	}
	return &api.Crash{
		Kind:     string(c.Kind),
		Message:  c.Message,
		ExitCode: clone(c.ExitCode),
		Stack:    slices.Clone(c.Stack),
		Node:     string(c.Node),
		Epoch:    c.Epoch,
		Attempt:  c.Attempt,
		Uptime:   DurationTo(time.Duration(c.Uptime)),
		Time:     timeTo(c.At),

		Fuel:            c.Fuel,
		MemoryPeakBytes: c.MemoryPeak,
	}
}

// CrashFrom converts back; nil stays nil. What a node says is bounded by the
// state machine, not here.
func CrashFrom(m *api.Crash) (*wasmatrix.Crash, error) {
	if m == nil {
		return nil, nil
	}
	uptime, err := DurationFrom(m.GetUptime(), "crash.uptime")
	if err != nil {
		return nil, err
	}
	return &wasmatrix.Crash{
		Kind:     wasmatrix.CrashKind(m.GetKind()),
		Message:  m.GetMessage(),
		ExitCode: clone(m.ExitCode),
		Stack:    slices.Clone(m.GetStack()),
		Node:     wasmatrix.NodeID(m.GetNode()),
		Epoch:    m.GetEpoch(),
		Attempt:  m.GetAttempt(),
		Uptime:   int64(uptime),
		At:       timeFrom(m.GetTime()),

		Fuel:       m.GetFuel(),
		MemoryPeak: m.GetMemoryPeakBytes(),
	}, nil
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
