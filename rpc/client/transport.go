package client

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Timing of outgoing connections. A peer that is paused or cut off is noticed
// after pingAfter + pingTimeout at the latest, and its calls fail then.
const (
	dialTimeout = 2 * time.Second
	pingAfter   = 2 * time.Second
	pingTimeout = 2 * time.Second
	idleTimeout = 90 * time.Second
)

// NewTransport makes the transport of everything that this process calls over
// HTTP: HTTP/2 without TLS, one connection to a peer for any number of calls,
// pings on silence. This is the one place where outgoing TLS will be set up.
func NewTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	return &http.Transport{
		DialContext:        dialer.DialContext,
		Protocols:          protocols,
		IdleConnTimeout:    idleTimeout,
		DisableCompression: true, // Connect negotiates it
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: 10 * time.Second,
		},
	}
}

type targetKey struct{}

// withTarget says which host:port a call goes to.
func withTarget(ctx context.Context, addr string) context.Context {
	return context.WithValue(ctx, targetKey{}, addr)
}

// router is a connect.HTTPClient that sends each request to the target in its
// context, so that one client can speak to any number of peers.
//
// It goes to the transport itself: what http.Client adds, cookies and redirects,
// no call here has.
type router struct {
	http   http.RoundTripper
	answer func(*http.Response) // sees each answer's headers; may be nil
}

func newRouter(rt http.RoundTripper, answer func(*http.Response)) *router {
	return &router{http: rt, answer: answer}
}

func (r *router) Do(req *http.Request) (*http.Response, error) {
	if addr, ok := req.Context().Value(targetKey{}).(string); ok {
		// Connect makes a request and its URL for each call, so they are ours to change.
		req.URL.Host, req.Host = addr, addr
	}
	res, err := r.http.RoundTrip(req)
	if err == nil && r.answer != nil {
		r.answer(res)
	}
	return res, err
}
