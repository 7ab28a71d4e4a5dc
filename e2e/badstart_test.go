package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
)

// awaitRefusal waits for an agent to end by itself, and sees that it did with an
// exit code and an error that says why.
func awaitRefusal(t *testing.T, a *harness.Agent, exit int, code wasmatrix.Code, words ...string) {
	t.Helper()
	err := a.Wait(harness.Patience)
	if want := fmt.Sprintf("exit status %d", exit); err == nil || err.Error() != want {
		t.Errorf("%s ended with %v, want %s", a.Name, err, want)
	}
	said := ""
	for line := range strings.Lines(a.Log()) {
		if strings.HasPrefix(line, "error: ") {
			said += line
		}
	}
	for _, w := range append(words, "error: "+string(code)+": ") {
		if !strings.Contains(said, w) {
			t.Errorf("%s does not say %q:\n%s", a.Name, w, a.LogTail(20))
		}
	}
}

// setConfig replaces words in an agent's configuration.
func setConfig(t *testing.T, a *harness.Agent, old, replacement string) {
	t.Helper()
	b, err := os.ReadFile(a.Config)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s has no %q:\n%s", a.Config, old, b)
	}
	if err := os.WriteFile(a.Config, []byte(strings.Replace(string(b), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBadConfiguration starts agents with configurations that are none: they end
// at once, with exit code 2, and name the file and the line.
func TestBadConfiguration(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*testing.T, *harness.Agent)
		words []string
	}{
		"unknown key": {
			func(t *testing.T, a *harness.Agent) { setConfig(t, a, "data_dir ", "data_dri ") },
			[]string{"agent.hcl:2: ", `data_dri: unknown key; did you mean "data_dir"?`},
		},
		"unknown key in a block": {
			func(t *testing.T, a *harness.Agent) { setConfig(t, a, "api  ", "apy  ") },
			[]string{"agent.hcl:5: ", "ports.apy: unknown key"},
		},
		"value of another type": {
			func(t *testing.T, a *harness.Agent) {
				setConfig(t, a, "bootstrap_expect = 1", `bootstrap_expect = "many"`)
			},
			[]string{"agent.hcl:16: ", "server.bootstrap_expect"},
		},
		"no HCL": {
			func(t *testing.T, a *harness.Agent) { setConfig(t, a, "server {", "server {{") },
			[]string{"agent.hcl:14"},
		},
		"no file": {
			func(_ *testing.T, a *harness.Agent) { a.Config += ".missing" },
			[]string{"agent.hcl.missing: no such file"},
		},
		"unreadable": {
			func(t *testing.T, a *harness.Agent) {
				if os.Getuid() == 0 { // whom no permission keeps out
					if err := os.Remove(a.Config); err != nil {
						t.Fatal(err)
					}
					if err := os.Symlink(a.Config, a.Config); err != nil { // a loop cannot be read by anybody
						t.Fatal(err)
					}
				} else if err := os.Chmod(a.Config, 0); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"agent.hcl: "},
		},
		"port used twice": {
			func(t *testing.T, a *harness.Agent) {
				setConfig(t, a, fmt.Sprintf("raft             = %d", a.Ports.Raft), fmt.Sprintf("raft             = %d", a.Ports.API))
			},
			[]string{"ports.raft"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := harness.New(t, harness.Options{Servers: 1}).Servers[0]
			test.spoil(t, a)
			validate := harness.RunCLI(t, harness.Binary(t), "config", "validate", a.Config)
			wantFailure(t, validate, 2, wasmatrix.CodeValidation, test.words...)
			a.Start()
			awaitRefusal(t, a, 2, wasmatrix.CodeValidation, test.words...)
			if _, err := os.Stat(filepath.Join(a.Dir, "data")); err == nil {
				t.Error("it made a data directory")
			}
		})
	}
}

// TestPortInUse takes each port of an agent, which must name it and end.
func TestPortInUse(t *testing.T) {
	for name, port := range map[string]func(*harness.Agent) int{
		"api":    func(a *harness.Agent) int { return a.Ports.API },
		"raft":   func(a *harness.Agent) int { return a.Ports.Raft },
		"gossip": func(a *harness.Agent) int { return a.Ports.Gossip },

		"messaging":        func(a *harness.Agent) int { return a.Ports.Messaging },
		"messaging_routes": func(a *harness.Agent) int { return a.Ports.MessagingRoutes },
	} {
		t.Run(name, func(t *testing.T) {
			a := harness.New(t, harness.Options{Servers: 1}).Servers[0]
			addr := occupy(t, port(a))
			a.Start()
			awaitRefusal(t, a, 1, wasmatrix.CodeConflict, addr, "address already in use")
		})
	}
	for name, port := range map[string]func(*harness.Agent) int{
		"node":        func(a *harness.Agent) int { return a.Ports.Node },
		"node_gossip": func(a *harness.Agent) int { return a.Ports.NodeGossip },
	} {
		t.Run(name, func(t *testing.T) {
			a := harness.New(t, harness.Options{Servers: 1, Nodes: 1}).Nodes[0]
			addr := occupy(t, port(a))
			a.Start()
			awaitRefusal(t, a, 1, wasmatrix.CodeConflict, addr, "address already in use")
		})
	}
}

// occupy listens on a port of loopback and returns the address.
func occupy(t *testing.T, port int) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// TestDataDirectories starts servers on data directories that are not theirs:
// refused, and left as they were.
func TestDataDirectories(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	s, n := c.Servers[0], c.Nodes[0]
	server := filepath.Join(s.Dir, "data", "server")

	t.Run("in use by another server", func(t *testing.T) {
		other := harness.New(t, harness.Options{Servers: 1}).Servers[0]
		setConfig(t, other, other.Dir, s.Dir)
		other.Start()
		awaitRefusal(t, other, 1, wasmatrix.CodeConflict, s.Dir, "in use")
	})
	t.Run("in use by another node", func(t *testing.T) {
		other := harness.New(t, harness.Options{Servers: 1, Nodes: 1}).Nodes[0]
		setConfig(t, other, other.Dir, n.Dir)
		other.Start()
		awaitRefusal(t, other, 1, wasmatrix.CodeConflict, n.Dir, "in use")
	})
	c.Servers[0].Terminate()

	t.Run("of another name", func(t *testing.T) {
		before := treeOf(t, server)
		other := harness.New(t, harness.Options{Servers: 1}).Servers[0]
		setConfig(t, other, other.Dir, s.Dir)
		setConfig(t, other, `"s1"`, `"mine"`)
		other.Start()
		awaitRefusal(t, other, 1, wasmatrix.CodeConflict, `belongs to agent "s1", not to "mine"`)
		sameTree(t, server, before)
	})
	t.Run("of a newer version", func(t *testing.T) {
		version := filepath.Join(server, "version")
		old, err := os.ReadFile(version)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(version, []byte("999\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := treeOf(t, server)
		s.Start()
		awaitRefusal(t, s, 1, wasmatrix.CodeStorage, server, "format version 999", "newer release")
		sameTree(t, server, before)
		if err := os.WriteFile(version, old, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	s.Start()
	c.WaitReady() // all of that has harmed nothing
	harness.Eventually(t, "the node is known again", func(context.Context) error {
		if res := s.CLI("node", "inspect", n.Name); res.Code != 0 {
			return fmt.Errorf("%s", res.Stderr)
		}
		return nil
	})
}

// treeOf describes all files of a directory: their content and time of change.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		tree[path] = fmt.Sprintf("%s %x", info.ModTime(), wasmatrix.DigestOf(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func sameTree(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	after := treeOf(t, dir)
	for path := range after {
		if before[path] == "" {
			t.Errorf("%s is new", path)
		}
	}
	for path, was := range before {
		if after[path] != was {
			t.Errorf("%s was changed: %s, was %s", path, after[path], was)
		}
	}
}
