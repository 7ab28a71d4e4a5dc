package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Agent is one wasmatrix process and what it keeps on disk. It can be killed
// and started again any number of times; its configuration stays.
type Agent struct {
	Name   string
	Server bool
	Node   bool // with Server: in a process of its own, its child
	Dir    string
	Ports  Ports
	Config string // path of its HCL file; "" for one of [Dev]

	tb   TB
	bin  string
	host string // that it binds; "" is 127.0.0.1
	cell *Cell  // nil where it is in the network of this process
	late bool   // was not there when the cluster was formed
	env  []string

	mu      sync.Mutex
	cmd     *exec.Cmd
	exited  chan struct{}
	exitErr error
}

// Ports are the loopback ports of an agent.
type Ports struct {
	API, Raft, Gossip, Node, NodeGossip int
	Messaging, MessagingRoutes          int
}

// Host is the address that the agent binds.
func (a *Agent) Host() string {
	switch {
	case a.cell != nil:
		return a.cell.Inside
	case a.host != "":
		return a.host
	default:
		return "127.0.0.1"
	}
}

// API returns the URL of the agent's API.
func (a *Agent) API() string { return fmt.Sprintf("http://%s:%d", a.Host(), a.Ports.API) }

// Gossip returns the agent's gossip address.
func (a *Agent) Gossip() string {
	if a.Server {
		return fmt.Sprintf("%s:%d", a.Host(), a.Ports.Gossip)
	}
	return fmt.Sprintf("%s:%d", a.Host(), a.Ports.NodeGossip)
}

// LogPath is the file that its stdout and stderr are appended to.
func (a *Agent) LogPath() string { return filepath.Join(a.Dir, "agent.log") }

// Start runs the process. It does not wait until it is ready.
func (a *Agent) Start(extra ...string) {
	a.tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd != nil {
		a.tb.Fatalf("agent %s runs already", a.Name)
	}
	logFile, err := os.OpenFile(a.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.tb.Fatalf("agent %s: %v", a.Name, err)
	}
	defer logFile.Close()
	args := []string{"agent", "-dev"}
	if a.Config != "" {
		args = []string{"agent", "-config", a.Config}
	}
	line := append([]string{a.bin}, append(args, extra...)...)
	if a.cell != nil {
		line = append(a.cell.command(), line...)
	}
	cmd := exec.Command(line[0], line[1:]...) //nolint:noctx,gosec // ended by Kill, which the cleanup calls
	cmd.Env = append(os.Environ(), a.env...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		a.tb.Fatalf("agent %s: %v", a.Name, err)
	}
	exited := make(chan struct{})
	a.cmd, a.exited = cmd, exited
	go func() {
		err := cmd.Wait()
		a.mu.Lock()
		a.exitErr, a.cmd = err, nil
		a.mu.Unlock()
		close(exited)
	}()
}

// Kill ends the process with SIGKILL and waits until it is gone. Killing one
// that does not run is no error.
func (a *Agent) Kill() { a.end(syscall.SIGKILL) }

// Terminate asks the process to leave with SIGTERM and waits until it is gone.
func (a *Agent) Terminate() { a.end(syscall.SIGTERM) }

// Hangup sends SIGHUP.
func (a *Agent) Hangup() { a.signal(syscall.SIGHUP) }

// Pause stops the process with SIGSTOP, as a machine that hangs.
func (a *Agent) Pause() { a.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (a *Agent) Resume() { a.signal(syscall.SIGCONT) }

// Running reports whether the process lives (paused counts).
func (a *Agent) Running() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cmd != nil
}

// Wait blocks until the process has ended and returns how; nil is exit 0.
func (a *Agent) Wait(patience time.Duration) error {
	a.mu.Lock()
	exited := a.exited
	a.mu.Unlock()
	if exited == nil {
		return nil
	}
	select {
	case <-exited:
	case <-time.After(patience):
		select {
		case <-exited: // both had come: what happened counts
		default:
			return errors.New("still running")
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.exitErr
}

// Log returns what the agent has written so far.
func (a *Agent) Log() string {
	b, err := os.ReadFile(a.LogPath())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LogTail returns the last n lines of the log.
func (a *Agent) LogTail(n int) string {
	lines := strings.Split(strings.TrimRight(a.Log(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// PID returns the process's ID, 0 if it does not run.
func (a *Agent) PID() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		return 0
	}
	return a.cmd.Process.Pid
}

// Memory is what a process has in memory, in bytes.
type Memory struct {
	Resident uint64 // in all
	File     uint64 // of it, pages of files, such as the program's
}

// Memory returns what the process has in memory, nothing while it does not run.
func (a *Agent) Memory() (m Memory) {
	a.mu.Lock()
	cmd := a.cmd
	a.mu.Unlock()
	if cmd == nil {
		return m
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return m
	}
	for line := range bytes.Lines(b) {
		for prefix, to := range map[string]*uint64{"VmRSS:": &m.Resident, "RssFile:": &m.File} {
			var kib uint64
			if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
				if _, err := fmt.Sscanf(string(rest), "%d kB", &kib); err == nil {
					*to = kib << 10
				}
			}
		}
	}
	return m
}

func (a *Agent) signal(sig syscall.Signal) {
	a.tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		a.tb.Fatalf("agent %s does not run", a.Name)
	}
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.tb.Fatalf("agent %s: %v", a.Name, err)
	}
}

func (a *Agent) end(sig syscall.Signal) {
	a.mu.Lock()
	cmd, exited := a.cmd, a.exited
	a.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig) // it may have ended by itself
	select {
	case <-exited:
	case <-time.After(Patience):
		a.tb.Logf("agent %s did not end after %v; killing it", a.Name, sig)
		_ = cmd.Process.Kill()
		<-exited
	}
}
