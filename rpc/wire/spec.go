package wire

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// SpecTo converts a spec.
func SpecTo(s *wasmatrix.Spec) *api.InstanceSpec {
	return &api.InstanceSpec{
		Module:      s.Module.String(),
		ModuleName:  s.ModuleName,
		Args:        slices.Clone(s.Args),
		Env:         maps.Clone(s.Env),
		Labels:      maps.Clone(s.Labels),
		Constraints: constraintsTo(s.Constraints),
		Restart:     restartTo(s.Restart),
		Limits:      limitsTo(s.Limits),
		Exclusive:   s.Exclusive,
		Queue:       s.Queue,
		Stdin:       slices.Clone(s.Stdin),
	}
}

// SpecFrom converts back. It reports what cannot be read; call
// [wasmatrix.Spec.Validate] for the rest. Defaults are not filled in.
func SpecFrom(m *api.InstanceSpec) (*wasmatrix.Spec, error) {
	digest, err := wasmatrix.ParseDigest(m.GetModule())
	if err != nil {
		return nil, err
	}
	s := &wasmatrix.Spec{
		Module:     digest,
		ModuleName: m.GetModuleName(),
		Args:       slices.Clone(m.GetArgs()),
		Env:        maps.Clone(m.GetEnv()),
		Labels:     maps.Clone(m.GetLabels()),
		Exclusive:  m.GetExclusive(),
		Queue:      m.GetQueue(),
		Stdin:      slices.Clone(m.GetStdin()),
	}
	if s.Constraints, err = ConstraintsFrom(m.GetConstraints(), "constraints"); err != nil {
		return nil, err
	}
	if s.Restart, err = RestartFrom(m.GetRestart()); err != nil {
		return nil, err
	}
	if s.Limits, err = LimitsFrom(m.GetLimits()); err != nil {
		return nil, err
	}
	return s, nil
}

func constraintsTo(cs []wasmatrix.Constraint) []string {
	if len(cs) == 0 {
		return nil
	}
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = c.String()
	}
	return out
}

// ConstraintsFrom reads constraints or selectors. Field names them in the error,
// which is E6.
func ConstraintsFrom(ss []string, field string) ([]wasmatrix.Constraint, error) {
	if len(ss) == 0 {
		return nil, nil
	}
	if len(ss) > wasmatrix.MaxConstraints {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "%d %s, at most %d are allowed", len(ss), field, wasmatrix.MaxConstraints).
			With(wasmatrix.DetailField, field)
	}
	out := make([]wasmatrix.Constraint, len(ss))
	for i, s := range ss {
		c, err := wasmatrix.ParseConstraint(s)
		if err != nil {
			return nil, wasmatrix.AsError(err).With(wasmatrix.DetailField, field)
		}
		out[i] = c
	}
	return out, nil
}

// restartModes is both ways, by root value.
var restartModes = [...]api.RestartMode{
	wasmatrix.RestartNever:     api.RestartMode_RESTART_MODE_NEVER,
	wasmatrix.RestartOnFailure: api.RestartMode_RESTART_MODE_ON_FAILURE,
	wasmatrix.RestartAlways:    api.RestartMode_RESTART_MODE_ALWAYS,
}

func restartTo(p wasmatrix.RestartPolicy) *api.RestartPolicy {
	m := &api.RestartPolicy{MaxRetries: p.MaxRetries}
	if int(p.Mode) < len(restartModes) {
		m.Mode = restartModes[p.Mode]
	}
	if p.Backoff != (wasmatrix.Backoff{}) {
		m.Backoff = &api.Backoff{
			Initial:    durationpb.New(p.Backoff.Initial),
			Multiplier: p.Backoff.Multiplier,
			Max:        durationpb.New(p.Backoff.Max),
			Jitter:     p.Backoff.Jitter,
			Reset_:     durationpb.New(p.Backoff.Reset),
		}
	}
	return m
}

// RestartFrom reads a policy; an absent one is the default, and what a backoff
// leaves out is as in [wasmatrix.DefaultBackoff], but for the jitter, whose
// absence is none. An unknown mode is E6.
func RestartFrom(m *api.RestartPolicy) (wasmatrix.RestartPolicy, error) {
	p := wasmatrix.RestartPolicy{MaxRetries: m.GetMaxRetries()}
	if m.GetMode() != api.RestartMode_RESTART_MODE_UNSPECIFIED {
		i := slices.Index(restartModes[:], m.GetMode())
		if i < 0 {
			return p, wasmatrix.Errorf(wasmatrix.CodeValidation, "unknown restart mode %d", int32(m.GetMode())).
				With(wasmatrix.DetailField, "restart.mode")
		}
		p.Mode = wasmatrix.RestartMode(i)
	}
	if m.GetBackoff() == nil {
		return p, nil
	}
	var err error
	p.Backoff, err = backoffFrom(m.GetBackoff())
	return p, err
}

func backoffFrom(m *api.Backoff) (wasmatrix.Backoff, error) {
	b := wasmatrix.DefaultBackoff
	b.Jitter = m.GetJitter()
	if m.GetMultiplier() != 0 {
		b.Multiplier = m.GetMultiplier()
	}
	for _, f := range []struct {
		to   *time.Duration
		from *durationpb.Duration
		name string
	}{
		{&b.Initial, m.GetInitial(), "restart.backoff.initial"},
		{&b.Max, m.GetMax(), "restart.backoff.max"},
		{&b.Reset, m.GetReset_(), "restart.backoff.reset"},
	} {
		if f.from == nil {
			continue
		}
		d, err := DurationFrom(f.from, f.name)
		if err != nil {
			return b, err
		}
		*f.to = d
	}
	if m.GetMax() == nil {
		b.Max = max(b.Max, b.Initial)
	}
	return b, nil
}

func limitsTo(l wasmatrix.Limits) *api.Limits {
	return &api.Limits{MemoryBytes: l.Memory, CpuMillis: l.CPU, Deadline: DurationTo(l.Deadline), Fuel: l.Fuel}
}

// LimitsFrom reads limits; absent ones are zero.
func LimitsFrom(m *api.Limits) (wasmatrix.Limits, error) {
	d, err := DurationFrom(m.GetDeadline(), "limits.deadline")
	return wasmatrix.Limits{Memory: m.GetMemoryBytes(), CPU: m.GetCpuMillis(), Deadline: d, Fuel: m.GetFuel()}, err
}
