package wasmatrix_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func goodSpec() wasmatrix.Spec {
	return wasmatrix.Spec{
		Module: wasmatrix.DigestOf([]byte("m")), Args: []string{"-v"}, Env: map[string]string{"K": "v=w"},
		Labels: map[string]string{"app": "web"}, Constraints: []wasmatrix.Constraint{{Key: "zone", Values: []string{"a"}}},
	}.WithDefaults()
}

func TestP18_SpecValidate(t *testing.T) {
	if s := goodSpec(); s.Validate() != nil {
		t.Fatal(s.Validate())
	}
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("k", i)] = ""
		}
		return m
	}
	for what, c := range map[string]struct {
		change func(*wasmatrix.Spec)
		code   wasmatrix.Code
		field  string
	}{
		"no module":           {func(s *wasmatrix.Spec) { s.Module = wasmatrix.Digest{} }, wasmatrix.CodeInvalidRequest, "module"},
		"arguments":           {func(s *wasmatrix.Spec) { s.Args = make([]string, wasmatrix.MaxArgs+1) }, wasmatrix.CodeValidation, "args"},
		"NUL in an argument":  {func(s *wasmatrix.Spec) { s.Args = []string{"a\x00"} }, wasmatrix.CodeValidation, "args"},
		"environment":         {func(s *wasmatrix.Spec) { s.Env = many(wasmatrix.MaxEnv + 1) }, wasmatrix.CodeValidation, "env"},
		"empty variable":      {func(s *wasmatrix.Spec) { s.Env = map[string]string{"": "v"} }, wasmatrix.CodeValidation, "env"},
		"variable with =":     {func(s *wasmatrix.Spec) { s.Env = map[string]string{"a=b": "v"} }, wasmatrix.CodeValidation, "env"},
		"NUL in a name":       {func(s *wasmatrix.Spec) { s.Env = map[string]string{"a\x00": "v"} }, wasmatrix.CodeValidation, "env"},
		"NUL in a value":      {func(s *wasmatrix.Spec) { s.Env = map[string]string{"a": "\x00"} }, wasmatrix.CodeValidation, "env"},
		"labels":              {func(s *wasmatrix.Spec) { s.Labels = many(wasmatrix.MaxLabels + 1) }, wasmatrix.CodeValidation, "labels"},
		"label key":           {func(s *wasmatrix.Spec) { s.Labels = map[string]string{"a b": ""} }, wasmatrix.CodeValidation, "labels"},
		"long label":          {func(s *wasmatrix.Spec) { s.Labels = map[string]string{"a": strings.Repeat("v", 257)} }, wasmatrix.CodeValidation, "labels"},
		"NUL in a label":      {func(s *wasmatrix.Spec) { s.Labels = map[string]string{"a": "\x00"} }, wasmatrix.CodeValidation, "labels"},
		"constraints":         {func(s *wasmatrix.Spec) { s.Constraints = make([]wasmatrix.Constraint, wasmatrix.MaxConstraints+1) }, wasmatrix.CodeValidation, "constraints"},
		"constraint key":      {func(s *wasmatrix.Spec) { s.Constraints[0].Key = "-" }, wasmatrix.CodeValidation, "constraints"},
		"constraint operator": {func(s *wasmatrix.Spec) { s.Constraints[0].Op = 6 }, wasmatrix.CodeValidation, "constraints"},
		"two values for =":    {func(s *wasmatrix.Spec) { s.Constraints[0].Values = []string{"a", "b"} }, wasmatrix.CodeValidation, "constraints"},
		"no value for in":     {func(s *wasmatrix.Spec) { s.Constraints[0] = wasmatrix.Constraint{Key: "a", Op: wasmatrix.ConstraintIn} }, wasmatrix.CodeValidation, "constraints"},
		"a value for !":       {func(s *wasmatrix.Spec) { s.Constraints[0].Op = wasmatrix.ConstraintAbsent }, wasmatrix.CodeValidation, "constraints"},
		"padded value":        {func(s *wasmatrix.Spec) { s.Constraints[0].Values = []string{" a"} }, wasmatrix.CodeValidation, "constraints"},
		"constraint text": {func(s *wasmatrix.Spec) {
			s.Constraints[0] = wasmatrix.Constraint{Key: "a", Op: wasmatrix.ConstraintIn, Values: make([]string, wasmatrix.MaxSpecText)}
		}, wasmatrix.CodeValidation, "args"},
		"text":              {func(s *wasmatrix.Spec) { s.Args = []string{strings.Repeat("a", wasmatrix.MaxSpecText+1)} }, wasmatrix.CodeValidation, "args"},
		"little memory":     {func(s *wasmatrix.Spec) { s.Limits.Memory = wasmatrix.WasmPage - 1 }, wasmatrix.CodeValidation, "limits.memory"},
		"much memory":       {func(s *wasmatrix.Spec) { s.Limits.Memory = wasmatrix.MaxMemory + wasmatrix.WasmPage }, wasmatrix.CodeValidation, "limits.memory"},
		"odd memory":        {func(s *wasmatrix.Spec) { s.Limits.Memory = wasmatrix.WasmPage + 1 }, wasmatrix.CodeValidation, "limits.memory"},
		"no CPU":            {func(s *wasmatrix.Spec) { s.Limits.CPU = 0 }, wasmatrix.CodeValidation, "limits.cpu"},
		"much CPU":          {func(s *wasmatrix.Spec) { s.Limits.CPU = 1_000_001 }, wasmatrix.CodeValidation, "limits.cpu"},
		"deadline":          {func(s *wasmatrix.Spec) { s.Limits.Deadline = -1 }, wasmatrix.CodeValidation, "limits.deadline"},
		"mode":              {func(s *wasmatrix.Spec) { s.Restart.Mode = 3 }, wasmatrix.CodeValidation, "restart.mode"},
		"negative backoff":  {func(s *wasmatrix.Spec) { s.Restart.Backoff.Initial = -1 }, wasmatrix.CodeValidation, "restart.backoff.initial"},
		"long backoff":      {func(s *wasmatrix.Spec) { s.Restart.Backoff.Initial = 25 * time.Hour }, wasmatrix.CodeValidation, "restart.backoff.initial"},
		"shrinking backoff": {func(s *wasmatrix.Spec) { s.Restart.Backoff.Multiplier = 0.5 }, wasmatrix.CodeValidation, "restart.backoff.multiplier"},
		"no number":         {func(s *wasmatrix.Spec) { s.Restart.Backoff.Multiplier = math.NaN() }, wasmatrix.CodeValidation, "restart.backoff.multiplier"},
		"infinite":          {func(s *wasmatrix.Spec) { s.Restart.Backoff.Multiplier = math.Inf(1) }, wasmatrix.CodeValidation, "restart.backoff.multiplier"},
		"max below initial": {func(s *wasmatrix.Spec) { s.Restart.Backoff.Max = 1 }, wasmatrix.CodeValidation, "restart.backoff.max"},
		"max":               {func(s *wasmatrix.Spec) { s.Restart.Backoff.Max = 25 * time.Hour }, wasmatrix.CodeValidation, "restart.backoff.max"},
		"jitter":            {func(s *wasmatrix.Spec) { s.Restart.Backoff.Jitter = 1.1 }, wasmatrix.CodeValidation, "restart.backoff.jitter"},
		"jitter no number":  {func(s *wasmatrix.Spec) { s.Restart.Backoff.Jitter = math.NaN() }, wasmatrix.CodeValidation, "restart.backoff.jitter"},
		"reset":             {func(s *wasmatrix.Spec) { s.Restart.Backoff.Reset = -1 }, wasmatrix.CodeValidation, "restart.backoff.reset"},
	} {
		s := goodSpec()
		c.change(&s)
		err := s.Validate()
		if wasmatrix.CodeOf(err) != c.code || wasmatrix.AsError(err).Details[wasmatrix.DetailField] != c.field {
			t.Errorf("%s: %v, field %q, want %s of %q", what, err, wasmatrix.AsError(err).Details[wasmatrix.DetailField], c.code, c.field)
		}
	}
}

