package wasmatrix

import "time"

// Invocation is one call of a function that a reactor exports. Either Args or
// Data is used: numbers for a function of a numeric signature, bytes for one
// that takes its input and gives its output as package abi says.
type Invocation struct {
	Instance InstanceID
	Function string
	// Args are numbers in decimal, one for each parameter: integers in the range
	// of their type, signed or unsigned, and floats, also "NaN", "Inf", "-Inf".
	Args []string
	// Data is the input of a function of bytes. It is used where Bytes is set,
	// also if it is empty.
	Data  []byte
	Bytes bool
	// Timeout bounds waiting and execution together; 0 means
	// DefaultInvokeTimeout. A function that is executing when it passes is ended,
	// and its instance with it.
	Timeout time.Duration
}

// InvocationResult is what an invocation returned.
type InvocationResult struct {
	Results []Number // of a numeric signature
	Data    []byte   // of a function of bytes
	// Status is what a function of bytes returned; 0 is success, and what others
	// mean is between it and its caller.
	Status int32
	// Fuel and CPU are what the call used: units of about one instruction, and
	// time on a core.
	Fuel uint64
	CPU  time.Duration
}

// Number is a Wasm number.
type Number struct {
	Type string // i32, i64, f32 or f64
	Text string // as in [Invocation.Args]; integers are signed
}

// Bounds of an invocation.
const (
	DefaultInvokeTimeout = 30 * time.Second
	MaxInvokeTimeout     = 10 * time.Minute
	MaxInvokeData        = 4 << 20 // bytes of input, and of output
	MaxInvokeArgs        = 256
)

// Validate reports what is wrong with an invocation whatever it calls, as E1 or
// E6 with [DetailField].
func (v *Invocation) Validate() error {
	if err := v.Instance.Validate(); err != nil {
		return err
	}
	switch {
	case v.Function == "":
		return Errorf(CodeInvalidRequest, "no function given").With(DetailField, "function")
	case len(v.Args) > MaxInvokeArgs:
		return Errorf(CodeValidation, "%d arguments, at most %d are allowed", len(v.Args), MaxInvokeArgs).With(DetailField, "args")
	case v.Bytes && len(v.Args) > 0:
		return Errorf(CodeInvalidRequest, "both arguments and data are given").With(DetailField, "args")
	case len(v.Data) > MaxInvokeData:
		return Errorf(CodeResourceExhausted, "%d bytes of data, at most %d are allowed", len(v.Data), MaxInvokeData).With(DetailField, "data")
	case v.Timeout < 0 || v.Timeout > MaxInvokeTimeout:
		return Errorf(CodeValidation, "timeout %s is not between 0 and %s", v.Timeout, MaxInvokeTimeout).With(DetailField, "timeout")
	}
	return nil
}
