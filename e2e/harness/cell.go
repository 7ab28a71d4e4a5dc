package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Cell is a network namespace of its own, connected with the one of this process
// by a pair of virtual interfaces. An agent in it can be cut off from all others,
// and goes on meanwhile. It needs the rights of root.
type Cell struct {
	// Outside is this end's address, Inside that of the cell.
	Outside, Inside string

	tb   TB
	name string // of the namespace, and of the interface in it
}

// NewCell makes a cell, which is removed when the test ends. The error says why
// this machine allows none.
func NewCell(tb TB) (*Cell, error) {
	tb.Helper()
	if os.Geteuid() != 0 {
		return nil, errors.New("a network namespace needs the rights of root")
	}
	// The subnet must be nobody else's: one that is taken fails to be added.
	n := rand.IntN(250) + 1
	c := &Cell{
		Outside: fmt.Sprintf("10.77.%d.1", n), Inside: fmt.Sprintf("10.77.%d.2", n),
		tb: tb, name: fmt.Sprintf("wm%dc%d", os.Getpid()%100_000, n),
	}
	tb.Cleanup(func() {
		_ = c.ip("netns", "del", c.name) // takes both interfaces with it
	})
	for _, args := range [][]string{
		{"netns", "add", c.name},
		{"link", "add", c.outer(), "type", "veth", "peer", "name", c.name, "netns", c.name},
		{"addr", "add", c.Outside + "/24", "dev", c.outer()},
		{"link", "set", c.outer(), "up"},
		{"-n", c.name, "addr", "add", c.Inside + "/24", "dev", c.name},
		{"-n", c.name, "link", "set", c.name, "up"},
		{"-n", c.name, "link", "set", "lo", "up"},
	} {
		if err := c.ip(args...); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cell) outer() string { return c.name + "o" }

func (c *Cell) ip(args ...string) error {
	out, err := exec.CommandContext(context.Background(), "ip", args...).CombinedOutput() //nolint:gosec // the arguments are ours
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Cut takes the cell off the network. What is in it still reaches itself.
func (c *Cell) Cut() {
	c.tb.Helper()
	if err := c.ip("-n", c.name, "link", "set", c.name, "down"); err != nil {
		c.tb.Fatalf("%v", err)
	}
}

// Heal connects the cell again.
func (c *Cell) Heal() {
	c.tb.Helper()
	if err := c.ip("-n", c.name, "link", "set", c.name, "up"); err != nil {
		c.tb.Fatalf("%v", err)
	}
}

// Listen listens on a port of loopback inside the cell.
func (c *Cell) Listen() (net.Listener, error) {
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		// The thread has changed its namespace, and ends with the goroutine.
		runtime.LockOSThread()
		l, err := c.listen()
		done <- result{l, err}
	}()
	r := <-done
	return r.l, r.err
}

func (c *Cell) listen() (net.Listener, error) {
	f, err := os.Open("/run/netns/" + c.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	return new(net.ListenConfig).Listen(context.Background(), "tcp4", "127.0.0.1:0")
}

// command is what runs a program in the cell, by its path.
func (c *Cell) command() []string { return []string{"ip", "netns", "exec", c.name} }
