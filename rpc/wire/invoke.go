package wire

import (
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// InvocationFrom reads a request. It reports what cannot be read, as E1; call
// [wasmatrix.Invocation.Validate] for the rest. The data stays the message's.
func InvocationFrom(m *api.InvokeInstanceRequest) (wasmatrix.Invocation, error) {
	v := wasmatrix.Invocation{
		Instance: wasmatrix.InstanceID(m.GetInstanceId()),
		Function: m.GetFunction(),
		Data:     m.GetData(),
		Bytes:    m.Data != nil,
	}
	var err error
	if v.Timeout, err = DurationFrom(m.GetTimeout(), "timeout"); err != nil {
		return v, err
	}
	if len(m.GetArgs()) > wasmatrix.MaxInvokeArgs {
		v.Args = make([]string, len(m.GetArgs())) // for the validator to refuse
		return v, nil
	}
	for n, a := range m.GetArgs() {
		text, ok := numberText(a)
		if !ok {
			return v, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "argument %d is not a number: numbers and decimal texts are, and \"NaN\", \"Infinity\" and \"-Infinity\"", n+1).
				With(wasmatrix.DetailField, "args")
		}
		v.Args = append(v.Args, text)
	}
	return v, nil
}

// maxSafeInteger is the largest integer that JSON's numbers, which are doubles,
// cannot have been rounded to.
const maxSafeInteger = 1<<53 - 1

// maxNumberText is longer than any number that has a use, in bytes.
const maxNumberText = 400

// numberText is the decimal text of an argument. A number that may have been
// rounded on its way is written with an exponent, so that it cannot pass for an
// integer.
func numberText(v *structpb.Value) (string, bool) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		f := k.NumberValue
		switch {
		case math.IsInf(f, 1):
			return "Inf", true
		case f == math.Trunc(f) && math.Abs(f) <= maxSafeInteger:
			return strconv.FormatFloat(f, 'f', -1, 64), true
		case f == math.Trunc(f):
			return strconv.FormatFloat(f, 'e', -1, 64), true
		default:
			return strconv.FormatFloat(f, 'g', -1, 64), true // also NaN and -Inf
		}
	case *structpb.Value_StringValue:
		return decimalText(k.StringValue)
	default:
		return "", false
	}
}

// decimalText takes a decimal number, with or without fraction and exponent, or
// one of JSON's names for what is none.
func decimalText(s string) (string, bool) {
	switch s {
	case "NaN", "Inf", "-Inf":
		return s, true
	case "Infinity":
		return "Inf", true
	case "-Infinity":
		return "-Inf", true
	}
	if len(s) > maxNumberText || strings.Trim(s, "+-.0123456789eE") != "" {
		return "", false
	}
	if _, err := strconv.ParseFloat(s, 64); err != nil && !isRange(err) {
		return "", false
	}
	return s, true
}

// isRange tells a number that is too large from what is no number: whether it is
// too large for its parameter, its function's node knows.
func isRange(err error) bool {
	e, ok := err.(*strconv.NumError)       //nolint:errorlint // strconv documents this type
	return ok && e.Err == strconv.ErrRange //nolint:errorlint // as above
}

// InvocationResultTo converts what an invocation returned. It fails with
// INTERNAL_ERROR for a number that is none.
func InvocationResultTo(r wasmatrix.InvocationResult) (*api.InvokeInstanceResponse, error) {
	m := &api.InvokeInstanceResponse{Data: r.Data, Status: r.Status, Fuel: r.Fuel, Cpu: DurationTo(r.CPU)}
	for _, n := range r.Results {
		v, err := numberTo(n)
		if err != nil {
			return nil, err
		}
		m.Results = append(m.Results, v)
	}
	return m, nil
}

func numberTo(n wasmatrix.Number) (*structpb.Value, error) {
	if n.Type == "i64" {
		return structpb.NewStringValue(n.Text), nil
	}
	f, err := strconv.ParseFloat(n.Text, 64)
	switch {
	case err != nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the result %q is not a number of type %s", n.Text, n.Type)
	case math.IsNaN(f):
		return structpb.NewStringValue("NaN"), nil
	case math.IsInf(f, 1):
		return structpb.NewStringValue("Infinity"), nil
	case math.IsInf(f, -1):
		return structpb.NewStringValue("-Infinity"), nil
	default:
		return structpb.NewNumberValue(f), nil
	}
}

// CrashDetailTo converts what a node remembers of a crash.
func CrashDetailTo(d wasmatrix.CrashDetail) *api.CrashDetail {
	return &api.CrashDetail{Epoch: d.Epoch, Attempt: d.Attempt, Stack: validTexts(d.Stack), Stderr: d.Stderr}
}

// validTexts makes guests' names fit for a message.
func validTexts(in []string) []string {
	out := make([]string, len(in))
	for n, s := range in {
		out[n] = strings.ToValidUTF8(s, "\uFFFD")
	}
	return out
}
