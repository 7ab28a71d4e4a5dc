package harness

import (
	"fmt"
	"path/filepath"
)

// Dev makes an agent that runs as "agent -dev", not started. It uses the
// default ports, or others where those are taken, unless ports is true: then it
// is given free ones, which are in Ports.
func Dev(tb TB, ports bool) *Agent {
	tb.Helper()
	a := &Agent{Name: "dev", Server: true, Node: true, Dir: tb.TempDir(), tb: tb, bin: Binary(tb)}
	// Its data directory must be gone at the end: it is to make it below Dir.
	a.env = []string{"TMPDIR=" + a.Dir, "WASMATRIX_NAME=" + a.Name}
	if ports {
		a.Ports = drawPorts(tb)
		for key, port := range map[string]int{
			"API": a.Ports.API, "RAFT": a.Ports.Raft, "GOSSIP": a.Ports.Gossip, "NODE": a.Ports.Node, "NODE_GOSSIP": a.Ports.NodeGossip,
			"MESSAGING": a.Ports.Messaging, "MESSAGING_ROUTES": a.Ports.MessagingRoutes,
		} {
			a.env = append(a.env, fmt.Sprintf("WASMATRIX_PORTS_%s=%d", key, port))
		}
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("--- %s\n%s", a.Name, a.LogTail(40))
		}
		a.finish()
	})
	return a
}

// DataDirs returns the temporary data directories of an agent of [Dev].
func (a *Agent) DataDirs() []string {
	dirs, err := filepath.Glob(filepath.Join(a.Dir, "wasmatrix-dev-*"))
	if err != nil {
		a.tb.Fatalf("%v", err)
	}
	return dirs
}
