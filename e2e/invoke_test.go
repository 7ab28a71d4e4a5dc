package e2e

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

//go:generate wat2wasm --debug-names testdata/invoke/callee.wat -o testdata/invoke/callee.wasm

// startCallee starts an instance of testdata/invoke and waits until it runs.
func startCallee(t *testing.T, c *harness.Cluster, cl *client.Client, id string, change ...func(*api.StartInstanceRequest)) {
	t.Helper()
	startGuest(t, c, cl, id, filepath.Join(harness.Root(t), "e2e", "testdata", "invoke", "callee.wasm"), change...)
}

// invokeFunction calls a function of an instance, of bytes where data is not nil.
func invokeFunction(ctx context.Context, cl *client.Client, id, function string, timeout time.Duration, data []byte, args ...any) (*api.InvokeInstanceResponse, error) {
	list, err := structpb.NewList(args)
	if err != nil {
		return nil, err
	}
	return cl.Instances.InvokeInstance(ctx, &api.InvokeInstanceRequest{
		InstanceId: id, Function: function, Args: list.GetValues(), Data: data, Timeout: durationpb.New(timeout),
	})
}

// statusOf is what the cluster says of an instance now.
func statusOf(t *testing.T, cl *client.Client, id string) api.InstanceStatus {
	t.Helper()
	res, err := cl.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{InstanceId: id})
	if err != nil {
		t.Fatal(err)
	}
	return res.GetInstance().GetStatus()
}

const callTimeout = 30 * time.Second

// TestInvoke calls the functions of a real guest, by the API and by the CLI.
func TestInvoke(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	cl := c.Client()
	s := c.Servers[0]
	startCallee(t, c, cl, "f")

	t.Run("Numbers", func(t *testing.T) {
		res, err := invokeFunction(t.Context(), cl, "f", "add", callTimeout, nil, "9007199254740992", 1)
		if r := res.GetResults(); err != nil || len(r) != 1 || r[0].GetStringValue() != "9007199254740993" {
			t.Errorf("%v, %v", res, err)
		}
		if res.GetCpu().AsDuration() <= 0 {
			t.Errorf("it took no time: %v", res)
		}
		for want, args := range map[string][]string{
			"9007199254740993\n": {"add", "9007199254740992", "1"},
			"-3\n":               {"add", "-1", "18446744073709551614"},
			"-0.25\n":            {"half", "-0.5"},
			"NaN\n":              {"half", "NaN"},
			"-Infinity\n":        {"half", "-Infinity"},
		} {
			if got := c.CLI(s, append([]string{"invoke", "f"}, args...)...); got != want {
				t.Errorf("%s: %q, want %q", args, got, want)
			}
		}
	})
	t.Run("Bytes", func(t *testing.T) {
		res, err := invokeFunction(t.Context(), cl, "f", "greet", callTimeout, []byte("you"))
		if err != nil || string(res.GetData()) != "hello, you" || res.GetStatus() != 0 {
			t.Errorf("%v, %v", res, err)
		}
		if got := c.CLI(s, "invoke", "f", "greet", "--data", "you"); got != "hello, you" {
			t.Errorf("by the CLI: %q", got)
		}
		if got := c.CLI(s, "invoke", "f", "greet", "--data", ""); got != "hello, " {
			t.Errorf("of nothing: %q", got)
		}
		if got := c.CLI(s, "invoke", "f", "greet", "--data-file", file(t, "in", "a file")); got != "hello, a file" {
			t.Errorf("of a file: %q", got)
		}
		// A status is told beside the output.
		long := c.TryCLI(s, "invoke", "f", "greet", "--data", "seventeen letters")
		wantFailure(t, long, 1, wasmatrix.CodeWasmRuntime, "status 1")
		if long.Stdout != "hello, seventeen letter" {
			t.Errorf("the output beside a status: %q", long.Stdout)
		}
		largest := bytes.Repeat([]byte("x"), wasmatrix.MaxInvokeData)
		res, err = invokeFunction(t.Context(), cl, "f", "echo", callTimeout, largest)
		if err != nil || !bytes.Equal(res.GetData(), largest) {
			t.Errorf("%d bytes of the largest: %v", len(res.GetData()), err)
		}
	})
	t.Run("Refused", func(t *testing.T) {
		_, err := invokeFunction(t.Context(), cl, "f", "nobody", callTimeout, nil)
		wantCode(t, err, wasmatrix.CodeValidation, "nobody")
		wantFailure(t, c.TryCLI(s, "invoke", "f", "add", "1"), 1, wasmatrix.CodeValidation, "(i64, i64) -> (i64)")
		_, err = invokeFunction(t.Context(), cl, "nobody", "add", callTimeout, nil)
		wantCode(t, err, wasmatrix.CodeInstanceNotFound)
		wantFailure(t, c.TryCLI(s, "invoke", "nobody", "add"), 1, wasmatrix.CodeInstanceNotFound)
	})
	if status := statusOf(t, cl, "f"); status != api.InstanceStatus_INSTANCE_STATUS_RUNNING {
		t.Errorf("after all that it is %s", status)
	}
}

