package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// interceptor is the one chain around every procedure of every process, from
// outside to inside: log, coding of errors, panics, default deadline. It stands
// after authentication, which is a gate (see [Config.Authenticate]).
type interceptor struct {
	log         hclog.Logger
	callTimeout time.Duration
}

// patient are the procedures that wait for as long as their message says.
var patient = map[string]bool{
	apiconnect.InstanceServiceStopInstanceProcedure:       true,
	apiconnect.InstanceServiceInvokeInstanceProcedure:     true,
	apiconnect.CapabilityServiceRevokeCapabilityProcedure: true,
	apiconnect.NodeAgentServiceInvokeProcedure:            true,
}

// WrapUnary implements connect.Interceptor.
func (i *interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		var res connect.AnyResponse
		err := i.around(ctx, req.Spec(), req.Peer(), func() (err error) {
			if _, ok := ctx.Deadline(); !ok && !patient[req.Spec().Procedure] {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, i.callTimeout)
				defer cancel()
			}
			res, err = next(ctx, req)
			return err
		})
		if err != nil {
			return nil, err
		}
		return res, nil
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (i *interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return i.around(ctx, conn.Spec(), conn.Peer(), func() error { return next(ctx, conn) })
	}
}

// WrapStreamingClient implements connect.Interceptor; clients do not use it.
func (i *interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (i *interceptor) around(ctx context.Context, spec connect.Spec, peer connect.Peer, handle func() error) error {
	start := time.Now()
	err := i.recovered(spec, handle)
	var e *wasmatrix.Error
	if err != nil {
		e = wire.Coded(err)
	}
	if i.log.IsDebug() {
		args := []any{"procedure", spec.Procedure, "peer", peer.Addr, "protocol", peer.Protocol, "took", time.Since(start)}
		if e != nil {
			args = append(args, "error", e)
		}
		i.log.Debug("served", args...)
	}
	if e == nil {
		return nil
	}
	if x, ok := exchangeOf(ctx); ok {
		x.failed(e)
	}
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		return wire.WithCode(ce.Code(), e)
	}
	return wire.ToConnect(e)
}

// recovered turns a panic into INTERNAL_ERROR. What it was stays in the log.
func (i *interceptor) recovered(spec connect.Spec, handle func() error) (err error) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if r == http.ErrAbortHandler { //nolint:errorlint // net/http compares so too
			panic(r)
		}
		i.log.Error("a handler panicked", "procedure", spec.Procedure, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		err = wasmatrix.Errorf(wasmatrix.CodeInternal, "%s failed: the server's log says why", spec.Procedure).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	}()
	return handle()
}
