package rpc

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

// HTTPConfig configures the connections of a process. Zero in any field means
// its default.
type HTTPConfig struct {
	HeaderTimeout time.Duration // for the headers of a request; default 10 s
	IdleTimeout   time.Duration // between requests; default 2 min
	Logger        hclog.Logger  // default: discards
	// Grace is how long [Serve] waits, once its context has ended, for the calls
	// under way; default 10 s.
	Grace time.Duration
}

// Limits of a connection besides. They protect a process from clients that are
// slow, gone or hostile; those of messages and bodies are in edge.go.
const (
	maxHeaderBytes = 64 << 10 // GETs carry their message in the URL
	// Every watch is a stream, and a server forwards for all its clients over one connection.
	maxConcurrentStreams = 10_000
	// A client that does not answer a ping, or does not read, is cut off.
	serverPingAfter   = 15 * time.Second
	serverPingTimeout = 10 * time.Second
	writeByteTimeout  = 30 * time.Second
)

func (c HTTPConfig) withDefaults() HTTPConfig {
	if c.HeaderTimeout == 0 {
		c.HeaderTimeout = 10 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 2 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	return c
}

// NewHTTPServer makes the HTTP server of every process: HTTP/1.1 and HTTP/2
// without TLS on one port. This is the one place where incoming TLS will be set
// up. There is no ReadTimeout or WriteTimeout, since streams last. [Serve] is
// all that most need.
func NewHTTPServer(h http.Handler, c HTTPConfig) *http.Server {
	c = c.withDefaults()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: c.HeaderTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(c.Logger.StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}), "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxConcurrentStreams,
			SendPingTimeout:      serverPingAfter,
			PingTimeout:          serverPingTimeout,
			WriteByteTimeout:     writeByteTimeout,
			// A push should not wait for the window on a fast network.
			MaxReceiveBufferPerStream:     1 << 20,
			MaxReceiveBufferPerConnection: 3 << 20,
		},
	}
}

// Handler is what [Serve] serves: a [Server] or an [AgentServer].
type Handler interface {
	http.Handler
	// Close ends what would go on for ever.
	Close() error
	// Drain waits for what has left HTTP, and breaks what is left of it when ctx ends.
	Drain(ctx context.Context)
}

// Serve answers on l until ctx ends. Then it takes no more requests, ends the
// streams that would go on for ever, waits for the calls under way, closes l and
// h, and returns nil. It fails where l does.
func Serve(ctx context.Context, l net.Listener, h Handler, c HTTPConfig) error {
	c = c.withDefaults()
	srv := NewHTTPServer(h, c)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		_ = srv.Close()
		err = errors.Join(err, h.Close())
		h.Drain(noTime) //nolint:contextcheck // nothing is waited for any more
		return err
	case <-ctx.Done():
	}
	err := h.Close()
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Grace)
	defer cancel()
	if srv.Shutdown(left) != nil {
		c.Logger.Debug("cutting off the requests that are left", "after", c.Grace)
		_ = srv.Close()
	}
	h.Drain(left)
	if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