// TestInvokeThatEndsTheInstance: who is told so finds it as told, and all that is
// known of the crash.
func TestInvokeThatEndsTheInstance(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	cl := c.Client()
	never, always := policy(api.RestartMode_RESTART_MODE_NEVER, 0), policy(api.RestartMode_RESTART_MODE_ALWAYS, 0)

	t.Run("Trap", func(t *testing.T) {
		startCallee(t, c, cl, "traps", never)
		_, err := invokeFunction(t.Context(), cl, "traps", "fail", callTimeout, nil)
		status := statusOf(t, cl, "traps")
		wantCode(t, err, wasmatrix.CodeCrashDetected, "integer divide by zero")
		if e := wasmatrix.AsError(err); e.Details["kind"] != "trap" || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown {
			t.Errorf("details %v", e.Details)
		}
		if status != api.InstanceStatus_INSTANCE_STATUS_CRASHED {
			t.Errorf("who was told of the crash finds it %s", status)
		}
		info := crashInfo(t, cl, "traps")
		if len(info.GetCrashes()) != 1 || info.GetDetailsMissing() != "" {
			t.Fatalf("crash info %v", info)
		}
		crash := info.GetCrashes()[0]
		if stack := []string{"divide(i32) i32", "fail() i32"}; crash.GetKind() != "trap" || !slices.Equal(crash.GetStack(), stack) {
			t.Errorf("crash %v, want the stack %q", crash, stack)
		}
		if string(crash.GetStderr()) != "divided by nothing\n" || crash.GetFuel() == 0 || crash.GetMemoryPeakBytes() != 65*wasmatrix.WasmPage {
			t.Errorf("stderr %q, fuel %d, memory %d", crash.GetStderr(), crash.GetFuel(), crash.GetMemoryPeakBytes())
		}
		wantWords(t, c.CLI(c.Servers[0], "crashes", "traps"), "integer divide by zero", "divide(i32) i32", "divided by nothing")

		_, err = invokeFunction(t.Context(), cl, "traps", "add", callTimeout, nil, 1, 2)
		wantCode(t, err, wasmatrix.CodeConflict, "crashed")
	})
	t.Run("TrapByTheCLI", func(t *testing.T) {
		startCallee(t, c, cl, "traps-cli", never)
		wantFailure(t, c.TryCLI(c.Servers[0], "invoke", "traps-cli", "fail"), 1, wasmatrix.CodeCrashDetected, "integer divide by zero")
	})
	t.Run("Restart", func(t *testing.T) {
		startCallee(t, c, cl, "restarts", always)
		for n := range 3 {
			res, err := invokeFunction(t.Context(), cl, "restarts", "one_at_a_time", callTimeout, nil)
			if r := res.GetResults(); err != nil || len(r) != 1 || r[0].GetNumberValue() != 1 {
				t.Errorf("after %d restarts: %v, %v", n, res, err)
			}
			_, err = invokeFunction(t.Context(), cl, "restarts", "fail", callTimeout, nil)
			wantCode(t, err, wasmatrix.CodeCrashDetected)
		}
		if n := crashInfo(t, cl, "restarts").GetCrashCount(); n != 3 {
			t.Errorf("%d crashes", n)
		}
	})
	for _, function := range []string{"spin", "sleep"} {
		t.Run("Deadline/"+function, func(t *testing.T) {
			startCallee(t, c, cl, function, never)
			began := time.Now()
			_, err := invokeFunction(t.Context(), cl, function, function, 500*time.Millisecond, nil)
			status := statusOf(t, cl, function)
			wantCode(t, err, wasmatrix.CodeTimeout)
			if e := wasmatrix.AsError(err); e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown {
				t.Errorf("details %v", e.Details)
			}
			if d := time.Since(began); d < 500*time.Millisecond || d > 10*time.Second {
				t.Errorf("told after %s", d)
			}
			if status != api.InstanceStatus_INSTANCE_STATUS_CRASHED {
				t.Errorf("who was told of the end finds it %s", status)
			}
			if cs := crashInfo(t, cl, function).GetCrashes(); len(cs) != 1 || cs[0].GetKind() != "deadline" {
				t.Errorf("crashes %v", cs)
			}
		})
	}
	t.Run("Deadline/restart", func(t *testing.T) {
		startCallee(t, c, cl, "again", always)
		wantFailure(t, c.TryCLI(c.Servers[0], "invoke", "again", "spin", "--timeout", "500ms"), 1, wasmatrix.CodeTimeout)
		if got := c.CLI(c.Servers[0], "invoke", "again", "add", "1", "2"); got != "3\n" {
			t.Errorf("after the restart: %q", got)
		}
		in := c.AwaitStatus(cl, "again", api.InstanceStatus_INSTANCE_STATUS_RUNNING)
		if in.GetRestarts() != 1 || in.GetCrashes() != 1 {
			t.Errorf("%v", in)
		}
	})
	t.Run("Fuel", func(t *testing.T) {
		startCallee(t, c, cl, "fuel", never, func(r *api.StartInstanceRequest) { r.Limits = &api.Limits{Fuel: 5_000_000} })
		_, err := invokeFunction(t.Context(), cl, "fuel", "spin", callTimeout, nil)
		wantCode(t, err, wasmatrix.CodeCrashDetected, "fuel budget used up")
		if cs := crashInfo(t, cl, "fuel").GetCrashes(); len(cs) != 1 || cs[0].GetKind() != "cpu" || cs[0].GetFuel() < 5_000_000 || cs[0].GetFuel() > 5_001_000 {
			t.Errorf("crashes %v", cs)
		}
	})
}

