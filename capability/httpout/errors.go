package httpout

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/wasmatrix/wasmatrix"
)

// What ends a request. None of the messages names an address: a guest is not to
// learn from them what a name stands for inside the network.
var (
	// errDenied is for hosts that are not permitted and for those that are and have
	// no address that is.
	errDenied  = wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "requests to this host are not allowed")
	errLapsed  = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this node is out of touch with the cluster")
	errStopped = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the provider was stopped")
	errTimeout = wasmatrix.Errorf(wasmatrix.CodeTimeout, "the request took longer than it may")
	errGone    = wasmatrix.Errorf(wasmatrix.CodeTimeout, "the request was cancelled")
	errClosed  = wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the request is closed")
	errEnded   = wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the body of the request has ended")
	errLong    = wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the body is longer than its Content-Length")
	errShort   = wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the body is shorter than its Content-Length")

	errResolve = wasmatrix.Errorf(wasmatrix.CodeCommunication, "the host's name cannot be resolved")
	errRefused = wasmatrix.Errorf(wasmatrix.CodeCommunication, "the server refuses connections")
	errConnect = wasmatrix.Errorf(wasmatrix.CodeCommunication, "the server cannot be reached")
	errSlow    = wasmatrix.Errorf(wasmatrix.CodeTimeout, "the server could not be reached in time")
	errBroken  = wasmatrix.Errorf(wasmatrix.CodeCommunication, "the server broke off, or did not answer in HTTP")
	errHeader  = wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the header of the response is too large")
	errSwitch  = wasmatrix.Errorf(wasmatrix.CodeCommunication, "the server switched to another protocol unasked")
)

// errUnneeded ends a dial whose request got another connection meanwhile. Nobody
// sees it.
var errUnneeded = errors.New("the connection is not needed any more")

// ended is why a request is over whose context is.
func ended(ctx context.Context) *wasmatrix.Error {
	cause := context.Cause(ctx)
	if e, ok := errors.AsType[*wasmatrix.Error](cause); ok {
		return e
	}
	if errors.Is(cause, context.DeadlineExceeded) {
		return errTimeout
	}
	return errGone
}

// connectFailure is what guests are told of an address that did not answer.
func connectFailure(err error) *wasmatrix.Error {
	if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return errSlow
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errRefused
	}
	return errConnect
}

// tlsFailure is what guests are told of a handshake that failed.
func tlsFailure(err error) *wasmatrix.Error {
	why := "the server does not speak TLS as it should"
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the TLS handshake took too long")
	}
	if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		why = "the certificate is not valid for the host: " + wasmatrix.BoundText(e.Err.Error(), 200)
	} else if e, ok := errors.AsType[tls.AlertError](err); ok {
		why = e.Error()
	} else if errors.Is(err, io.EOF) {
		why = "the server broke off"
	}
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "the TLS handshake failed: %s", why)
}

// exchangeFailure is what guests are told of an error of net/http.
func exchangeFailure(err error) *wasmatrix.Error {
	if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return e
	}
	// net/http has no values for these, neither for HTTP/1 nor for HTTP/2.
	if s := err.Error(); strings.Contains(s, "server response headers exceeded") || strings.Contains(s, "response header list larger") {
		return errHeader
	}
	return errBroken
}
