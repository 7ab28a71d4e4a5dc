// Package wire converts between the messages of the API and root types. Both
// sides of a connection use it, so that they cannot disagree. Conversions from
// messages check only what a root type cannot hold; whether a request makes
// sense is for the validators of the root package.
package wire

import (
	"context"
	"errors"
	"maps"
	"net"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// connectCodes is the one table from codes to those of Connect and gRPC.
var connectCodes = map[wasmatrix.Code]connect.Code{
	wasmatrix.CodeInvalidRequest:         connect.CodeInvalidArgument,
	wasmatrix.CodeInstanceNotFound:       connect.CodeNotFound,
	wasmatrix.CodeCapabilityNotFound:     connect.CodeNotFound,
	wasmatrix.CodePermissionDenied:       connect.CodePermissionDenied,
	wasmatrix.CodeStorage:                connect.CodeInternal,
	wasmatrix.CodeValidation:             connect.CodeInvalidArgument,
	wasmatrix.CodeWasmRuntime:            connect.CodeFailedPrecondition,
	wasmatrix.CodeResourceExhausted:      connect.CodeResourceExhausted,
	wasmatrix.CodeTimeout:                connect.CodeDeadlineExceeded,
	wasmatrix.CodeCrashDetected:          connect.CodeAborted,
	wasmatrix.CodeRestartPolicyViolation: connect.CodeFailedPrecondition,
	wasmatrix.CodeNodeNotFound:           connect.CodeNotFound,
	wasmatrix.CodeModuleNotFound:         connect.CodeNotFound,
	wasmatrix.CodeProviderUnavailable:    connect.CodeUnavailable,
	wasmatrix.CodeNotLeader:              connect.CodeUnavailable,
	wasmatrix.CodeNoLeader:               connect.CodeUnavailable,
	wasmatrix.CodeConflict:               connect.CodeAborted,
	wasmatrix.CodeUnauthenticated:        connect.CodeUnauthenticated,
	wasmatrix.CodeCommunication:          connect.CodeUnavailable,
	wasmatrix.CodeInternal:               connect.CodeInternal,
}

// codeOfConnect gives an error that came without our detail, from Connect itself
// or from something between client and server, a code.
func codeOfConnect(c connect.Code) wasmatrix.Code {
	switch c {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange, connect.CodeUnimplemented, connect.CodeNotFound:
		return wasmatrix.CodeInvalidRequest
	case connect.CodeDeadlineExceeded, connect.CodeCanceled:
		return wasmatrix.CodeTimeout
	case connect.CodePermissionDenied:
		return wasmatrix.CodePermissionDenied
	case connect.CodeUnauthenticated:
		return wasmatrix.CodeUnauthenticated
	case connect.CodeResourceExhausted:
		return wasmatrix.CodeResourceExhausted
	case connect.CodeUnavailable:
		return wasmatrix.CodeCommunication
	case connect.CodeAborted, connect.CodeAlreadyExists, connect.CodeFailedPrecondition:
		return wasmatrix.CodeConflict
	default:
		return wasmatrix.CodeInternal
	}
}

// ErrorTo converts the detail of a failure, stamping it with the time if it has
// none yet. What it quotes of others need not be text; it is made so, since an
// error that could not be sent would say nothing.
func ErrorTo(e *wasmatrix.Error) *api.Error {
	t := e.Time
	if t.IsZero() {
		t = time.Now()
	}
	details := maps.Clone(e.Details)
	for k, v := range details {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			delete(details, k)
			details[toText(k)] = toText(v)
		}
	}
	return &api.Error{Code: string(e.Code), Message: toText(e.Message), Details: details, Time: timestamppb.New(t)}
}

// ErrorFrom converts back. A code that this build does not know is kept.
func ErrorFrom(m *api.Error) *wasmatrix.Error {
	e := &wasmatrix.Error{Code: wasmatrix.Code(m.GetCode()), Message: m.GetMessage(), Details: maps.Clone(m.GetDetails())}
	if m.GetTime() != nil {
		e.Time = m.GetTime().AsTime()
	}
	return e
}

// Coded gives any error of a server a code: its own, or what Connect says of
// it, or that of an expired or cancelled context.
func Coded(err error) *wasmatrix.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the deadline of the request passed").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	case errors.Is(err, context.Canceled):
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the request was cancelled").
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	}
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		if e, ok := detailOf(ce); ok {
			return e
		}
		return wasmatrix.Errorf(codeOfConnect(ce.Code()), "%s", ce.Message())
	}
	return wasmatrix.AsError(err)
}

// ToConnect makes the error that Connect sends: the code of the table and the
// detail.
func ToConnect(err error) *connect.Error {
	e := Coded(err)
	code, ok := connectCodes[e.Code]
	if !ok {
		code = connect.CodeUnknown
	}
	return WithCode(code, e)
}

// WithCode is ToConnect with a code that a protocol prescribes.
func WithCode(code connect.Code, e *wasmatrix.Error) *connect.Error {
	ce := connect.NewError(code, errors.New(e.Message))
	if d, err := connect.NewErrorDetail(ErrorTo(e)); err == nil {
		ce.AddDetail(d)
	}
	return ce
}

// FromConnect makes an *Error of what a call returned. A failure of the
// connection is COMMUNICATION_FAILURE, a deadline that passed here TIMEOUT, both
// with outcome unknown, unless the connection could not even be made.
func FromConnect(err error) *wasmatrix.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return e
	}
	ce, coded := errors.AsType[*connect.Error](err)
	if coded {
		if e, ok := detailOf(ce); ok {
			return e
		}
		if connect.IsWireError(ce) {
			return wasmatrix.Errorf(codeOfConnect(ce.Code()), "%s", ce.Message())
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return unknown(wasmatrix.Errorf(wasmatrix.CodeTimeout, "the call was cancelled: %w", err))
	case NotSent(err):
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "cannot connect: %w", err).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	case errors.Is(err, context.DeadlineExceeded), coded && ce.Code() == connect.CodeDeadlineExceeded:
		return unknown(wasmatrix.Errorf(wasmatrix.CodeTimeout, "no answer within the deadline: %w", err))
	case coded:
		switch ce.Code() {
		// Connect calls a connection that was reset by the peer cancelled.
		case connect.CodeCanceled, connect.CodeUnavailable, connect.CodeUnknown, connect.CodeInternal:
		default:
			return wasmatrix.Errorf(codeOfConnect(ce.Code()), "%s", ce.Message())
		}
	}
	return unknown(wasmatrix.Errorf(wasmatrix.CodeCommunication, "the connection failed: %w", err))
}

func unknown(e *wasmatrix.Error) *wasmatrix.Error {
	return e.With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// NotSent reports whether err says that no connection could be made, so that
// the peer has seen nothing of the request.
func NotSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// detailOf finds our detail. Connect says which of its errors came over the
// wire; those made here may carry one too.
func detailOf(ce *connect.Error) (*wasmatrix.Error, bool) {
	for _, d := range ce.Details() {
		v, err := d.Value()
		if err != nil {
			continue
		}
		if m, ok := v.(*api.Error); ok {
			return ErrorFrom(m), true
		}
	}
	return nil, false
}
