package fsm

import (
	"maps"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
)

// Conversions of the records that commands and snapshots share. The status,
// module kind and node status of the root package have the schema's numbers;
// restart mode and constraint operator are one below, since the schema keeps
// zero for "not given". A test holds all of them to the schema's names.

func encodeEach[T, M any](in []T, f func(*T) *M) []*M {
	if len(in) == 0 {
		return nil
	}
	out := make([]*M, len(in))
	for n := range in {
		out[n] = f(&in[n])
	}
	return out
}

func decodeEach[M, T any](in []*M, f func(*M) T) []T {
	if len(in) == 0 {
		return nil
	}
	out := make([]T, len(in))
	for n := range in {
		out[n] = f(in[n])
	}
	return out
}

func encodeStrings[T ~string](in []T) []string {
	if len(in) == 0 {
		return nil
	}
	out := make([]string, len(in))
	for n, s := range in {
		out[n] = string(s)
	}
	return out
}

func decodeStrings[T ~string](in []string) []T {
	if len(in) == 0 {
		return nil
	}
	out := make([]T, len(in))
	for n, s := range in {
		out[n] = T(s)
	}
	return out
}

func encodePairs(m map[string]string) []*log.Pair {
	if len(m) == 0 {
		return nil
	}
	out := make([]*log.Pair, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, &log.Pair{Key: k, Value: m[k]})
	}
	return out
}

func decodePairs(in []*log.Pair) map[string]string {
	if len(in) == 0 {
		return nil
	}
	m := make(map[string]string, len(in))
	for _, p := range in {
		m[p.GetKey()] = p.GetValue()
	}
	return m
}

func encodeCapacity(c wasmatrix.Capacity) *log.Capacity {
	return &log.Capacity{Memory: c.Memory, Instances: c.Instances}
}

func decodeCapacity(c *log.Capacity) wasmatrix.Capacity {
	return wasmatrix.Capacity{Memory: c.GetMemory(), Instances: c.GetInstances()}
}

func encodeRequest(r wasmatrix.Request) *log.Request {
	if r == (wasmatrix.Request{}) {
		return nil
	}
	return &log.Request{Id: string(r.ID), Body: r.Body[:]}
}

func encodeSpec(s *wasmatrix.Spec) *log.Spec {
	if s == nil {
		return nil
	}
	b := s.Restart.Backoff
	return &log.Spec{
		Module: s.Module[:], ModuleName: s.ModuleName, Args: s.Args,
		Env: encodePairs(s.Env), Labels: encodePairs(s.Labels),
		Constraints: encodeConstraints(s.Constraints),
		Restart: &log.RestartPolicy{
			Mode: log.RestartMode(s.Restart.Mode) + 1, MaxRetries: s.Restart.MaxRetries,
			BackoffInitial: int64(b.Initial), BackoffMultiplier: b.Multiplier, BackoffMax: int64(b.Max),
			BackoffJitter: b.Jitter, BackoffReset: int64(b.Reset),
		},
		Limits:    &log.Limits{Memory: s.Limits.Memory, Cpu: s.Limits.CPU, Deadline: int64(s.Limits.Deadline), Fuel: s.Limits.Fuel},
		Exclusive: s.Exclusive, Queue: s.Queue, Stdin: s.Stdin,
	}
}

func encodeConstraints(in []wasmatrix.Constraint) []*log.Constraint {
	return encodeEach(in, func(c *wasmatrix.Constraint) *log.Constraint {
		return &log.Constraint{Key: c.Key, Op: log.ConstraintOp(c.Op) + 1, Values: c.Values}
	})
}

func encodeAssignment(a *wasmatrix.Assignment) *log.Assignment {
	if a == nil {
		return nil
	}
	return &log.Assignment{
		Instance: string(a.Instance), Id: string(a.ID), Type: string(a.Type), Permissions: encodeStrings(a.Permissions),
		CreatedAt: int64(a.CreatedAt), CreateIndex: a.CreateIndex,
		Provider: string(a.Provider), Namespace: a.Namespace, Stale: a.Stale,
	}
}

func decodeAssignment(a *log.Assignment) *wasmatrix.Assignment {
	if a == nil {
		return nil
	}
	return &wasmatrix.Assignment{
		Instance: wasmatrix.InstanceID(a.GetInstance()), ID: wasmatrix.CapabilityID(a.GetId()),
		Grant: wasmatrix.Grant{
			Type: interned(knownProviders, a.GetType()), Permissions: decodeStrings[wasmatrix.Permission](a.GetPermissions()),
			Provider: wasmatrix.ProviderID(a.GetProvider()), Namespace: a.GetNamespace(), Stale: a.GetStale(),
		},
		CreatedAt: wasmatrix.Time(a.GetCreatedAt()), CreateIndex: a.GetCreateIndex(),
	}
}

func encodeProvider(p *wasmatrix.Provider) *log.Provider {
	if p == nil {
		return nil
	}
	return &log.Provider{
		Id: string(p.ID), Type: string(p.Type), Config: encodePairs(p.Config), Constraints: encodeConstraints(p.Constraints),
		Stopped: p.Stopped, Revision: p.Revision, ChangedAt: int64(p.ChangedAt),
		CreateIndex: p.CreateIndex, ModifyIndex: p.ModifyIndex,
	}
}

func encodeModule(m *wasmatrix.Module) *log.Module {
	if m == nil {
		return nil
	}
	return &log.Module{
		Digest: m.Digest[:], Size: m.Size, Kind: log.ModuleKind(m.Kind), Imports: m.Imports, Exports: m.Exports,
		CreatedAt: int64(m.CreatedAt), UsedAt: int64(m.UsedAt), CreateIndex: m.CreateIndex,
	}
}

