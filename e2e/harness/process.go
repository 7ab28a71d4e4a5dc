package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Child waits until the agent, a server that runs a node, has its node process
// and returns that process's ID.
func (a *Agent) Child() (pid int) {
	a.tb.Helper()
	Eventually(a.tb, "the node process of "+a.Name, func(context.Context) error {
		children, err := childrenOf(a.PID())
		if err != nil {
			return err
		}
		if len(children) != 1 {
			return fmt.Errorf("it has %d children", len(children))
		}
		pid = children[0]
		return nil
	})
	return pid
}

// childrenOf lists the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		// pid (command) state parent ...: the command may have spaces and brackets.
		_, rest, _ := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" "))
		fields := bytes.Fields(rest)
		if len(fields) < 2 || string(fields[1]) != strconv.Itoa(pid) || string(fields[0]) == "Z" {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		children = append(children, child)
	}
	return children, nil
}

// KillProcess ends a process that an agent of the harness started.
func KillProcess(tb TB, pid int) {
	tb.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		tb.Fatalf("killing process %d: %v", pid, err)
	}
}

// AwaitGone waits until a process has ended.
func AwaitGone(tb TB, pid int) {
	tb.Helper()
	Eventually(tb, fmt.Sprintf("end of process %d", pid), func(context.Context) error { return gone(pid) })
}

// gone returns nil if a process has ended.
func gone(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil //nolint:nilerr // it is gone
	}
	if rest := b[bytes.LastIndexByte(b, ')')+1:]; bytes.HasPrefix(bytes.TrimSpace(rest), []byte("Z")) {
		return nil // ended, and not collected yet by whoever adopted it
	}
	return errors.New("it lives")
}

// finish kills the agent at the end of a test, and waits for its node process,
// which ends by itself: until then it may write to the directory that the test
// is about to remove.
func (a *Agent) finish() {
	var children []int
	if pid := a.PID(); pid != 0 {
		children, _ = childrenOf(pid) // without /proc there is nothing to wait for
	}
	a.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), Patience) // that of the test is over
	defer cancel()
	for _, pid := range children {
		if err := Until(ctx, func(context.Context) error { return gone(pid) }); err != nil {
			a.tb.Logf("the node process %d of %s: %v", pid, a.Name, err)
		}
	}
}
