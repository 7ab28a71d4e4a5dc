package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

// ChildVerb is the hidden command under which a server re-executes the binary
// as the node of its machine. The child reads its configuration, one JSON
// document, from stdin, and ends when stdin does: so it never outlives its server.
const ChildVerb = "node-process"

// childConfig is what a server hands to its node.
type childConfig struct {
	Config  *config.Config
	Options Options
}

// child keeps one node process running.
type child struct {
	payload []byte
	log     hclog.Logger

	mu  sync.Mutex
	cmd *exec.Cmd // nil while none runs
}

// A node process that dies is started again after restartDelay, doubled each
// time up to restartDelayMax, and anew after it has lived for restartReset.
const (
	restartDelay    = 100 * time.Millisecond
	restartDelayMax = 10 * time.Second
	restartReset    = 30 * time.Second
	// childGrace is how long a node may take to end its guests.
	childGrace = 15 * time.Second
)

func newChild(cfg *config.Config, opts Options, log hclog.Logger) (*child, error) {
	payload, err := json.Marshal(childConfig{Config: cfg, Options: opts})
	if err != nil {
		return nil, fmt.Errorf("configuration of the node process: %w", err)
	}
	return &child{payload: payload, log: log}, nil
}

// run starts the process, and again whenever it dies, until ctx ends; then it
// closes the pipe, and returns when the process is gone.
func (c *child) run(ctx context.Context) {
	delay := restartDelay
	for ctx.Err() == nil {
		began := time.Now()
		err := c.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= restartReset {
			delay = restartDelay
		}
		c.log.Error("the node process ended; starting it again", "error", err, "in", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, restartDelayMax)
	}
}

func (c *child) runOnce(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.Command(exe, ChildVerb) //nolint:noctx // ended by closing its stdin, below, which lets it end its guests
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("pipe to the node process: %w", err)
	}
	// A group of its own keeps a terminal's Ctrl-C from reaching it before its
	// server has handed over leadership.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the node process: %w", err)
	}
	c.setCommand(cmd)
	defer c.setCommand(nil)
	if _, err := stdin.Write(append(c.payload, '\n')); err != nil {
		c.log.Warn("the node process did not take its configuration", "error", err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return exitError(err)
	case <-ctx.Done():
	}
	_ = stdin.Close() // asks it to leave; it may be gone already
	select {
	case err := <-ended:
		return exitError(err)
	case <-time.After(childGrace):
		c.log.Warn("the node process does not end; killing it", "after", childGrace)
		_ = cmd.Process.Kill() // it may have ended in between
		return exitError(<-ended)
	}
}

// signal passes a signal on to the process, if one runs.
func (c *child) signal(sig os.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil {
		_ = c.cmd.Process.Signal(sig) // it may have ended in between
	}
}

func (c *child) setCommand(cmd *exec.Cmd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cmd = cmd
}

func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// RunChild is the body of the node process: it reads its configuration from in
// and runs the node until in ends, or ctx does.
func RunChild(ctx context.Context, in io.Reader, reload <-chan os.Signal) error {
	dec := json.NewDecoder(in)
	var cc childConfig
	if err := dec.Decode(&cc); err != nil {
		return fmt.Errorf("configuration from the server process: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// Not joined: a read of stdin cannot be cancelled, and the process is
		// about to end when the others are done.
		_, _ = io.Copy(io.Discard, io.MultiReader(dec.Buffered(), in))
		cancel()
	}()
	cc.Options.Reload = reload
	return runNode(ctx, cc.Config, cc.Options)
}
