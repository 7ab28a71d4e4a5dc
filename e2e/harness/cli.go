package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"

	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// CLIResult is how a command of the CLI ended.
type CLIResult struct {
	Stdout, Stderr string
	Code           int
}

// TryCLI runs the CLI against a server and returns how it ended.
func (c *Cluster) TryCLI(s *Agent, args ...string) CLIResult {
	c.tb.Helper()
	return RunCLI(c.tb, c.opts.Bin, append([]string{"--addr", s.API()}, args...)...)
}

// RunCLI runs the binary with args.
func RunCLI(tb TB, bin string, args ...string) CLIResult {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...) //nolint:gosec // the binary under test
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		tb.Fatalf("running %s: %v", strings.Join(args, " "), err)
	}
	return CLIResult{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// CLI runs the CLI against a server, which must succeed, and returns its stdout.
func (c *Cluster) CLI(s *Agent, args ...string) string {
	c.tb.Helper()
	res := c.TryCLI(s, args...)
	if res.Code != 0 {
		c.tb.Fatalf("wasmatrix %s: exit %d\n%s%s", strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

// CLIJSON runs the CLI with -o json and decodes its stdout into v.
func (c *Cluster) CLIJSON(v any, s *Agent, args ...string) {
	c.tb.Helper()
	out := c.CLI(s, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		c.tb.Fatalf("wasmatrix %s -o json: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// AnyClient returns a client of the first n servers, of which some may not
// exist yet or any more: their ports are drawn now and given to AddServer.
func (c *Cluster) AnyClient(n int) *client.Client {
	c.tb.Helper()
	for len(c.Servers)+len(c.reserved) < n {
		c.reserved = append(c.reserved, drawPorts(c.tb))
	}
	var addrs []string
	for _, s := range c.Servers {
		addrs = append(addrs, s.API())
	}
	for _, p := range c.reserved {
		addrs = append(addrs, fmt.Sprintf("http://127.0.0.1:%d", p.API))
	}
	cl, err := client.New(client.Config{Addrs: addrs})
	if err != nil {
		c.tb.Fatalf("client: %v", err)
	}
	c.tb.Cleanup(cl.Close)
	return cl
}

// CLI runs the CLI against this server and returns how it ended.
func (a *Agent) CLI(args ...string) CLIResult {
	a.tb.Helper()
	return RunCLI(a.tb, a.bin, append([]string{"--addr", a.API()}, args...)...)
}
