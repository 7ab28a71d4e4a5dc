package rpc

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

const (
	connectTimeoutHeader = "Connect-Timeout-Ms"
	grpcTimeoutHeader    = "Grpc-Timeout"
)

// grpcUnits are those of the Grpc-Timeout header.
var grpcUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// maxTimeout is the longest that is believed; beyond it is none.
const maxTimeout = 365 * 24 * time.Hour

// readTimeout returns the deadline that a client asks for, as Connect or gRPC
// write it; 0 is none. A timeout that has passed already is 1 ns. Errors are E1.
func readTimeout(h http.Header) (time.Duration, error) {
	text, unit, name := h.Get(connectTimeoutHeader), time.Millisecond, connectTimeoutHeader
	if g := h.Get(grpcTimeoutHeader); g != "" && strings.HasPrefix(h.Get("Content-Type"), "application/grpc") {
		text, unit, name = g[:len(g)-1], grpcUnits[g[len(g)-1]], grpcTimeoutHeader
	} else if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || unit == 0 || len(text) > 10 {
		return 0, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "header %s is not a timeout: %q", name, h.Get(name)).
			With(wasmatrix.DetailField, name)
	}
	if n > uint64(maxTimeout/unit) {
		return 0, nil
	}
	return max(time.Duration(n)*unit, 1), nil
}

// writeTimeout replaces the deadline in the headers of a request that has one.
func writeTimeout(h http.Header, d time.Duration) {
	ms := strconv.FormatInt(max(d.Milliseconds(), 0), 10)
	if h.Get(connectTimeoutHeader) != "" {
		h.Set(connectTimeoutHeader, ms)
	}
	if h.Get(grpcTimeoutHeader) != "" && len(ms) <= 8 { // all that gRPC allows; longer ones stay as they were
		h.Set(grpcTimeoutHeader, ms+"m")
	}
}
