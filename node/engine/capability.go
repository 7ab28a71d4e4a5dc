package engine

import (
	"context"
	"errors"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Capabilities carries out what the guest of a run asks of the world. Its
// methods block for as long as that takes and end soon after their context has.
// They are called from the goroutine of the run, without a core; what they
// return is used by that goroutine, and Receive by one more for each
// subscription whose messages are pushed.
//
// Keys, topics and groups are valid UTF-8 and within the bounds of package abi,
// and so is what is sent. Values and data are copies that the callee may keep.
// What an exchange writes from or reads to is the guest's own memory, and must
// not be touched after the method has returned. Errors reach the guest as the
// table of this file says.
type Capabilities interface {
	KVGet(ctx context.Context, id wasmatrix.CapabilityID, key string) (capability.Entry, bool, error)
	KVSet(ctx context.Context, id wasmatrix.CapabilityID, key string, value []byte, o capability.SetOptions) (revision uint64, err error)
	KVDelete(ctx context.Context, id wasmatrix.CapabilityID, key string) (bool, error)
	KVList(ctx context.Context, id wasmatrix.CapabilityID, q capability.ListQuery) (capability.Page, error)
	// HTTPOpen begins a request that ctx bounds until it is closed.
	HTTPOpen(ctx context.Context, id wasmatrix.CapabilityID, r *capability.Request) (capability.Exchange, error)
	Publish(ctx context.Context, id wasmatrix.CapabilityID, topic string, data []byte) error
	// Subscribe makes a subscription that ctx bounds until it is closed.
	Subscribe(ctx context.Context, id wasmatrix.CapabilityID, topic, group string) (capability.Subscription, error)
}

// errorOf is what guests are told for each code; ErrFailed for those that are not
// here.
var errorOf = map[wasmatrix.Code]abi.Error{
	wasmatrix.CodePermissionDenied:    abi.ErrDenied,
	wasmatrix.CodeCapabilityNotFound:  abi.ErrDenied,
	wasmatrix.CodeConflict:            abi.ErrConflict,
	wasmatrix.CodeInvalidRequest:      abi.ErrInvalid,
	wasmatrix.CodeValidation:          abi.ErrInvalid,
	wasmatrix.CodeProviderUnavailable: abi.ErrUnavailable,
	wasmatrix.CodeNoLeader:            abi.ErrUnavailable,
	wasmatrix.CodeNotLeader:           abi.ErrUnavailable,
	wasmatrix.CodeResourceExhausted:   abi.ErrLimit,
	wasmatrix.CodeTimeout:             abi.ErrTimeout,
	wasmatrix.CodeCommunication:       abi.ErrFailed,
}

// refusal is an error that the engine itself answers a guest with.
type refusal struct {
	code abi.Error
	text string
}

func (r *refusal) Error() string { return r.text }

var (
	errBounds   = &refusal{abi.ErrBounds, "an address and a length reach beyond the guest's memory"}
	errTooLarge = &refusal{abi.ErrTooLarge, "longer than the host takes"}
	errNoCall   = &refusal{abi.ErrNoCall, "no invocation of bytes is under way"}
	errNone     = &refusal{abi.ErrDenied, "the instance has no capabilities"}
)

// explain is what a guest is told of an error: its number, and words. Those of
// errors that are the host's own stay here, since they may tell of the host.
func explain(err error) (abi.Error, string) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.code, r.text
	}
	code := wasmatrix.CodeOf(err)
	if n, ok := errorOf[code]; ok {
		return n, wasmatrix.AsError(err).Message
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return abi.ErrTimeout, "time ran out"
	}
	return abi.ErrFailed, "the provider failed"
}

// denied are the capabilities of who has none.
type denied struct{}

func (denied) KVGet(context.Context, wasmatrix.CapabilityID, string) (capability.Entry, bool, error) {
	return capability.Entry{}, false, errNone
}

func (denied) KVSet(context.Context, wasmatrix.CapabilityID, string, []byte, capability.SetOptions) (uint64, error) {
	return 0, errNone
}

func (denied) KVDelete(context.Context, wasmatrix.CapabilityID, string) (bool, error) {
	return false, errNone
}

func (denied) KVList(context.Context, wasmatrix.CapabilityID, capability.ListQuery) (capability.Page, error) {
	return capability.Page{}, errNone
}

func (denied) HTTPOpen(context.Context, wasmatrix.CapabilityID, *capability.Request) (capability.Exchange, error) {
	return nil, errNone
}

func (denied) Publish(context.Context, wasmatrix.CapabilityID, string, []byte) error { return errNone }

func (denied) Subscribe(context.Context, wasmatrix.CapabilityID, string, string) (capability.Subscription, error) {
	return nil, errNone
}