// TestCallsAreExecutedOneAtATime: 200 at once to one instance, all of which are
// answered. The guest traps if it is called while it is called, and counts.
func TestCallsAreExecutedOneAtATime(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1, NodeExtra: "invoke_queue = 200"})
	cl := c.Client()
	startCallee(t, c, cl, "f")
	const calls = 200
	type answer struct {
		n   int
		err error
	}
	answers := make(chan answer, calls)
	for range calls {
		go func() {
			res, err := invokeFunction(t.Context(), cl, "f", "one_at_a_time", 2*time.Minute, nil)
			n := 0
			if r := res.GetResults(); len(r) == 1 {
				n = int(r[0].GetNumberValue())
			}
			answers <- answer{n, err}
		}()
	}
	var got []int
	for range calls {
		a := <-answers
		if a.err != nil {
			t.Error(a.err)
		}
		got = append(got, a.n)
	}
	slices.Sort(got)
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("the calls were answered with %v", got)
		}
	}
}

// TestInvokeThroughAnyServer reaches the node, whoever leads.
func TestInvokeThroughAnyServer(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	startCallee(t, c, c.Client(), "f")
	for _, s := range c.Servers {
		res, err := invokeFunction(t.Context(), c.Client(s), "f", "greet", callTimeout, []byte(s.Name))
		if err != nil || string(res.GetData()) != "hello, "+s.Name {
			t.Errorf("through %s: %v, %v", s.Name, res, err)
		}
		if got := c.CLI(s, "invoke", "f", "add", "2", "3"); got != "5\n" {
			t.Errorf("by the CLI through %s: %q", s.Name, got)
		}
		_, err = invokeFunction(t.Context(), c.Client(s), "f", "nobody", callTimeout, nil)
		wantCode(t, err, wasmatrix.CodeValidation)
	}
}

