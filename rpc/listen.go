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

// Limits of a connection. They protect a process from clients that are slow,
// gone or hostile; those of messages and bodies are in edge.go.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10 // GETs carry their message in the URL
	// Every watch is a stream, and a server forwards for all its clients over one connection.
	maxConcurrentStreams = 10_000
	// A client that does not answer a ping, or does not read, is cut off.
	serverPingAfter   = 15 * time.Second
	serverPingTimeout = 10 * time.Second
	writeByteTimeout  = 30 * time.Second
)

// newHTTPServer makes the HTTP server of every process: HTTP/1.1 and HTTP/2
// without TLS on one port. This is the one place where incoming TLS will be set
// up. There is no ReadTimeout or WriteTimeout, since streams last.
func newHTTPServer(h http.Handler, logger hclog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(logger.StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}), "", 0),
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
}

// Serve answers on l until ctx ends. Then it takes no more requests, ends the
// streams that would go on for ever, waits up to grace for the others, closes l
// and h, and returns nil. It fails where l does.
func Serve(ctx context.Context, l net.Listener, h Handler, logger hclog.Logger, grace time.Duration) error {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	srv := newHTTPServer(h, logger)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	var err error
	select {
	case err = <-failed:
		_ = h.Close()
		_ = srv.Close()
		return err
	case <-ctx.Done():
	}
	err = h.Close()
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if e := srv.Shutdown(left); e != nil {
		logger.Debug("cutting off the requests that are left", "after", grace)
		_ = srv.Close()
	}
	<-failed
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}
