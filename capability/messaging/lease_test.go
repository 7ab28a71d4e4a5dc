package messaging_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
)

// TestLease: no call without one, and none that had begun is written after it.
func TestLease(t *testing.T) {
	s := openServer(t, messaging.ServerConfig{})
	p := newProxy(t, s.Addr().Client)
	c := newClient(t, messaging.ClientConfig{Servers: func() []string { return []string{p.addr()} }})
	sub := subscribe(t, clientOf(t, s), "x", "")
	var alive atomic.Bool
	var asked watch
	scope := &capability.Scope{Alive: func() bool { asked.touch(); return alive.Load() }}
	denied := c.Publish(ctx(t), scope, "x", nil)
	wantCode(t, denied, wasmatrix.CodePermissionDenied)
	if o := wasmatrix.AsError(denied).Details[wasmatrix.DetailOutcome]; o != wasmatrix.OutcomeNone {
		t.Errorf("outcome is %q", o)
	}
	_, err := c.Subscribe(ctx(t), scope, "x", "")
	wantCode(t, err, wasmatrix.CodePermissionDenied)
	alive.Store(true)
	if err := c.Publish(ctx(t), scope, "x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	expect(t, sub, "x", "1")
	// The socket takes no more in the middle of a message, and the lease runs out.
	p.hold(everything)
	large := make([]byte, messaging.MaxMessage)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			err := c.Publish(ctx(t), scope, "x", large)
			if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
				t.Errorf("error is %v", err)
				return
			}
			if o := wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome]; o != wasmatrix.OutcomeUnknown && o != wasmatrix.OutcomeNone {
				t.Errorf("outcome is %q", o)
			}
		})
	}
	// Whoever writes asks first, so that nobody writes when nobody asks.
	eventually(t, "a write that is stuck", asked.quiet)
	alive.Store(false)
	p.release()
	wg.Wait()
	// Others are not kept from anything for long.
	eventually(t, "a new connection", func() bool { return c.Publish(ctx(t), anyone, "x", []byte("2")) == nil })
	for {
		m := receive(t, sub)
		if string(m.Data) == "2" {
			break
		}
		if len(m.Data) != len(large) {
			t.Fatalf("received %d bytes", len(m.Data))
		}
	}
}

// TestPaused: a process is paused with messages on their way, for longer than its
// lease. None comes after it has gone on, until it has a lease again.
func TestPaused(t *testing.T) {
	s := openServer(t, messaging.ServerConfig{})
	recorder := subscribe(t, newClient(t, messaging.ClientConfig{
		Servers: func() []string { return []string{s.Addr().Client} },
		Config:  config(t, "max_pending", "1000000", "max_pending_bytes", "1GiB"),
	}), "paused", "")
	p := newProxy(t, s.Addr().Client)
	child := startChild(t, p.addr())
	for round := range 5 {
		child.lease(t, patience)
		child.tell(t, "go")
		for range 50 {
			receive(t, recorder)
		}
		// Its socket takes no more: everything behind it fills up.
		p.hold(everything)
		child.tell(t, "stuck")
		child.answer(t)
		const left = 300 * time.Millisecond
		child.lease(t, left)
		child.signal(t, syscall.SIGSTOP)
		time.Sleep(left + 50*time.Millisecond) // the lease runs out by the clock
		// What the machine has already, it delivers. The rest is with the process.
		p.release()
		p.quiet()
		drain(t, s, recorder)
		child.signal(t, syscall.SIGCONT)
		child.answer(t)
		if n := drain(t, s, recorder); n > 0 {
			t.Fatalf("round %d: %d messages came after the process had gone on without a lease", round, n)
		}
	}
}

// drain takes all that has come to the server, and returns how much that was.
func drain(t *testing.T, s *messaging.Server, sub capability.Subscription) (n int) {
	t.Helper()
	c := clientOf(t, s)
	defer c.Close()
	publish(t, c, "paused", "mark")
	for string(receive(t, sub).Data) != "mark" {
		n++
	}
	return n
}

// child is this program as another process, which publishes; see runChild.
type child struct {
	cmd *exec.Cmd
	in  *bufio.Writer
	out *bufio.Scanner
}

const childEnv = "MESSAGING_TEST_SERVER"

func startChild(t *testing.T, server string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+server)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &child{cmd, bufio.NewWriter(in), bufio.NewScanner(out)}
}

func (c *child) tell(t *testing.T, what string) {
	t.Helper()
	fmt.Fprintln(c.in, what)
	if err := c.in.Flush(); err != nil {
		t.Fatal(err)
	}
}

// lease gives the child one from now on, and returns when it has it.
func (c *child) lease(t *testing.T, d time.Duration) {
	t.Helper()
	c.tell(t, "lease "+strconv.FormatInt(d.Nanoseconds(), 10))
	if c.answer(t) != 0 {
		t.Fatal("the child does not know leases")
	}
}

func (c *child) answer(t *testing.T) int {
	t.Helper()
	if !c.out.Scan() {
		t.Fatal("the child has ended: ", c.out.Err())
	}
	n, err := strconv.Atoi(c.out.Text())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// runChild is the other process, if this is it. It takes lines: "lease N" gives it a
// lease of N nanoseconds, which it answers with 0; "go" has it publish by many
// goroutines, until that has failed for all, which it says by 0; "stuck" is answered
// with 0 when none of them gets on.
func runChild() {
	server := os.Getenv(childEnv)
	if server == "" {
		return
	}
	cfg, err := wasmatrix.MessagingConfigOf(nil)
	if err != nil {
		panic(err)
	}
	c, err := messaging.NewClient(messaging.ClientConfig{Config: cfg, Servers: func() []string { return []string{server} }})
	if err != nil {
		panic(err)
	}
	var until atomic.Pointer[time.Time]
	var asked watch
	scope := &capability.Scope{Alive: func() bool { asked.touch(); return time.Now().Before(*until.Load()) }}
	data := make([]byte, messaging.MaxMessage)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if d, ok := strings.CutPrefix(in.Text(), "lease "); ok {
			n, err := strconv.ParseInt(d, 10, 64)
			if err != nil {
				panic(err)
			}
			t := time.Now().Add(time.Duration(n))
			until.Store(&t)
			fmt.Println(0)
			continue
		}
		if in.Text() == "stuck" {
			for !asked.quiet() {
				time.Sleep(time.Millisecond)
			}
			fmt.Println(0)
			continue
		}
		go func() {
			var wg sync.WaitGroup
			for range 48 {
				wg.Go(func() {
					for c.Publish(context.Background(), scope, "paused", data) == nil {
					}
				})
			}
			wg.Wait()
			fmt.Println(0)
		}()
	}
	os.Exit(0)
}

// watch tells whether something has not happened for a while.
type watch struct{ last atomic.Int64 }

func (w *watch) touch() { w.last.Store(time.Now().UnixNano()) }

func (w *watch) quiet() bool {
	last := w.last.Load()
	return last > 0 && time.Now().UnixNano()-last > int64(150*time.Millisecond)
}