// TestInvokeOnAKilledNode is answered with an error, and does not hang: neither
// what was executed as the node ended, nor what comes afterwards. What moves to
// another node can be called there.
func TestInvokeOnAKilledNode(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 2})
	cl := c.Client()
	startCallee(t, c, cl, "stays", policy(api.RestartMode_RESTART_MODE_NEVER, 0))
	node := c.AwaitStatus(cl, "stays", api.InstanceStatus_INSTANCE_STATUS_RUNNING).GetNode()
	startCallee(t, c, cl, "moves", policy(api.RestartMode_RESTART_MODE_ALWAYS, 0))
	victim := c.Nodes[slices.IndexFunc(c.Nodes, func(a *harness.Agent) bool { return a.Name == node })]

	executed := make(chan error, 1)
	go func() {
		_, err := invokeFunction(t.Context(), cl, "stays", "sleep", 5*time.Minute, nil)
		executed <- err
	}()
	// It is executed once another call waits in vain.
	harness.Eventually(t, "the call is executed", func(ctx context.Context) error {
		_, err := invokeFunction(ctx, cl, "stays", "add", 200*time.Millisecond, nil, 1, 2)
		if e := wasmatrix.AsError(err); e == nil || e.Code != wasmatrix.CodeTimeout || e.Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown {
			return fmt.Errorf("another was answered with %v", err) //nolint:errorlint // may be nil
		}
		return nil
	})
	victim.Kill()
	select {
	case err := <-executed:
		wantCode(t, err, wasmatrix.CodeCommunication)
		if e := wasmatrix.AsError(err); e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown {
			t.Errorf("what was executed: %v, details %v", err, e.Details)
		}
	case <-time.After(harness.Patience):
		t.Fatal("what was executed on the killed node is not answered")
	}

	began := time.Now()
	_, err := invokeFunction(t.Context(), cl, "stays", "add", 2*time.Second, nil, 1, 2)
	// Where the connection is not known yet to be broken, it is lost with it.
	e := wasmatrix.AsError(err)
	unknown := e != nil && e.Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown
	if e == nil || e.Code != wasmatrix.CodeCommunication && (unknown || e.Code != wasmatrix.CodeTimeout && e.Code != wasmatrix.CodeConflict) {
		t.Errorf("afterwards: %v, details %v", err, e.Details)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("told after %s", d)
	}
	harness.Eventually(t, "a call of what has moved", func(ctx context.Context) error {
		res, err := invokeFunction(ctx, cl, "moves", "add", 5*time.Second, nil, 1, 2)
		if err == nil && res.GetResults()[0].GetStringValue() != "3" {
			err = fmt.Errorf("%v", res)
		}
		return err
	})
	c.AwaitStatus(cl, "stays", api.InstanceStatus_INSTANCE_STATUS_CRASHED)
	_, err = invokeFunction(t.Context(), cl, "stays", "add", callTimeout, nil, 1, 2)
	wantCode(t, err, wasmatrix.CodeConflict)
	info := crashInfo(t, cl, "stays")
	if cs := info.GetCrashes(); len(cs) != 1 || cs[0].GetKind() != "node_lost" || !strings.Contains(cs[0].GetNode(), node) {
		t.Errorf("crashes %v", cs)
	}
}
