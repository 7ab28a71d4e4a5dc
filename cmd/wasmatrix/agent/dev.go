package agent

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

// prepareDev turns cfg into that of a cluster on one machine. The temporary
// data directory is removed by undo; one that was configured stays.
func prepareDev(cfg *config.Config) (undo func(), err error) {
	undo = func() {}
	if cfg.DataDir == "" {
		dir, err := os.MkdirTemp("", "wasmatrix-dev-")
		if err != nil {
			return nil, fmt.Errorf("temporary data directory: %w", err)
		}
		cfg.DataDir = dir
		undo = func() { _ = os.RemoveAll(dir) } // what is left is a temporary directory
	}
	cfg.Server.Enabled, cfg.Node.Enabled = true, true
	cfg.Server.BootstrapExpect = 1
	// One server has nobody to wait for: it may elect itself at once.
	cfg.Server.Raft.Heartbeat, cfg.Server.Raft.Election = 50*time.Millisecond, 50*time.Millisecond
	cfg.Server.Raft.LeaderLease = 50 * time.Millisecond
	for _, port := range []*int{
		&cfg.Ports.API, &cfg.Ports.Raft, &cfg.Ports.Gossip, &cfg.Ports.Node, &cfg.Ports.NodeGossip,
		&cfg.Ports.Messaging, &cfg.Ports.MessagingRoutes,
	} {
		if *port, err = portOrFree(cfg.BindAddr, *port); err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}

// portOrFree returns port if TCP and UDP can be bound to it, or else a free one.
func portOrFree(host string, port int) (int, error) {
	for range 10 {
		if got, err := bindable(host, port); err == nil {
			return got, nil
		}
		port = 0
	}
	return 0, fmt.Errorf("no free port on %s", host)
}

func bindable(host string, port int) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))) //nolint:noctx // binding does not block
	if err != nil {
		return 0, err
	}
	defer l.Close()
	port = l.Addr().(*net.TCPAddr).Port
	u, err := net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(port))) //nolint:noctx // as above
	if err != nil {
		return 0, err
	}
	return port, u.Close()
}
