// Package transport lets net/http make its requests by the host: a [RoundTripper]
// is the Transport of an [http.Client].
package transport

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	wasmatrix "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/httpc"
)

// RoundTripper makes requests under a capability of type http. Bodies are streamed
// in both directions. The deadline of a request's context bounds it; that it is
// cancelled otherwise is seen only where a guest comes by, between pieces of a body.
// The host follows redirects, as far as the provider allows, so that a client
// sees the last response only.
type RoundTripper struct {
	Capability string
}

// New returns a client of net/http for a capability.
func New(capability string) *http.Client {
	return &http.Client{Transport: RoundTripper{Capability: capability}}
}

// RoundTrip implements [http.RoundTripper].
func (t RoundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := &httpc.Request{Method: r.Method, URL: r.URL.String()}
	if deadline, ok := ctx.Deadline(); ok {
		// An expired one has been seen above, or is what the host will say.
		out.Timeout = max(time.Until(deadline), time.Millisecond)
	}
	if r.Host != "" && r.Host != r.URL.Host {
		out.Header = append(out.Header, httpc.Field{Name: "Host", Value: r.Host})
	}
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range r.Header[name] {
			out.Header = append(out.Header, httpc.Field{Name: name, Value: value})
		}
	}
	if r.Body != nil && r.Body != http.NoBody {
		if out.Body = r.Body; r.ContentLength > 0 {
			out.Header = append(out.Header, httpc.Field{Name: "Content-Length", Value: strconv.FormatInt(r.ContentLength, 10)})
		}
	}
	in, err := httpc.Open(t.Capability).Do(out)
	if err != nil {
		if errors.Is(err, wasmatrix.ErrTimeout) {
			err = timeout{err}
		}
		return nil, err
	}
	resp := &http.Response{
		Status: strconv.Itoa(in.Status) + " " + http.StatusText(in.Status), StatusCode: in.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: in.Body, ContentLength: -1, Request: r,
	}
	for _, f := range in.Header {
		resp.Header.Add(f.Name, f.Value)
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(in.Header.Get("Content-Length")), 10, 64); err == nil && n >= 0 {
		resp.ContentLength = n
	}
	return resp, nil
}

// timeout is an error as net/http has one, of which its callers ask whether it
// was the time: a guest that waits for the host learns so from nobody else, as its
// own timers stand still.
type timeout struct{ error }

// Timeout is what [net.Error] has.
func (timeout) Timeout() bool { return true }

// Is reports whether target is the error of a context whose deadline has passed.
func (timeout) Is(target error) bool { return target == context.DeadlineExceeded }

// Unwrap returns the host's error.
func (t timeout) Unwrap() error { return t.error }
