package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/template"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// Options shape a cluster.
type Options struct {
	Bin     string // the wasmatrix binary; "" is the one that make built
	Servers int
	Nodes   int
	// Both makes each server run a node, too, of the same name.
	Both bool
	// LogStore is "boltdb" (the default) or "wal".
	LogStore string
	// NodeMemory and NodeInstances are each node's capacity; "" and 0 are the defaults.
	NodeMemory    string
	NodeInstances int
	// LogLevel defaults to info.
	LogLevel string
	// ServerExtra and NodeExtra go into the server block of each server and the
	// node block of each node, Extra after all blocks of every agent's HCL file.
	ServerExtra, NodeExtra, Extra string
	// Host is the address that agents bind, unless they are in a [Cell]; "" is
	// 127.0.0.1.
	Host string
}

// Cluster is a set of agents on loopback.
type Cluster struct {
	Servers []*Agent
	Nodes   []*Agent

	tb       TB
	opts     Options
	dir      string
	made     int     // servers so far
	reserved []Ports // of servers to come
}

// New makes the agents of a cluster and starts none.
func New(tb TB, opts Options) *Cluster {
	tb.Helper()
	if opts.Bin == "" {
		opts.Bin = Binary(tb)
	}
	c := &Cluster{tb: tb, opts: opts, dir: tb.TempDir()}
	tb.Cleanup(c.close)
	for range opts.Servers {
		c.AddServer()
	}
	for range opts.Nodes {
		c.AddNode()
	}
	return c
}

// Start makes a cluster, starts its agents, and waits until it has a leader,
// all its servers as voters, and all its nodes up.
func Start(tb TB, opts Options) *Cluster {
	tb.Helper()
	c := New(tb, opts)
	for _, a := range c.Agents() {
		a.Start()
	}
	c.WaitReady()
	return c
}

// Agents returns the servers and then the nodes.
func (c *Cluster) Agents() []*Agent {
	return append(append([]*Agent(nil), c.Servers...), c.Nodes...)
}

// AddServer makes one more server, not started. Those of [Options] expect each
// other; this one knows nobody and waits to be joined with the CLI.
func (c *Cluster) AddServer() *Agent {
	c.made++
	a := c.addAgent(fmt.Sprintf("s%d", c.made), true)
	a.Node = c.opts.Both
	a.late = c.made > c.opts.Servers
	c.Servers = append(c.Servers, a)
	c.writeConfigs()
	return a
}

// AddNode makes one more node, not started.
func (c *Cluster) AddNode() *Agent { return c.AddNodeIn(nil) }

// AddNodeIn makes one more node, in a cell unless that is nil, not started.
func (c *Cluster) AddNodeIn(cell *Cell) *Agent {
	a := c.addAgent(fmt.Sprintf("n%d", len(c.Nodes)+1), false)
	a.cell = cell
	c.Nodes = append(c.Nodes, a)
	c.writeConfigs()
	return a
}

func (c *Cluster) addAgent(name string, server bool) *Agent {
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.tb.Fatalf("%v", err)
	}
	a := &Agent{
		Name: name, Server: server, Node: !server, Dir: dir, Config: filepath.Join(dir, "agent.hcl"),
		tb: c.tb, bin: c.opts.Bin, host: c.opts.Host,
	}
	if server && len(c.reserved) > 0 {
		a.Ports, c.reserved = c.reserved[0], c.reserved[1:]
	} else {
		a.Ports = drawPorts(c.tb)
	}
	return a
}

func drawPorts(tb TB) Ports {
	tb.Helper()
	p := FreePorts(tb, 7)
	return Ports{API: p[0], Raft: p[1], Gossip: p[2], Node: p[3], NodeGossip: p[4], Messaging: p[5], MessagingRoutes: p[6]}
}

var configTemplate = template.Must(template.New("agent").Parse(`name      = "{{.Agent.Name}}"
data_dir  = "{{.Agent.Dir}}/data"
bind_addr = "{{.Agent.Host}}"
ports {
  api              = {{.Agent.Ports.API}}
  raft             = {{.Agent.Ports.Raft}}
  gossip           = {{.Agent.Ports.Gossip}}
  node             = {{.Agent.Ports.Node}}
  node_gossip      = {{.Agent.Ports.NodeGossip}}
  messaging        = {{.Agent.Ports.Messaging}}
  messaging_routes = {{.Agent.Ports.MessagingRoutes}}
}
log { level = "{{.Level}}" }
{{- if .Agent.Server}}
server {
  enabled          = true
  bootstrap_expect = {{.Expect}}
{{- with .LogStore}}
  log_store        = "{{.}}"
{{- end}}
{{- with .ServerExtra}}
  {{.}}
{{- end}}
}
{{- end}}
{{- if .Agent.Node}}
node {
  enabled   = true
{{- with .Memory}}
  memory    = "{{.}}"
{{- end}}
{{- with .Instances}}
  instances = {{.}}
{{- end}}
{{- with .NodeExtra}}
  {{.}}
{{- end}}
}
{{- end}}
gossip { retry_join = [{{range $i, $j := .Join}}{{if $i}}, {{end}}"{{$j}}"{{end}}] }
{{.Extra}}
`))

