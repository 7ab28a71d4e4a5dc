package messaging_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// built is nats-server, built from the module that the package embeds.
var built struct {
	sync.Mutex
	dir, path string
	err       error
}

func natsServer(tb testing.TB) string {
	tb.Helper()
	b := &built
	b.Lock()
	defer b.Unlock()
	if b.path == "" && b.err == nil {
		if b.dir, b.err = os.MkdirTemp("", "nats-server-"); b.err != nil { //nolint:usetesting // it serves all tests
			tb.Fatal(b.err)
		}
		b.path = filepath.Join(b.dir, "nats-server")
		cmd := exec.Command("go", "build", "-o", b.path, "github.com/nats-io/nats-server/v2")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = err
			tb.Logf("%s", out)
		}
	}
	if b.err != nil {
		tb.Fatal("building nats-server: ", b.err)
	}
	return b.path
}

func removeExternal() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// external starts a process of nats-server for the test and returns its URL.
func external(tb testing.TB) string {
	tb.Helper()
	url, _ := startExternal(tb, -1, "")
	return url
}

// startExternal starts one at a port, -1 for any, and returns what kills it as well.
func startExternal(tb testing.TB, port int, conf string) (url string, kill func()) {
	tb.Helper()
	dir := tb.TempDir()
	file := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:%d\"\nports_file_dir: %q\n%s\n", port, dir, conf)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(natsServer(tb), "-c", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	kill = func() {
		_ = cmd.Process.Kill()
		<-exited
	}
	tb.Cleanup(func() {
		kill()
		if tb.Failed() {
			tb.Logf("nats-server: %s", out.String())
		}
	})
	eventually(tb, "nats-server", func() bool {
		select {
		case <-exited:
			tb.Fatalf("nats-server has ended: %s", out.String())
		default:
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*.ports"))
		if len(files) == 0 {
			return false
		}
		data, err := os.ReadFile(files[0])
		var ports struct{ Nats []string }
		if err != nil || json.Unmarshal(data, &ports) != nil || len(ports.Nats) == 0 {
			return false
		}
		url = ports.Nats[0]
		return true
	})
	return url, kill
}
