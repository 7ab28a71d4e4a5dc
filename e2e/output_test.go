package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// TestLogs reads the output of guests in every way that the CLI has.
func TestLogs(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl, s := c.Client(), c.Followers()[0]
	c.CLI(s, "module", "push", harness.Guest(t, "ticker"), "--name", "ticker")
	c.CLI(s, "module", "push", harness.Guest(t, "crash"), "--name", "crash")

	t.Run("follow to the end", func(t *testing.T) {
		c.CLI(s, "run", "ticker", "--id", "ticks", "--", "-every", "20ms", "-n", "10")
		all := strings.SplitAfter(c.CLI(s, "logs", "-f", "ticks"), "\n")
		if len(all) != 11 || !strings.HasPrefix(all[9], "tick after ") || all[10] != "" {
			t.Errorf("followed %q", all)
		}
		if got := c.CLI(s, "logs", "ticks"); got != strings.Join(all, "") {
			t.Errorf("of the ended instance there is %q, was %q", got, all)
		}
		if got := c.CLI(s, "logs", "-n", "2", "ticks"); got != strings.Join(all[8:], "") {
			t.Errorf("the last two lines are %q", got)
		}
		// It has ended: following ends at once.
		if got := c.CLI(s, "logs", "-f", "-n", "1", "ticks"); got != all[9] {
			t.Errorf("the last line is %q", got)
		}
	})
	t.Run("two streams", func(t *testing.T) {
		c.CLI(s, "run", "crash", "--id", "panics", "--", "-how", "panic")
		const stdout, stderr = "will crash by panic in 0s\n", "panic: crash: as asked"
		check := func(res harness.CLIResult, out bool, err bool) {
			t.Helper()
			if res.Code != 0 || out != (res.Stdout == stdout) || out != (res.Stdout != "") ||
				err != strings.Contains(res.Stderr, stderr) || err != (res.Stderr != "") {
				t.Errorf("exit %d\nstdout: %s\nstderr: %s", res.Code, res.Stdout, res.Stderr)
			}
		}
		check(c.TryCLI(s, "logs", "-f", "panics"), true, true)
		check(c.TryCLI(s, "logs", "--stdout", "panics"), true, false)
		check(c.TryCLI(s, "logs", "--stderr", "panics"), false, true)
		if crash := crashInfo(t, cl, "panics").GetCrashes()[0]; crash.GetKind() != "exit" || crash.GetExitCode() != 2 {
			t.Errorf("the crash is %v", crash)
		}
		for line := range strings.Lines(c.CLI(s, "logs", "panics", "-o", "json")) {
			var piece struct {
				Stream string
				Data   []byte
			}
			if err := json.Unmarshal([]byte(line), &piece); err != nil || len(piece.Data) == 0 || !strings.HasPrefix(piece.Stream, "LOG_STREAM_STD") {
				t.Errorf("%v in %s", err, line)
			}
		}
	})
	t.Run("more than the ring", func(t *testing.T) {
		c.CLI(s, "run", "ticker", "--id", "chatty", "--", "-every", "1us", "-n", "20000")
		c.AwaitStatus(cl, "chatty", api.InstanceStatus_INSTANCE_STATUS_STOPPED)
		res := c.TryCLI(s, "logs", "chatty")
		if res.Code != 0 || !strings.Contains(res.Stderr, "of output dropped]") || len(res.Stdout) > 64<<10 || !strings.HasSuffix(res.Stdout, "\n") {
			t.Errorf("exit %d, %d bytes, stderr: %s", res.Code, len(res.Stdout), res.Stderr)
		}
	})
	t.Run("over a move", func(t *testing.T) {
		c.CLI(s, "run", "ticker", "--id", "moves", "--restart", "on_failure", "--wait", "--", "-every", "20ms")
		in := c.AwaitStatus(cl, "moves", api.InstanceStatus_INSTANCE_STATUS_RUNNING)
		home := c.Nodes[0]
		if home.Name != in.GetNode() {
			home = c.Nodes[1]
		}
		f := follow(t, s.API(), "logs", "-f", "moves")
		f.next(t)
		home.Kill()
		harness.Eventually(t, "it runs on the other node", func(ctx context.Context) error {
			res, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: "moves"})
			if err != nil {
				return err
			}
			if in = res.GetInstance(); in.GetNode() == home.Name || in.GetStatus() != api.InstanceStatus_INSTANCE_STATUS_RUNNING {
				return fmt.Errorf("it is %s on %s", in.GetStatus(), in.GetNode())
			}
			return nil
		})
		for range len(f.lines) {
			f.next(t) // may be of the node that is gone
		}
		for range 10 {
			f.next(t)
		}
		c.CLI(s, "stop", "moves")
		for range f.lines {
		}
		if err := f.cmd.Wait(); err != nil || in.GetEpoch() != 2 {
			t.Errorf("following epoch %d ended with %v", in.GetEpoch(), err)
		}
		// What the other instances said went with their node.
		gone, kept := "", ""
		for _, id := range []string{"ticks", "panics", "chatty"} {
			res, err := cl.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{InstanceId: id})
			if err != nil {
				t.Fatal(err)
			}
			if res.GetInstance().GetNode() == home.Name {
				gone = id
			} else {
				kept = id
			}
		}
		c.AwaitNode(home, "down")
		if gone != "" {
			wantFailure(t, c.TryCLI(s, "logs", gone), 1, wasmatrix.CodeNodeNotFound, home.Name)
		}
		if kept != "" {
			c.CLI(s, "logs", kept)
		}
	})
}

