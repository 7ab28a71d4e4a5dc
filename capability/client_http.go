package capability

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// HostOf returns the host of a URL in the form in which permissions name it: in
// lower case, without port, brackets and final dot, and addresses in their usual
// form. Names beyond ASCII have to be in Punycode. Errors are E1.
func HostOf(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "not a URL of scheme http or https with a host").With(wasmatrix.DetailField, "url")
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	for i := range len(host) {
		if host[i] <= ' ' || host[i] >= 0x7f {
			return "", wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the URL's host is not in ASCII: write it in Punycode").With(wasmatrix.DetailField, "url")
		}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String(), nil
	}
	return host, nil
}

// HTTPOpen begins a request. ctx bounds all of it, up to Close.
func (c *Client) HTTPOpen(ctx context.Context, id wasmatrix.CapabilityID, r *Request) (Exchange, error) {
	host, err := HostOf(r.URL)
	if err != nil {
		return nil, err
	}
	size := len(r.URL)
	for _, f := range r.Header {
		size += len(f.Name) + len(f.Value)
	}
	p, err := c.admit(ctx, id, &opRequest, host, size)
	if err != nil {
		return nil, err
	}
	http, err := c.gate.providers.HTTP(p, p.grant.scope)
	var inner Exchange
	if err == nil {
		inner, err = http.Open(p, p.grant.scope, r)
	}
	if err = p.verdict(err); err != nil {
		if inner != nil {
			_ = inner.Close()
		}
		p.done()
		return nil, err
	}
	x := &exchange{pass: p, inner: inner}
	// A guest that sleeps with a request open must not keep a revocation waiting.
	context.AfterFunc(p, func() { _ = x.Close() })
	return x, nil
}

// exchange is a request under way that the gate can end.
type exchange struct {
	pass  *pass
	inner Exchange
	close sync.Once
	err   error // of close
}

func (x *exchange) Write(b []byte) (int, error) {
	if err := x.check(); err != nil {
		return 0, err
	}
	if err := x.pass.take(len(b)); err != nil {
		return 0, err
	}
	n, err := x.inner.Write(b)
	return n, x.pass.verdict(err)
}

func (x *exchange) Response() (*Response, error) {
	if err := x.check(); err != nil {
		return nil, err
	}
	r, err := x.inner.Response()
	if err = x.pass.verdict(err); err != nil {
		return nil, err
	}
	return r, nil
}

func (x *exchange) Read(b []byte) (int, error) {
	if err := x.check(); err != nil {
		return 0, err
	}
	n, err := x.inner.Read(b)
	if err != nil && errors.Is(err, io.EOF) {
		if lost := x.pass.verdict(nil); lost != nil {
			return 0, lost
		}
		return n, io.EOF
	}
	if err = x.pass.verdict(err); err != nil {
		return 0, err
	}
	if err := x.pass.take(n); err != nil {
		return 0, err
	}
	return n, nil
}

// check is the gate for what follows the opening: the pass must still be good.
func (x *exchange) check() error {
	if !x.pass.client.gate.alive() {
		return errLapsed
	}
	return x.pass.verdict(x.pass.Err())
}

func (x *exchange) Close() error {
	x.close.Do(func() {
		x.err = x.inner.Close()
		x.pass.done()
	})
	return x.err
}