func encodeCrash(c *wasmatrix.Crash) *log.Crash {
	if c == nil {
		return nil
	}
	return &log.Crash{
		Kind: string(c.Kind), Message: c.Message, ExitCode: c.ExitCode, Stack: c.Stack,
		Node: string(c.Node), Epoch: c.Epoch, Attempt: c.Attempt, Uptime: c.Uptime, At: int64(c.At),
		Fuel: c.Fuel, MemoryPeak: c.MemoryPeak,
	}
}

func decodeCrash(c *log.Crash) *wasmatrix.Crash {
	if c == nil {
		return nil
	}
	return &wasmatrix.Crash{
		Kind: interned(knownKinds, c.GetKind()), Message: c.GetMessage(), ExitCode: c.ExitCode, Stack: c.GetStack(),
		Node: wasmatrix.NodeID(c.GetNode()), Epoch: c.GetEpoch(), Attempt: c.GetAttempt(),
		Uptime: c.GetUptime(), At: wasmatrix.Time(c.GetAt()),
		Fuel: c.GetFuel(), MemoryPeak: c.GetMemoryPeak(),
	}
}

// decoder converts records that may be wrong in ways that the schema allows. It
// remembers the first thing that was.
type decoder struct{ wrong string }

func (d *decoder) fail(what string) {
	if d.wrong == "" {
		d.wrong = what
	}
}

func (d *decoder) request(r *log.Request) wasmatrix.Request {
	if r == nil {
		return wasmatrix.Request{}
	}
	out := wasmatrix.Request{ID: wasmatrix.RequestID(r.GetId())}
	if copy(out.Body[:], r.GetBody()) != len(r.GetBody()) || len(r.GetBody()) != len(out.Body) {
		d.fail("request body")
	}
	return out
}

func (d *decoder) digest(b []byte) wasmatrix.Digest {
	var out wasmatrix.Digest
	if len(b) != len(out) {
		d.fail("digest")
		return out
	}
	return wasmatrix.Digest(b)
}

func (d *decoder) status(s log.Status) wasmatrix.Status {
	if s < 0 || s > log.Status_STATUS_CRASHED {
		d.fail("status")
		return 0
	}
	return wasmatrix.Status(s)
}

func (d *decoder) spec(s *log.Spec) *wasmatrix.Spec {
	if s == nil {
		return nil
	}
	r, l := s.GetRestart(), s.GetLimits()
	if m := r.GetMode(); m < log.RestartMode_RESTART_MODE_NEVER || m > log.RestartMode_RESTART_MODE_ALWAYS {
		d.fail("restart mode")
	}
	return &wasmatrix.Spec{
		Module: d.digest(s.GetModule()), ModuleName: s.GetModuleName(), Args: s.GetArgs(),
		Env: decodePairs(s.GetEnv()), Labels: decodePairs(s.GetLabels()), Constraints: d.constraints(s.GetConstraints()),
		Restart: wasmatrix.RestartPolicy{
			Mode: wasmatrix.RestartMode(r.GetMode() - 1), MaxRetries: r.GetMaxRetries(),
			Backoff: wasmatrix.Backoff{
				Initial: time.Duration(r.GetBackoffInitial()), Multiplier: r.GetBackoffMultiplier(), Max: time.Duration(r.GetBackoffMax()),
				Jitter: r.GetBackoffJitter(), Reset: time.Duration(r.GetBackoffReset()),
			},
		},
		Limits:    wasmatrix.Limits{Memory: l.GetMemory(), CPU: l.GetCpu(), Deadline: time.Duration(l.GetDeadline()), Fuel: l.GetFuel()},
		Exclusive: s.GetExclusive(), Queue: s.GetQueue(), Stdin: s.GetStdin(),
	}
}

func (d *decoder) constraints(in []*log.Constraint) []wasmatrix.Constraint {
	return decodeEach(in, func(c *log.Constraint) wasmatrix.Constraint {
		if op := c.GetOp(); op < log.ConstraintOp_CONSTRAINT_OP_EQUALS || op > log.ConstraintOp_CONSTRAINT_OP_ABSENT {
			d.fail("constraint")
		}
		return wasmatrix.Constraint{Key: c.GetKey(), Op: wasmatrix.ConstraintOp(c.GetOp() - 1), Values: c.GetValues()}
	})
}

func (d *decoder) provider(p *log.Provider) *wasmatrix.Provider {
	if p == nil {
		return nil
	}
	return &wasmatrix.Provider{
		ID: wasmatrix.ProviderID(p.GetId()), Type: interned(knownProviders, p.GetType()), Config: decodePairs(p.GetConfig()),
		Constraints: d.constraints(p.GetConstraints()), Stopped: p.GetStopped(), Revision: p.GetRevision(),
		ChangedAt: wasmatrix.Time(p.GetChangedAt()), CreateIndex: p.GetCreateIndex(), ModifyIndex: p.GetModifyIndex(),
	}
}

func (d *decoder) module(m *log.Module) *wasmatrix.Module {
	if m == nil {
		return nil
	}
	if k := m.GetKind(); k < 0 || k > log.ModuleKind_MODULE_KIND_REACTOR {
		d.fail("module kind")
	}
	return &wasmatrix.Module{
		Digest: d.digest(m.GetDigest()), Size: m.GetSize(), Kind: wasmatrix.ModuleKind(m.GetKind()),
		Imports: m.GetImports(), Exports: m.GetExports(),
		CreatedAt: wasmatrix.Time(m.GetCreatedAt()), UsedAt: wasmatrix.Time(m.GetUsedAt()), CreateIndex: m.GetCreateIndex(),
	}
}
