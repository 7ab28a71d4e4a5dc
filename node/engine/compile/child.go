package compile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

const (
	// maxAnswer bounds what is read of a child's output.
	maxAnswer = 1 << 20
	// killWait is how long a killed child's pipes are waited for.
	killWait = 5 * time.Second
)

// Self returns the argument vector by which this program executes itself as the
// child.
func Self() ([]string, error) {
	// On Linux this is the program that runs, also after its file has been
	// replaced or removed, as an upgrade does.
	path := "/proc/self/exe"
	if _, err := os.Stat(path); err != nil {
		if path, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("finding this program: %w", err)
		}
	}
	return []string{path, Verb}, nil
}

// runChild compiles source in a child process that leaves its results in dir.
func (c *Cache) runChild(ctx context.Context, dir string, source []byte) (*answer, error) {
	path := dir + ".source"
	defer os.Remove(path)
	if err := os.WriteFile(path, source, 0o600); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
	}
	req, err := json.Marshal(&request{
		Program: program(), Source: path, Dir: dir, Limits: c.cfg.Limits, Memory: c.cfg.Memory,
		CPU: uint64((c.cfg.Timeout + time.Second - 1) / time.Second), Favour: int64(c.cfg.favour),
		LoadTime: int64(c.cfg.LoadTimeout), LoadBytes: c.cfg.LoadMemory,
	})
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, wallFactor*c.cfg.Timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, c.cfg.Command[0], c.cfg.Command[1:]...)
	cmd.Env = environment()
	cmd.WaitDelay = killWait
	stdout, stderr := &head{limit: maxAnswer}, &head{limit: 8 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// A terminal's Ctrl-C is the node's to handle; and the child lowers the
	// priority of its whole group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Its end tells the child that its node is gone, so it stays open.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("compiling: %w", err)
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "starting the compiler: %w", err)
	}
	_, werr := stdin.Write(req)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && (limited.Err() != nil || c.usedUp(cmd.ProcessState)):
		return nil, wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "compilation took longer than %s", c.cfg.Timeout)
	case err != nil:
		return nil, c.died(err, stderr.kept.String())
	case werr != nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the compiler did not take its request: %w", werr)
	}
	ans := new(answer)
	if err := json.Unmarshal(stdout.kept.Bytes(), ans); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the compiler's answer: %w", err)
	}
	switch {
	case ans.Code == wasmatrix.CodeWasmRuntime && isOutOfMemory(ans.Message):
		return nil, c.tooLarge()
	case ans.Code != "":
		return nil, wasmatrix.Errorf(ans.Code, "%s", ans.Message)
	}
	if err := ans.Manifest.check(); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the compiler's answer: %w", err)
	}
	return ans, nil
}

// environment is that of a child. GODEBUG can switch off features of the
// processor, of which native code must use the same as its node; nothing else of
// the node's is the child's business.
func environment() []string {
	env := []string{}
	if v, ok := os.LookupEnv("GODEBUG"); ok {
		env = append(env, "GODEBUG="+v)
	}
	return env
}

// usedUp tells whether a child was killed for its CPU time, which the kernel
// measures in two ways that differ a little.
func (c *Cache) usedUp(p *os.ProcessState) bool {
	status, ok := p.Sys().(syscall.WaitStatus)
	return ok && status.Signal() == syscall.SIGKILL && p.SystemTime()+p.UserTime() > c.cfg.Timeout/10*9
}

// died says why a child ended without an answer.
func (c *Cache) died(err error, stderr string) error {
	if isOutOfMemory(stderr) {
		return c.tooLarge()
	}
	first, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	if first == "" {
		first = err.Error()
	}
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "the compiler failed: %s", first)
}

func (c *Cache) tooLarge() error {
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "compilation takes more than %s of memory", wasmatrix.FormatBytes(c.cfg.Memory))
}

// head keeps the first bytes of what is written to it.
type head struct {
	kept  bytes.Buffer
	limit int
}

func (h *head) Write(p []byte) (int, error) {
	if room := h.limit - h.kept.Len(); room > 0 {
		h.kept.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