// writeConfigs writes the files of the agents that have none yet: one that
// exists may be in use.
func (c *Cluster) writeConfigs() {
	c.tb.Helper()
	var join []string
	for _, s := range c.Servers {
		join = append(join, s.Gossip())
	}
	for _, a := range c.Agents() {
		if a.started() {
			continue
		}
		var b strings.Builder
		level := c.opts.LogLevel
		if level == "" {
			level = "info"
		}
		expect, seeds := c.opts.Servers, join
		if a.Server && a.late {
			expect, seeds = 0, nil // joined with the CLI
		}
		err := configTemplate.Execute(&b, map[string]any{
			"Agent": a, "Level": level, "Expect": expect, "LogStore": c.opts.LogStore,
			"Memory": c.opts.NodeMemory, "Instances": c.opts.NodeInstances, "Join": seeds,
			"ServerExtra": c.opts.ServerExtra, "NodeExtra": c.opts.NodeExtra, "Extra": c.opts.Extra,
		})
		if err == nil {
			err = os.WriteFile(a.Config, []byte(b.String()), 0o600)
		}
		if err != nil {
			c.tb.Fatalf("configuration of %s: %v", a.Name, err)
		}
	}
}

func (a *Agent) started() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.exited != nil
}

// Client returns a client of all servers, or only of those given.
func (c *Cluster) Client(servers ...*Agent) *client.Client {
	c.tb.Helper()
	if len(servers) == 0 {
		servers = c.Servers
	}
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.API())
	}
	cl, err := client.New(client.Config{Addrs: addrs})
	if err != nil {
		c.tb.Fatalf("client: %v", err)
	}
	c.tb.Cleanup(cl.Close)
	return cl
}

// WaitReady waits until every running server is a healthy voter, one leads, and
// every running node is up.
func (c *Cluster) WaitReady() {
	c.tb.Helper()
	cl := c.Client(c.running(c.Servers)...)
	Eventually(c.tb, "cluster ready", func(ctx context.Context) error {
		return c.ready(ctx, cl)
	})
}

func (c *Cluster) running(agents []*Agent) []*Agent {
	var up []*Agent
	for _, a := range agents {
		if a.Running() {
			up = append(up, a)
		}
	}
	return up
}

func (c *Cluster) ready(ctx context.Context, cl *client.Client) error {
	for _, a := range c.Agents() {
		if a.started() && !a.Running() {
			if err := a.Wait(0); err != nil {
				c.tb.Fatalf("agent %s ended by itself: %v\n%s", a.Name, err, a.LogTail(20))
			}
		}
	}
	peers, err := cl.Cluster.ListPeers(ctx, &api.ListPeersRequest{})
	if err != nil {
		return err
	}
	leader, voters := false, map[string]bool{}
	for _, p := range peers.GetPeers() {
		leader = leader || p.GetLeader()
		voters[p.GetName()] = p.GetVoter() && p.GetHealthy()
	}
	if !leader {
		return errors.New("no leader")
	}
	for _, s := range c.running(c.Servers) {
		if !voters[s.Name] {
			return fmt.Errorf("server %s is no healthy voter", s.Name)
		}
	}
	nodes, err := cl.Nodes.ListNodes(ctx, &api.ListNodesRequest{})
	if err != nil {
		return err
	}
	up := map[string]bool{}
	for _, n := range nodes.GetNodes() {
		up[n.GetNodeId()] = n.GetStatus() == "up"
	}
	for _, n := range c.running(c.Agents()) {
		if n.Node && !up[n.Name] {
			return fmt.Errorf("node %s is not up", n.Name)
		}
	}
	return nil
}

// Leader waits until the running servers agree on a leader and returns it.
func (c *Cluster) Leader() *Agent {
	c.tb.Helper()
	var leader *Agent
	clients := map[*Agent]*client.Client{}
	for _, s := range c.running(c.Servers) {
		clients[s] = c.Client(s)
	}
	Eventually(c.tb, "a leader", func(ctx context.Context) error {
		for s, cl := range clients {
			st, err := cl.Cluster.GetStatus(ctx, &api.GetStatusRequest{})
			if err == nil && st.GetState() == "leader" {
				leader = s
				return nil
			}
		}
		return errors.New("none leads")
	})
	return leader
}

// Followers returns the running servers that do not lead.
func (c *Cluster) Followers() []*Agent {
	leader := c.Leader()
	var out []*Agent
	for _, s := range c.running(c.Servers) {
		if s != leader {
			out = append(out, s)
		}
	}
	return out
}

func (c *Cluster) close() {
	if c.tb.Failed() {
		for _, a := range c.Agents() {
			c.tb.Logf("--- %s (%s)\n%s", a.Name, a.LogPath(), a.LogTail(40))
		}
	}
	for _, a := range c.Agents() {
		a.finish()
	}
}

// KillAll kills every running agent at once and waits until all are gone.
func (c *Cluster) KillAll() {
	var wg sync.WaitGroup
	for _, a := range c.Agents() {
		wg.Go(a.Kill)
	}
	wg.Wait()
}

// Forget takes a server that was removed for good out of the cluster's view.
func (c *Cluster) Forget(s *Agent) {
	c.Servers = slices.DeleteFunc(slices.Clone(c.Servers), func(a *Agent) bool { return a == s })
}