func TestSpecValidateAtTheBounds(t *testing.T) {
	for what, change := range map[string]func(*wasmatrix.Spec){
		"least memory":   func(s *wasmatrix.Spec) { s.Limits.Memory = wasmatrix.WasmPage },
		"most memory":    func(s *wasmatrix.Spec) { s.Limits.Memory = wasmatrix.MaxMemory },
		"arguments":      func(s *wasmatrix.Spec) { s.Args = make([]string, wasmatrix.MaxArgs) },
		"no environment": func(s *wasmatrix.Spec) { s.Env = nil },
		"constant":       func(s *wasmatrix.Spec) { s.Restart.Backoff.Multiplier = 1 },
		"no wait":        func(s *wasmatrix.Spec) { s.Restart.Backoff.Initial, s.Restart.Backoff.Max = 0, 0 },
		"as much text":   func(s *wasmatrix.Spec) { *s = bare(*s); s.Args = []string{strings.Repeat("a", wasmatrix.MaxSpecText)} },
		"label":          func(s *wasmatrix.Spec) { s.Labels["a"] = strings.Repeat("v", wasmatrix.MaxLabelValue) },
		"most CPU":       func(s *wasmatrix.Spec) { s.Limits.CPU = 1_000_000 },
		"always":         func(s *wasmatrix.Spec) { s.Restart.Mode = wasmatrix.RestartAlways },
		"all the jitter": func(s *wasmatrix.Spec) { s.Restart.Backoff.Jitter = 1 },
		"a day of waits": func(s *wasmatrix.Spec) { s.Restart.Backoff.Initial, s.Restart.Backoff.Max = 24*time.Hour, 24*time.Hour },
		"both flags":     func(s *wasmatrix.Spec) { s.Exclusive, s.Queue = true, true },
	} {
		s := goodSpec()
		change(&s)
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func bare(s wasmatrix.Spec) wasmatrix.Spec {
	s.Args, s.Env, s.Labels, s.Constraints = nil, nil, nil, nil
	return s
}

func TestWithDefaultsFillsInWhatIsUnset(t *testing.T) {
	s := wasmatrix.Spec{}.WithDefaults()
	if s.Limits != wasmatrix.DefaultLimits || s.Restart.Backoff != wasmatrix.DefaultBackoff || s.Restart.Mode != wasmatrix.RestartNever {
		t.Errorf("%+v", s)
	}
	set := wasmatrix.Spec{
		Limits:  wasmatrix.Limits{Memory: 1 << 20, CPU: 1, Deadline: time.Second},
		Restart: wasmatrix.RestartPolicy{Backoff: wasmatrix.Backoff{Initial: 1, Multiplier: 1, Max: 1}},
	}
	if got := set.WithDefaults(); got.Limits != set.Limits || got.Restart != set.Restart {
		t.Errorf("%+v became %+v", set, got)
	}
	if d := set.WithDefaults(); d.Demand() != (wasmatrix.Capacity{Memory: 1 << 20, Instances: 1}) {
		t.Errorf("demand %+v", d.Demand())
	}
}

func TestRestartPolicyAllows(t *testing.T) {
	for _, c := range []struct {
		mode    wasmatrix.RestartMode
		max     uint32
		failed  bool
		retries uint32
		want    bool
	}{
		{wasmatrix.RestartNever, 0, true, 0, false},
		{wasmatrix.RestartNever, 9, false, 0, false},
		{wasmatrix.RestartOnFailure, 0, true, 1 << 31, true},
		{wasmatrix.RestartOnFailure, 0, false, 0, false},
		{wasmatrix.RestartOnFailure, 2, true, 1, true},
		{wasmatrix.RestartOnFailure, 2, true, 2, false},
		{wasmatrix.RestartAlways, 0, false, 7, true},
		{wasmatrix.RestartAlways, 1, false, 0, true},
		{wasmatrix.RestartAlways, 1, true, 1, false},
		{99, 0, true, 0, false},
	} {
		p := wasmatrix.RestartPolicy{Mode: c.mode, MaxRetries: c.max}
		if got := p.Allows(c.failed, c.retries); got != c.want {
			t.Errorf("%s with at most %d retries, failed %v after %d: %v", c.mode, c.max, c.failed, c.retries, got)
		}
		if p.Survives() != (c.mode != wasmatrix.RestartNever) {
			t.Errorf("%s survives: %v", c.mode, p.Survives())
		}
	}
}

func TestRestartModeIsReadAsItIsWritten(t *testing.T) {
	for m := wasmatrix.RestartNever; m <= wasmatrix.RestartAlways; m++ {
		if got, err := wasmatrix.ParseRestartMode(m.String()); err != nil || got != m {
			t.Errorf("%s is read as %s, %v", m, got, err)
		}
	}
	if m, err := wasmatrix.ParseRestartMode(""); err != nil || m != wasmatrix.RestartNever {
		t.Errorf("nothing is %s, %v", m, err)
	}
	for _, s := range []string{"Never", "on-failure", "restart(3)", " always"} {
		if _, err := wasmatrix.ParseRestartMode(s); wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestBackoffDelay(t *testing.T) {
	b := wasmatrix.Backoff{Initial: time.Second, Multiplier: 2, Max: 10 * time.Second}
	for retry, want := range map[uint32]time.Duration{
		0: 0, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second,
		1000: 10 * time.Second, math.MaxUint32: 10 * time.Second,
	} {
		if got := b.Delay(retry, 0.7); got != want {
			t.Errorf("retry %d waits %s, want %s", retry, got, want)
		}
	}
	b.Jitter = 0.5
	if low, mid := b.Delay(1, 0), b.Delay(1, 0.5); low != 500*time.Millisecond || mid != time.Second {
		t.Errorf("jitter spreads from %s around %s", low, mid)
	}
	if d := (wasmatrix.Backoff{}).Delay(5, 0.5); d != 0 {
		t.Errorf("no backoff waits %s", d)
	}
}

func TestBackoffDelayStaysInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := wasmatrix.Backoff{
			Initial:    time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "initial")),
			Multiplier: rapid.Float64Range(1, 100).Draw(t, "multiplier"),
			Jitter:     rapid.Float64Range(0, 1).Draw(t, "jitter"),
		}
		b.Max = time.Duration(rapid.Int64Range(int64(b.Initial), int64(24*time.Hour)).Draw(t, "max"))
		s := goodSpec()
		s.Restart.Backoff = b
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		retry := rapid.Uint32Range(1, math.MaxUint32).Draw(t, "retry")
		r := rapid.Float64Range(0, 0.999999).Draw(t, "r")
		d := b.Delay(retry, r)
		low, high := float64(b.Initial)*(1-b.Jitter)-1, float64(b.Max)*(1+b.Jitter)+1
		if float64(d) < low || float64(d) > high {
			t.Fatalf("%+v: retry %d waits %s", b, retry, d)
		}
		if retry < math.MaxUint32 && b.Delay(retry+1, r) < d {
			t.Fatalf("%+v: retry %d waits %s and the next %s", b, retry, d, b.Delay(retry+1, r))
		}
	})
}
