package wasmatrix

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Spec is what a start request asks for. It is immutable once accepted and
// shared by all instances of one request.
type Spec struct {
	Module      Digest
	ModuleName  string            // the name it was started by, for people; may be empty
	Args        []string          // without the program's name
	Env         map[string]string // all the environment that the guest sees
	Stdin       []byte            // what the guest reads from its standard input; at most MaxStdin
	Labels      map[string]string
	Constraints []Constraint // all must hold of a node
	Restart     RestartPolicy
	Limits      Limits
	Exclusive   bool // at most one epoch may have effects at a time (I6)
	Queue       bool // wait as pending where there is no capacity, rather than fail
}

// Limits bound one instance. Zero means the default of [DefaultLimits].
type Limits struct {
	Memory   uint64        // bytes of linear memory; a multiple of 64 KiB
	CPU      uint32        // thousandths of a core
	Deadline time.Duration // wall-clock time of one execution; 0 is unlimited
	// Fuel bounds the instructions of one execution, of all its invocations
	// together, in units of about one instruction; 0 is unlimited.
	Fuel uint64
}

// WasmPage is the unit of Wasm memory, in bytes.
const WasmPage = 64 << 10

// DefaultLimits apply where a start request leaves a limit at zero.
var DefaultLimits = Limits{Memory: 64 << 20, CPU: 1000}

// MaxMemory is the largest memory limit of an instance, in bytes: all that a
// 32-bit Wasm memory can address.
const MaxMemory = 4 << 30

// RestartMode says after which ends an instance is started again.
type RestartMode uint8

// The modes.
const (
	RestartNever     RestartMode = iota // the default
	RestartOnFailure                    // after a crash
	RestartAlways                       // after a crash and after exit 0
)

var restartNames = [...]string{"never", "on_failure", "always"}

// String returns the name in configuration and API.
func (m RestartMode) String() string {
	if int(m) < len(restartNames) {
		return restartNames[m]
	}
	return fmt.Sprintf("restart(%d)", uint8(m))
}

// ParseRestartMode reads never, on_failure or always; "" is never. Errors are E6.
func ParseRestartMode(s string) (RestartMode, error) {
	if s == "" {
		return RestartNever, nil
	}
	for i, n := range restartNames {
		if n == s {
			return RestartMode(i), nil
		}
	}
	return RestartNever, Errorf(CodeValidation, "unknown restart policy %q: never, on_failure or always", s).With(DetailField, "restart")
}

// RestartPolicy is applied by the node that runs the instance (R15).
type RestartPolicy struct {
	Mode RestartMode
	// MaxRetries is how many restarts may follow one another without a
	// healthy period between them; 0 is unlimited.
	MaxRetries uint32
	Backoff    Backoff
}

// Allows reports whether the policy starts an instance again after it crashed
// (failed) or exited 0, when retries restarts have followed one another.
func (p RestartPolicy) Allows(failed bool, retries uint32) bool {
	switch p.Mode {
	case RestartAlways:
	case RestartOnFailure:
		if !failed {
			return false
		}
	default:
		return false
	}
	return p.MaxRetries == 0 || retries < p.MaxRetries
}

// Survives reports whether an instance is placed anew when its node is lost.
func (p RestartPolicy) Survives() bool { return p.Mode != RestartNever }

// Backoff is the delay before the nth restart in a row:
// min(Max, Initial × Multiplier^(n-1)), then spread by ±Jitter of itself.
// The row ends after an execution that ran for Reset; where that is 0, never.
type Backoff struct {
	Initial    time.Duration
	Multiplier float64 // at least 1
	Max        time.Duration
	Jitter     float64 // 0 to 1
	Reset      time.Duration
}

// DefaultBackoff applies where a start request gives no backoff.
var DefaultBackoff = Backoff{
	Initial: time.Second, Multiplier: 2, Max: time.Minute, Jitter: 0.1, Reset: 30 * time.Second,
}

// Delay returns the delay before restart number retry, counted from 1.
// The random number r in [0, 1) chooses the point within the jitter.
func (b Backoff) Delay(retry uint32, r float64) time.Duration {
	if b.Initial <= 0 || retry == 0 {
		return 0
	}
	d := math.Min(float64(b.Max), float64(b.Initial)*math.Pow(b.Multiplier, float64(retry-1)))
	d += d * b.Jitter * (2*r - 1)
	return time.Duration(d)
}

// Bounds of a Spec, so that no request makes the replicated state grow beyond
// reason.
const (
	MaxArgs        = 256
	MaxEnv         = 256
	MaxLabels      = 64
	MaxConstraints = 32
	MaxSpecText    = 64 << 10 // bytes of all strings together
	MaxStdin       = 64 << 10 // bytes
	MaxLabelValue  = 256      // bytes
)

// WithDefaults returns s with every unset limit and backoff filled in.
func (s Spec) WithDefaults() Spec {
	if s.Limits.Memory == 0 {
		s.Limits.Memory = DefaultLimits.Memory
	}
	if s.Limits.CPU == 0 {
		s.Limits.CPU = DefaultLimits.CPU
	}
	if s.Restart.Backoff == (Backoff{}) {
		s.Restart.Backoff = DefaultBackoff
	}
	return s
}

