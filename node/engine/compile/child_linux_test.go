package compile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

func TestAMemoryBombEndsItsChildOnly(t *testing.T) {
	t.Parallel()
	// The locals alone take a GiB, which the metered module of some 100 KB does not show.
	bomb := memoryBomb(1 << 30)
	c := open(t, Config{Limits: loose, Memory: 256 << 20, Timeout: 10 * time.Minute})
	mustFail(t, c, bomb, wasmatrix.CodeWasmRuntime, "takes more than 256MiB of memory")
	mustLoad(t, c, numbered(1))
}

// stat returns the fields of /proc/PID/task/TID/stat behind the name.
func stat(tb testing.TB, path string) []string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// alive tells whether a process is there and is no zombie.
func alive(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !bytes.Contains(b, []byte(") Z "))
}

// TestTheChildIsIsolated looks at a child at work.
func TestTheChildIsIsolated(t *testing.T) {
	// An open file that is not closed on execution, as the node may have inherited some.
	fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	t.Setenv("SECRET", "of the node")
	c := open(t, Config{Limits: loose, Timeout: 100 * time.Second, Memory: 300 << 20})
	bomb := timeBomb()
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Load(t.Context(), wasmatrix.DigestOf(bomb), give(bomb), nil) }) // Close ends it
	defer wg.Wait()
	defer c.Close()
	await(t, "the child", func() bool { return len(children(t, c.Dir())) == 1 })
	pid := children(t, c.Dir())[0]
	proc := "/proc/" + pid
	limits := func() string {
		b, err := os.ReadFile(proc + "/limits")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(b)), " ")
	}
	await(t, "its limits", func() bool { return !strings.Contains(limits(), "Max address space unlimited") })

	var space uint64
	_, rest, _ := strings.Cut(limits(), "Max address space ")
	if _, err := fmt.Sscan(rest, &space); err != nil || space < 300<<20 || space > 1<<50 {
		t.Errorf("address space of %d bytes, %v", space, err)
	}
	_, rest, _ = strings.Cut(limits(), "Max cpu time ")
	var seconds int
	if _, err := fmt.Sscan(rest, &seconds); err != nil || seconds < 100 {
		t.Errorf("%d seconds, %v", seconds, err)
	}
	if !strings.Contains(limits(), "Max core file size 0 0") {
		t.Errorf("limits %s", limits())
	}
	priorities(t, proc, "10")
	if own := stat(t, "/proc/self/stat")[16]; own != "0" {
		t.Errorf("this process has priority %s", own)
	}
	if b, err := os.ReadFile(proc + "/oom_score_adj"); err != nil || strings.TrimSpace(string(b)) != "1000" {
		t.Errorf("score %s, %v", b, err)
	}
	if b, err := os.ReadFile(proc + "/environ"); err != nil || bytes.Contains(b, []byte("SECRET")) {
		t.Errorf("environment %q, %v", b, err)
	}
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fds {
		to, err := os.Readlink(proc + "/fd/" + f.Name())
		if n, aerr := strconv.Atoi(f.Name()); aerr != nil || err != nil || n >= 3 && to == os.DevNull {
			t.Errorf("it has file %s, %s", f.Name(), to)
		}
	}
}

// priorities sees that all threads of a process have a priority.
func priorities(t *testing.T, proc, want string) {
	t.Helper()
	tasks, err := filepath.Glob(proc + "/task/*/stat")
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads %v, %v", tasks, err)
	}
	for _, path := range tasks {
		if nice := stat(t, path)[16]; nice != want {
			t.Errorf("%s has priority %s, want %s", path, nice, want)
		}
	}
}

// TestWhatTakesLongHasTheLowestPriority also sees that CPU time is what ends it:
// its timer alone would let it live for twelve seconds.
func TestWhatTakesLongHasTheLowestPriority(t *testing.T) {
	t.Parallel()
	c := open(t, Config{Limits: loose, Timeout: 3 * time.Second, favour: time.Second})
	var wg sync.WaitGroup
	began := time.Now()
	wg.Go(func() {
		mustFail(t, c, timeBomb(), wasmatrix.CodeWasmRuntime, "took longer than 3s")
	})
	await(t, "the child", func() bool { return len(children(t, c.Dir())) == 1 })
	proc := "/proc/" + children(t, c.Dir())[0]
	await(t, "its first second", func() bool { return stat(t, proc+"/stat")[16] == "19" })
	priorities(t, proc, "19")
	wg.Wait()
	t.Logf("it ended after %s", time.Since(began))
}

// node starts a process that loads a module in its own process, see runNode.
func node(t *testing.T, dir string, src []byte, env ...string) (cmd *exec.Cmd, out io.Reader) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(path, src, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0], verbNode, dir, path)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func TestTheChildEndsWithItsNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, _ := node(t, dir, timeBomb())
	await(t, "the child", func() bool { return len(children(t, dir)) == 1 })
	pid := children(t, dir)[0]
	if !alive(pid) {
		t.Error("the child does not live")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	await(t, "the child's end", func() bool { return !alive(pid) })
}

// TestTheProcessorIsTheNodes switches features of the processor off and on
// between runs: no node may compile because its child took the processor for another.
func TestTheProcessorIsTheNodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(env string, want int) {
		t.Helper()
		cmd, out := node(t, dir, nodetest.Module(t, "stateless"), env)
		b, err := io.ReadAll(out)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if got := strings.TrimSpace(string(b)); err != nil || got != "1" {
			t.Errorf("%s: %s files of code, %v", env, got, err)
		}
		if n := len(children(t, dir)); n != want {
			t.Errorf("%s: %d children so far, want %d", env, n, want)
		}
	}
	run("GODEBUG=", 1)
	run("GODEBUG=", 1)
	run("GODEBUG=cpu.bmi1=off", 2)
	run("GODEBUG=cpu.bmi1=off", 2)
}