// follower is a command of the CLI that goes on until it is interrupted.
type follower struct {
	cmd   *exec.Cmd
	lines chan string // closed at the end of its stdout
}

func follow(t *testing.T, addrs string, args ...string) *follower {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Binary(t), append([]string{"--addr", addrs}, args...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := &follower{cmd: cmd, lines: make(chan string, 1<<16)}
	go func() {
		defer close(f.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			f.lines <- lines.Text()
		}
	}()
	return f
}

// next returns the next line.
func (f *follower) next(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-f.lines:
		if !ok {
			t.Fatalf("it has ended: %v", f.cmd.Wait())
		}
		return line
	case <-time.After(harness.Patience):
		t.Fatal("no line comes")
	}
	return ""
}

// TestEventsThroughLeaderKills follows the events over all servers while
// instances start and leaders are killed: none is missed, none comes twice (I10).
func TestEventsThroughLeaderKills(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for _, s := range c.Servers {
		addrs = append(addrs, s.API())
	}
	f := follow(t, strings.Join(addrs, ","), "events", "-f", "--from", "1", "-o", "json")
	load := harness.NewLoad(cl, digest, "job")
	for round := range 2 {
		finish := background(t, load, 2, (round+1)*30)
		load.AwaitAcked(t, round*30+10)
		leader := c.Leader()
		leader.Kill()
		finish()
		leader.Start()
		c.WaitReady()
	}
	c.AssertRunningOnce(cl, load.IDs())
	list, err := cl.Events.ListEvents(t.Context(), &api.ListEventsRequest{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	if list.GetMissed() != 0 || list.GetFirst() != 1 {
		t.Fatalf("the list begins at %d and has missed %d", list.GetFirst(), list.GetMissed())
	}
	started := map[string]int{}
	for i, want := range list.GetEvents() {
		var got struct{ Index, Kind, InstanceID string }
		if err := json.Unmarshal([]byte(f.next(t)), &got); err != nil {
			t.Fatal(err)
		}
		if want.GetIndex() != uint64(i+1) || got.Index != strconv.Itoa(i+1) || got.Kind != want.GetKind() || got.InstanceID != want.GetInstanceId() {
			t.Fatalf("event %d is followed as %+v and listed as %v", i+1, got, want)
		}
		if got.Kind == string(wasmatrix.FactStarted) {
			started[got.InstanceID]++
		}
	}
	for _, id := range load.IDs() {
		if started[id] == 0 {
			t.Errorf("that %s has started is no event", id)
		}
	}
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Wait(); err != nil {
		t.Errorf("interrupted, it ended with %v", err)
	}

	from := list.GetEvents()[len(list.GetEvents())/2].GetIndex()
	var part struct {
		Events []struct{ Index string }
		Missed string
	}
	c.CLIJSON(&part, c.Followers()[0], "events", "--from", fmt.Sprint(from))
	if len(part.Events) == 0 || part.Events[0].Index != fmt.Sprint(from) || part.Missed != "0" {
		t.Errorf("events from %d: %+v", from, part)
	}
	one := load.IDs()[0]
	for line := range strings.Lines(c.CLI(c.Servers[0], "events", one)) {
		if !strings.HasPrefix(line, "INDEX") && !strings.Contains(line, " "+one+" ") {
			t.Errorf("among the events of %s: %s", one, line)
		}
	}
}