// Validate reports the first thing that is wrong with s, as E1 or E6 with
// [DetailField]. Call it on the result of [Spec.WithDefaults].
func (s *Spec) Validate() error {
	if s.Module.IsZero() {
		return Errorf(CodeInvalidRequest, "no module given").With(DetailField, "module")
	}
	for _, check := range []func() error{
		s.validateText, s.validateLabels, s.Limits.validate, s.Restart.validate,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) validateText() error {
	if len(s.Args) > MaxArgs {
		return Errorf(CodeValidation, "%d arguments, at most %d are allowed", len(s.Args), MaxArgs).With(DetailField, "args")
	}
	if len(s.Stdin) > MaxStdin {
		return Errorf(CodeValidation, "%d bytes of standard input, at most %d are allowed", len(s.Stdin), MaxStdin).With(DetailField, "stdin")
	}
	if len(s.Env) > MaxEnv {
		return Errorf(CodeValidation, "%d environment variables, at most %d are allowed", len(s.Env), MaxEnv).With(DetailField, "env")
	}
	total := len(s.ModuleName)
	for _, a := range s.Args {
		if hasNUL(a) {
			return Errorf(CodeValidation, "an argument has a NUL byte").With(DetailField, "args")
		}
		total += len(a)
	}
	for k, v := range s.Env {
		if k == "" || hasNUL(k) || hasNUL(v) || strings.Contains(k, "=") {
			return Errorf(CodeValidation, "environment variable %q: names are not empty and have no '=', and nothing has a NUL byte", k).With(DetailField, "env")
		}
		total += len(k) + len(v)
	}
	for k, v := range s.Labels {
		total += len(k) + len(v)
	}
	for _, c := range s.Constraints {
		total += len(c.Key)
		for _, v := range c.Values {
			total += len(v) + 1 // many empty ones are not free
		}
	}
	if total > MaxSpecText {
		return Errorf(CodeValidation, "arguments, environment, labels and constraints have %d bytes, at most %d are allowed", total, MaxSpecText).With(DetailField, "args")
	}
	return nil
}

func (s *Spec) validateLabels() error {
	if err := ValidateLabels(s.Labels); err != nil {
		return err
	}
	if len(s.Constraints) > MaxConstraints {
		return Errorf(CodeValidation, "%d constraints, at most %d are allowed", len(s.Constraints), MaxConstraints).With(DetailField, "constraints")
	}
	for _, c := range s.Constraints {
		if err := c.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// ValidateLabels reports E6 for a label whose key is not a name of up to 64
// characters or whose value is longer than 256 bytes.
func ValidateLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return Errorf(CodeValidation, "%d labels, at most %d are allowed", len(labels), MaxLabels).With(DetailField, "labels")
	}
	for k, v := range labels {
		if err := validateName("label", k); err != nil {
			return Errorf(CodeValidation, "%s", AsError(err).Message).With(DetailField, "labels")
		}
		if len(v) > MaxLabelValue || hasNUL(v) {
			return Errorf(CodeValidation, "label %q: a value has at most %d bytes and no NUL", k, MaxLabelValue).With(DetailField, "labels")
		}
	}
	return nil
}

func (l Limits) validate() error {
	switch {
	case l.Memory < WasmPage || l.Memory > MaxMemory:
		return Errorf(CodeValidation, "memory limit of %d bytes is not between 64KiB and 4GiB", l.Memory).With(DetailField, "limits.memory")
	case l.Memory%WasmPage != 0:
		return Errorf(CodeValidation, "memory limit of %d bytes is not a multiple of 64KiB", l.Memory).With(DetailField, "limits.memory")
	case l.CPU == 0 || l.CPU > 1_000_000:
		return Errorf(CodeValidation, "CPU limit of %dm is not between 1m and 1000000m", l.CPU).With(DetailField, "limits.cpu")
	case l.Deadline < 0:
		return Errorf(CodeValidation, "deadline %s is negative", l.Deadline).With(DetailField, "limits.deadline")
	}
	return nil
}

func (p RestartPolicy) validate() error {
	b := p.Backoff
	var field string
	switch {
	case int(p.Mode) >= len(restartNames):
		field = "restart.mode"
	case b.Initial < 0 || b.Initial > 24*time.Hour:
		field = "restart.backoff.initial"
	case math.IsNaN(b.Multiplier) || b.Multiplier < 1 || b.Multiplier > 100:
		field = "restart.backoff.multiplier"
	case b.Max < b.Initial || b.Max > 24*time.Hour:
		field = "restart.backoff.max"
	case math.IsNaN(b.Jitter) || b.Jitter < 0 || b.Jitter > 1:
		field = "restart.backoff.jitter"
	case b.Reset < 0:
		field = "restart.backoff.reset"
	default:
		return nil
	}
	return Errorf(CodeValidation, "restart policy: %s is out of range (initial 0 to 24h, multiplier 1 to 100, max from initial to 24h, jitter 0 to 1, reset not negative)", field).With(DetailField, field)
}

func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }
