package wasmatrix

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// Code is the kind of a failure as users see it: section E of the requirements.
type Code string

// The codes. Which of them a client may retry is [Code.Retryable].
const (
	CodeInvalidRequest         Code = "INVALID_REQUEST"          // E1: malformed
	CodeInstanceNotFound       Code = "INSTANCE_NOT_FOUND"       // E2
	CodeCapabilityNotFound     Code = "CAPABILITY_NOT_FOUND"     // E3: no such assignment or provider
	CodePermissionDenied       Code = "PERMISSION_DENIED"        // E4
	CodeStorage                Code = "STORAGE_ERROR"            // E5: log or disk failed, nothing acknowledged
	CodeValidation             Code = "VALIDATION_ERROR"         // E6: well-formed but inadmissible
	CodeWasmRuntime            Code = "WASM_RUNTIME_ERROR"       // E7: cannot be compiled, linked or instantiated
	CodeResourceExhausted      Code = "RESOURCE_EXHAUSTED"       // E8
	CodeTimeout                Code = "TIMEOUT"                  // E9: see DetailOutcome
	CodeCrashDetected          Code = "CRASH_DETECTED"           // E10
	CodeRestartPolicyViolation Code = "RESTART_POLICY_VIOLATION" // E11
	CodeNodeNotFound           Code = "NODE_NOT_FOUND"
	CodeModuleNotFound         Code = "MODULE_NOT_FOUND"
	CodeProviderUnavailable    Code = "PROVIDER_UNAVAILABLE"
	CodeNotLeader              Code = "NOT_LEADER" // nothing happened; DetailLeader may hint at the leader
	CodeNoLeader               Code = "NO_LEADER"  // nothing happened; the cluster is electing or has no majority
	CodeConflict               Code = "CONFLICT"   // a request ID reused with another body, a stale revision
	CodeUnauthenticated        Code = "UNAUTHENTICATED"
	CodeCommunication          Code = "COMMUNICATION_FAILURE" // a peer could not be reached or broke off
	CodeInternal               Code = "INTERNAL_ERROR"
)

// Codes lists every code, in the order of the requirements.
var Codes = []Code{
	CodeInvalidRequest, CodeInstanceNotFound, CodeCapabilityNotFound, CodePermissionDenied,
	CodeStorage, CodeValidation, CodeWasmRuntime, CodeResourceExhausted, CodeTimeout,
	CodeCrashDetected, CodeRestartPolicyViolation, CodeNodeNotFound, CodeModuleNotFound,
	CodeProviderUnavailable, CodeNotLeader, CodeNoLeader, CodeConflict, CodeUnauthenticated,
	CodeCommunication, CodeInternal,
}

// Keys of [Error.Details] that programs may rely on.
const (
	// DetailOutcome says whether a failed request may have taken effect:
	// OutcomeNone, OutcomeUnknown or OutcomeCommitted. Absent means none.
	DetailOutcome = "outcome"
	// DetailLeader is the API address of the leader, if known.
	DetailLeader = "leader"
	// DetailField names the offending field of a request, or key of a config.
	DetailField = "field"
)

// Values of [DetailOutcome].
const (
	OutcomeNone      = "none"
	OutcomeUnknown   = "unknown"
	OutcomeCommitted = "committed"
)

// Error is the failure of an operation as users see it. It is immutable once
// returned; With makes a changed copy.
type Error struct {
	Code    Code
	Message string            // one sentence, lower case, no final stop
	Details map[string]string // may be nil
	Time    time.Time         // when it happened; zero until it leaves the process
	err     error
}

// Errorf makes an Error of the given code. What %w verbs wrap is found by
// [errors.Is] and [errors.As].
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	cause := errors.Unwrap(err)
	if _, several := any(err).(interface{ Unwrap() []error }); several {
		cause = err
	}
	return &Error{Code: code, Message: err.Error(), err: cause}
}

// Error returns "CODE: message".
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.err }

// With returns a copy of e with one more detail.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.Details = maps.Clone(e.Details)
	if c.Details == nil {
		c.Details = make(map[string]string, 1)
	}
	c.Details[key] = value
	return &c
}

// CodeOf returns the code of the first [Error] in err's chain, "" for nil, also
// for a nil *Error, and CodeInternal for an error that has none.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if e == nil {
			return ""
		}
		return e.Code
	}
	return CodeInternal
}

// AsError returns the first [Error] in err's chain, or wraps err as
// CodeInternal. It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Errorf(CodeInternal, "%w", err)
}

// Retryable reports whether a request that failed with e may be sent again
// unchanged, with the same request ID, in the hope of success. It is safe even
// where the outcome is unknown, since the request ID makes the effect happen once.
func (e *Error) Retryable() bool {
	switch e.Code {
	case CodeNotLeader, CodeNoLeader, CodeCommunication:
		return true
	default:
		return false
	}
}
