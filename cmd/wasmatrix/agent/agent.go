// Package agent joins the rooms of wasmatrix into a process: a server, a node,
// or a server that keeps a node running as its child.
//
// Things are built forward and closed in reverse. What a room needs of another
// it gets here, as the small interface that it declares.
package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

// Options are what an agent is told besides its configuration.
type Options struct {
	// Dev makes a server and a node on this machine, with a temporary data
	// directory and free ports where those configured are taken.
	Dev bool
	// ConfigPaths are read again for the log level at each signal from Reload.
	ConfigPaths []string
	Reload      <-chan os.Signal `json:"-"`
}

// Run runs the agent that cfg describes until ctx ends, and then leaves
// gracefully. An error means that it could not start or could not go on.
func Run(ctx context.Context, cfg *config.Config, opts Options) error {
	if opts.Dev {
		undo, err := prepareDev(cfg)
		if err != nil {
			return err
		}
		defer undo()
	}
	switch {
	case cfg.Server.Enabled:
		return runServer(ctx, cfg, opts)
	case cfg.Node.Enabled:
		return runNode(ctx, cfg, opts)
	default:
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "this agent is neither a server nor a node: enable the block server, the block node, or both").With(wasmatrix.DetailField, "server.enabled")
	}
}

// warnIfOpen says plainly what listening beyond this machine means for now.
func warnIfOpen(log hclog.Logger, bind string) {
	if ip := net.ParseIP(bind); ip != nil && ip.IsLoopback() {
		return
	}
	log.Warn("listening beyond this machine WITHOUT encryption or authentication: whoever reaches these ports controls the cluster; keep them on a network that you trust", "bind_addr", bind)
}

// advertised returns the host that others are told for addr: the configured
// one, or the one that it is bound to.
func advertised(cfg *config.Config, addr net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "", err
	}
	if cfg.AdvertiseAddr != "" {
		host = cfg.AdvertiseAddr
	} else if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return "", wasmatrix.Errorf(wasmatrix.CodeValidation, "bind_addr %s is no address that others can dial: set advertise_addr", cfg.BindAddr).With(wasmatrix.DetailField, "advertise_addr")
	}
	return net.JoinHostPort(host, port), nil
}

func listen(ctx context.Context, cfg *config.Config, port int, key string) (net.Listener, error) {
	addr := net.JoinHostPort(cfg.BindAddr, strconv.Itoa(port))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "the address %s is already in use: %w", addr, err).With(wasmatrix.DetailField, key)
	case err != nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "cannot listen on %s: %w", addr, err).With(wasmatrix.DetailField, key)
	}
	return l, nil
}
