package rpc

import (
	"bytes"
	"context"
	"fmt"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Bounds of one start request.
const (
	maxCount        = 10_000
	maxCapabilities = 64
)

// StartInstance checks everything before it does anything: only then are module
// bytes stored, and only after that are instances created.
func (i *instances) StartInstance(ctx context.Context, m *api.StartInstanceRequest) (*api.StartInstanceResponse, error) {
	req, before, answered, err := i.request(m)
	if err != nil {
		return nil, err
	}
	if answered {
		return startResponse(before, true), nil
	}
	item := wasmatrix.StartItem{Request: req}
	if item.Placements, err = placementsOf(m); err != nil {
		return nil, err
	}
	if item.Assignments, err = assignmentsOf(item.Placements[0].Instance, m.GetCapabilities()); err != nil {
		return nil, err
	}
	spec, bytes, err := i.specOf(ctx, m)
	if err != nil {
		return nil, err
	}
	item.Spec = spec
	if m.GetStrict() {
		if err := i.strict(ctx, spec.Module, bytes, item.Assignments); err != nil {
			return nil, err
		}
	}
	if err := i.store(ctx, spec.Module, bytes); err != nil {
		return nil, err
	}
	res, err := i.cfg.Scheduler.Start(ctx, item)
	if err != nil {
		return nil, err
	}
	if res.Err != nil {
		return nil, res.Err
	}
	return startResponse(res.Instances, res.Duplicate), nil
}

func startResponse(ids []wasmatrix.InstanceID, duplicate bool) *api.StartInstanceResponse {
	res := &api.StartInstanceResponse{InstanceIds: make([]string, len(ids)), Duplicate: duplicate}
	for n, id := range ids {
		res.InstanceIds[n] = string(id)
	}
	if len(ids) > 0 {
		res.InstanceId = res.InstanceIds[0]
	}
	return res
}

// placementsOf names the instances.
func placementsOf(m *api.StartInstanceRequest) ([]wasmatrix.Placement, error) {
	count := max(m.GetCount(), 1)
	if count > maxCount {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "%d instances in one request, at most %d are allowed", count, maxCount).
			With(wasmatrix.DetailField, "count")
	}
	out := make([]wasmatrix.Placement, count)
	for n := range out {
		switch {
		case m.GetInstanceId() == "":
			out[n].Instance = wire.NewInstanceID()
		case count == 1:
			out[n].Instance = wasmatrix.InstanceID(m.GetInstanceId())
		default:
			out[n].Instance = wasmatrix.InstanceID(fmt.Sprintf("%s-%d", m.GetInstanceId(), n+1))
		}
	}
	// The last is the longest.
	_, err := instanceID(string(out[count-1].Instance))
	return out, err
}

func assignmentsOf(id wasmatrix.InstanceID, grants []*api.CapabilityGrant) ([]*wasmatrix.Assignment, error) {
	if len(grants) > maxCapabilities {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "%d capabilities, at most %d are allowed", len(grants), maxCapabilities).
			With(wasmatrix.DetailField, "capabilities")
	}
	var out []*wasmatrix.Assignment
	seen := make(map[wasmatrix.CapabilityID]bool, len(grants))
	for _, g := range grants {
		a, err := wasmatrix.NewAssignment(id, wasmatrix.CapabilityID(g.GetCapabilityId()), wire.GrantFrom(g))
		if err != nil {
			return nil, err
		}
		if seen[a.ID] {
			return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "capability %s is given twice", a.ID).With(wasmatrix.DetailField, "capabilities")
		}
		seen[a.ID] = true
		out = append(out, a)
	}
	return out, nil
}

