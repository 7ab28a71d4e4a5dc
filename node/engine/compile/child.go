package compile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// runChild compiles source in a child process that leaves its results in dir.
func (c *Cache) runChild(ctx context.Context, dir string, source []byte) (*manifest, error) {
	path := filepath.Join(c.cfg.Dir, filepath.Base(dir)+".source")
	defer os.Remove(path)
	if err := os.WriteFile(path, source, 0o600); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "compilation cache: %w", err)
	}
	req, err := json.Marshal(&request{
		Source: path, Dir: dir, Limits: c.cfg.Limits, Stack: c.cfg.Stack, Memory: c.cfg.Memory, Load: int64(c.cfg.LoadTimeout),
	})
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, c.cfg.Command[0], c.cfg.Command[1:]...)
	cmd.Env = []string{} // nothing of the node's is the child's business
	cmd.WaitDelay = killWait
	stdout, stderr := &head{limit: maxAnswer}, &head{limit: 8 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is the node's to handle
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
	case limited.Err() != nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "compiling took longer than %s", c.cfg.Timeout)
	case err != nil:
		return nil, c.died(err, stderr.kept.String())
	case werr != nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the compiler did not take its request: %w", werr)
	}
	var ans answer
	if err := json.Unmarshal(stdout.kept.Bytes(), &ans); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the compiler's answer: %w", err)
	}
	if ans.Code != "" {
		return nil, wasmatrix.Errorf(ans.Code, "%s", ans.Message)
	}
	return &ans.Manifest, nil
}

// died says why a child ended without an answer.
func (c *Cache) died(err error, stderr string) error {
	for _, sign := range []string{"out of memory", "cannot allocate memory", "can't allocate"} {
		if strings.Contains(stderr, sign) {
			return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "compiling takes more than %s of memory", wasmatrix.FormatBytes(c.cfg.Memory))
		}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	if first == "" {
		first = err.Error()
	}
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "the compiler failed: %s", first)
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
