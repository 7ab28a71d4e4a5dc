package httpout

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"

	"github.com/wasmatrix/wasmatrix/capability"
)

// request is one of those that an exchange makes.
type request struct {
	method string
	to     *target
	fields http.Header // not to be changed
	body   bool        // the exchange's stream
}

// run makes the request, follows redirects, and leaves the last response, or
// why there is none.
func (x *exchange) run(body bool) {
	response, err := x.follow(request{x.method, x.to, x.header.fields, body})
	var answer *capability.Response
	if err == nil {
		answer, err = x.accept(response)
	}
	if err != nil {
		x.body.end(err)
		if response != nil {
			_ = response.Body.Close()
			response = nil
		}
	}
	x.body.settle()
	x.mu.Lock()
	x.response, x.answer, x.err = response, answer, err
	closed := x.closed
	x.mu.Unlock()
	if closed && response != nil {
		_ = response.Body.Close()
	}
	close(x.done)
}

// follow returns the first response that does not lead on.
func (x *exchange) follow(at request) (*http.Response, error) {
	for followed := 0; ; followed++ {
		response, err := x.send(at)
		if err != nil || followed >= x.p.config.MaxRedirects {
			return response, err
		}
		next, ok, err := x.redirect(at, response)
		if !ok || err != nil {
			return response, err
		}
		if at.body {
			x.body.end(errDiscard)
		}
		// Read to its end, a short body leaves the connection to the next request.
		_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
		_ = response.Body.Close()
		at = next
	}
}

// redirect tells what a response asks for, if it can be followed: not where its
// URL is none that a guest could ask for, and not where the body would have to be
// sent again. The guest gets such a response as it is. As for methods it does what
// browsers do (the fetch standard, HTTP-redirect fetch).
func (x *exchange) redirect(at request, r *http.Response) (next request, ok bool, err error) {
	location := r.Header.Get("Location")
	next = request{method: at.method, fields: at.fields.Clone(), body: at.body}
	drop := false
	switch r.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound:
		drop = at.method == http.MethodPost
	case http.StatusSeeOther:
		drop = at.method != http.MethodGet && at.method != http.MethodHead
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return next, false, nil
	}
	if drop {
		next.method, next.body = http.MethodGet, false
		removeContent(next.fields)
	}
	if location == "" || next.body {
		return next, false, nil
	}
	to, err := at.to.redirected(location)
	if err != nil {
		return next, false, nil //nolint:nilerr // the guest is to see where it leads
	}
	if err := x.p.permit(x.scope, to); err != nil {
		return next, false, err
	}
	next.to = to
	if !at.to.sameOrigin(to) {
		removeCredentials(next.fields)
	}
	return next, true, nil
}

// send makes one request.
func (x *exchange) send(at request) (*http.Response, error) {
	h := &hop{x: x, done: make(chan struct{})}
	ctx := httptrace.WithClientTrace(context.WithValue(x.ctx, hopKey{}, h), &httptrace.ClientTrace{
		GetConn: func(string) { h.wants() },
		GotConn: func(httptrace.GotConnInfo) {
			x.outset.Store(true)
			h.got()
		},
	})
	fields := at.fields.Clone()
	if x.p.config.SendIdentity {
		identify(fields, x.scope)
	}
	url := *at.to.url
	r := &http.Request{Method: at.method, URL: &url, Header: fields, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if at.body {
		body, err := x.body.open()
		if err != nil {
			return nil, err
		}
		r.Body, r.GetBody, r.ContentLength = body, x.body.open, x.header.length
	}
	return x.pool.transport.RoundTrip(r.WithContext(ctx))
}

// accept makes of a response what the guest gets.
func (x *exchange) accept(r *http.Response) (*capability.Response, error) {
	if r.StatusCode == http.StatusSwitchingProtocols {
		return nil, errSwitch
	}
	if r.Body != http.NoBody && r.ContentLength > x.p.config.MaxResponse {
		return nil, x.p.tooLong()
	}
	fields, err := writeHeader(r.Header)
	if err != nil {
		return nil, err
	}
	return &capability.Response{Status: r.StatusCode, Header: fields}, nil
}