// specOf reads the spec, and returns module bytes that are still to be stored.
func (i *instances) specOf(ctx context.Context, m *api.StartInstanceRequest) (*wasmatrix.Spec, []byte, error) {
	spec := wasmatrix.Spec{
		Args: m.GetArgs(), Env: m.GetEnv(), Labels: m.GetLabels(), Exclusive: m.GetExclusive(), Queue: m.GetQueue(),
		Stdin: m.GetStdin(),
	}
	var err error
	if spec.Constraints, err = wire.ConstraintsFrom(m.GetConstraints(), "constraints"); err != nil {
		return nil, nil, err
	}
	if spec.Restart, err = wire.RestartFrom(m.GetRestart()); err != nil {
		return nil, nil, err
	}
	if spec.Limits, err = wire.LimitsFrom(m.GetLimits()); err != nil {
		return nil, nil, err
	}
	var bytes []byte
	switch module := m.GetModule().(type) {
	case *api.StartInstanceRequest_ModuleBytes:
		if err := i.checkModuleSize(int64(len(module.ModuleBytes))); err != nil {
			return nil, nil, err
		}
		bytes = module.ModuleBytes
		spec.Module = wasmatrix.DigestOf(bytes)
	case *api.StartInstanceRequest_ModuleDigest:
		if spec.Module, err = wasmatrix.ParseDigest(module.ModuleDigest); err != nil {
			return nil, nil, field(err, "module_digest")
		}
		err = i.knownModule(ctx, func(snap wasmatrix.Snapshot) error { return moduleExists(snap, spec.Module) })
	case *api.StartInstanceRequest_ModuleName:
		if err := wasmatrix.ValidateName("module name", module.ModuleName); err != nil {
			return nil, nil, field(err, "module_name")
		}
		spec.ModuleName = module.ModuleName
		err = i.knownModule(ctx, func(snap wasmatrix.Snapshot) error {
			named, ok := snap.ModuleNamed(spec.ModuleName)
			if !ok {
				return moduleNotFound(spec.ModuleName)
			}
			spec.Module = named.Digest
			return nil
		})
	default:
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "no module given: one of module_bytes, module_digest and module_name").
			With(wasmatrix.DetailField, "module")
	}
	full := spec.WithDefaults()
	if err != nil {
		// What is wrong with the rest is worth more than a module that may come.
		full.Module[0] |= 1
		if invalid := full.Validate(); invalid != nil {
			return nil, nil, invalid
		}
		return nil, nil, err
	}
	return &full, bytes, full.Validate()
}

func moduleExists(snap wasmatrix.Snapshot, d wasmatrix.Digest) error {
	if _, ok := snap.Module(d); !ok {
		return moduleNotFound(d.String())
	}
	return nil
}

// knownModule looks again where find fails on a state that may lag.
func (s *Server) knownModule(ctx context.Context, find func(wasmatrix.Snapshot) error) error {
	if find(s.cfg.State.Snapshot()) == nil {
		return nil
	}
	snap, err := s.read(ctx, false)
	if err != nil {
		return err
	}
	return find(snap)
}

// strict refuses a module without the capabilities that it needs, before its bytes
// are stored where [Config.Inspect] allows it.
func (i *instances) strict(ctx context.Context, d wasmatrix.Digest, bytes []byte, assignments []*wasmatrix.Assignment) error {
	m, ok := i.cfg.State.Snapshot().Module(d)
	if !ok && i.cfg.Inspect != nil {
		var err error
		if m, err = i.cfg.Inspect(bytes); err != nil {
			return err
		}
	} else if !ok {
		if err := i.store(ctx, d, bytes); err != nil {
			return err
		}
		if m, ok = i.cfg.State.Snapshot().Module(d); !ok {
			return moduleNotFound(d.String())
		}
	}
	return checkStrict(m, assignments)
}

// store has the servers keep module bytes, unless they do.
func (i *instances) store(ctx context.Context, d wasmatrix.Digest, b []byte) error {
	if b == nil || moduleExists(i.cfg.State.Snapshot(), d) == nil {
		return nil
	}
	// Without a request ID of its own: to record a module twice changes nothing.
	_, _, err := i.cfg.Modules.Push(ctx, ModuleHeader{Digest: d, Size: int64(len(b))}, bytes.NewReader(b))
	return err
}
