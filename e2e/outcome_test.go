package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// start starts one instance of module bytes and returns its ID.
func start(t *testing.T, cl *client.Client, module string, change ...func(*api.StartInstanceRequest)) string {
	t.Helper()
	id, err := tryStart(t.Context(), cl, module, change...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func tryStart(ctx context.Context, cl *client.Client, module string, change ...func(*api.StartInstanceRequest)) (string, error) {
	req := &api.StartInstanceRequest{Module: &api.StartInstanceRequest_ModuleBytes{ModuleBytes: []byte(module)}}
	for _, c := range change {
		c(req)
	}
	res, err := cl.Instances.StartInstance(ctx, req)
	return res.GetInstanceId(), err
}

func policy(mode api.RestartMode, retries uint32) func(*api.StartInstanceRequest) {
	return func(r *api.StartInstanceRequest) {
		r.Restart = &api.RestartPolicy{
			Mode: mode, MaxRetries: retries,
			Backoff: &api.Backoff{Initial: durationpb.New(time.Millisecond), Multiplier: 1, Max: durationpb.New(time.Second), Reset_: durationpb.New(time.Hour)},
		}
	}
}

func crashInfo(t *testing.T, cl *client.Client, id string) *api.GetCrashInfoResponse {
	t.Helper()
	info, err := cl.Instances.GetCrashInfo(t.Context(), &api.GetCrashInfoRequest{InstanceId: id})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestHowInstancesEnd runs modules that end in every way that a node can tell
// apart, over one cluster.
func TestHowInstancesEnd(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	cl := c.Client()
	t.Run("by itself", func(t *testing.T) {
		in := c.AwaitStatus(cl, start(t, cl, wasmEnds), api.InstanceStatus_INSTANCE_STATUS_STOPPED)
		if in.GetExitCode() != 0 || in.GetCrashes() != 0 || in.GetLastError() != "" {
			t.Errorf("ended as %v", in)
		}
	})
	t.Run("trap", func(t *testing.T) {
		id := start(t, cl, wasmTraps)
		in := c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_CRASHED)
		info := crashInfo(t, cl, id)
		if in.GetLastError() != string(wasmatrix.CodeCrashDetected) || !info.GetCrashed() || info.GetCrashCount() != 1 || len(info.GetCrashes()) != 1 {
			t.Fatalf("crashed as %v, %v", in, info)
		}
		crash := info.GetCrashes()[0]
		if crash.GetKind() != "trap" || crash.GetMessage() != "unreachable" || crash.GetNode() != "n1" || crash.GetEpoch() != 1 || crash.GetAttempt() != 1 {
			t.Errorf("the crash is %v", crash)
		}
		// Innermost first, by the names of the module.
		stack := crash.GetStack()
		if len(stack) != 2 || !strings.Contains(stack[0], "boom") || !strings.Contains(stack[1], "_start") {
			t.Errorf("the stack is %q", stack)
		}
		out := c.CLI(c.Servers[0], "crashes", id)
		for _, w := range []string{"crashed once", "unreachable", "boom", "_start"} {
			if !strings.Contains(out, w) {
				t.Errorf("the crashes as text do not have %q:\n%s", w, out)
			}
		}
		if res := c.TryCLI(c.Servers[0], "run", file(t, "invalid.wasm", wasmInvalid), "--wait"); res.Code != 1 || !strings.Contains(res.Stderr, "CRASH_DETECTED") {
			t.Errorf("run --wait of what cannot start: exit %d\n%s", res.Code, res.Stderr)
		}
	})
	for name, test := range map[string]struct{ module, words string }{
		"code that is invalid": {wasmInvalid, "invalid function[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			id := start(t, cl, test.module, policy(api.RestartMode_RESTART_MODE_NEVER, 0))
			in := c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_CRASHED)
			info := crashInfo(t, cl, id)
			if in.GetLastError() != string(wasmatrix.CodeWasmRuntime) || info.GetLastError().GetCode() != string(wasmatrix.CodeWasmRuntime) {
				t.Errorf("the last error is %s, %v", in.GetLastError(), info.GetLastError())
			}
			if n := len(info.GetCrashes()); n != 1 || info.GetCrashes()[0].GetKind() != "start" || !strings.Contains(info.GetCrashes()[0].GetMessage(), test.words) {
				t.Errorf("the crashes are %v", info.GetCrashes())
			}
		})
	}
	t.Run("start function that traps", func(t *testing.T) {
		id := start(t, cl, wasmStartTraps, policy(api.RestartMode_RESTART_MODE_NEVER, 0))
		in := c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_CRASHED)
		crashes := crashInfo(t, cl, id).GetCrashes()
		if in.GetLastError() != string(wasmatrix.CodeCrashDetected) || len(crashes) != 1 || crashes[0].GetKind() != "trap" || crashes[0].GetMessage() != "unreachable" {
			t.Errorf("crashed as %v, %v", in, crashes)
		}
	})
	t.Run("import that nobody provides", func(t *testing.T) {
		_, err := cl.Instances.StartInstance(t.Context(), &api.StartInstanceRequest{
			Module: &api.StartInstanceRequest_ModuleBytes{ModuleBytes: []byte(wasmLacks)}, InstanceId: "lacks",
		})
		wantCode(t, err, wasmatrix.CodeWasmRuntime, "env.nope")
		if imports := wasmatrix.AsError(err).Details["imports"]; imports != "env.nope" {
			t.Errorf("the imports that are missing are %q", imports)
		}
		res := c.TryCLI(c.Servers[0], "module", "push", file(t, "lacks.wasm", wasmLacks))
		if res.Code != 1 || !strings.Contains(res.Stderr, "WASM_RUNTIME_ERROR") || !strings.Contains(res.Stderr, "env.nope") {
			t.Errorf("push: exit %d\n%s", res.Code, res.Stderr)
		}
		_, err = cl.Modules.InspectModule(t.Context(), &api.InspectModuleRequest{Module: wasmatrix.DigestOf([]byte(wasmLacks)).String()})
		wantCode(t, err, wasmatrix.CodeModuleNotFound)
		_, err = cl.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{InstanceId: "lacks"})
		wantCode(t, err, wasmatrix.CodeInstanceNotFound)
	})
	t.Run("crash loop", func(t *testing.T) {
		id := start(t, cl, wasmTraps, policy(api.RestartMode_RESTART_MODE_ON_FAILURE, 3))
		in := c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_CRASHED)
		info := crashInfo(t, cl, id)
		if in.GetLastError() != string(wasmatrix.CodeRestartPolicyViolation) || in.GetRestarts() != 3 || in.GetCrashes() != 4 || in.GetAttempt() != 4 || in.GetEpoch() != 1 {
			t.Errorf("retries used up: %v", in)
		}
		if info.GetLastError().GetCode() != string(wasmatrix.CodeRestartPolicyViolation) || info.GetCrashCount() != 4 {
			t.Errorf("crash info: %v", info)
		}
		for i, crash := range info.GetCrashes() {
			if crash.GetAttempt() != uint32(i+1) {
				t.Errorf("crash %d is of attempt %d", i, crash.GetAttempt())
			}
		}
	})
	t.Run("always anew", func(t *testing.T) {
		id := start(t, cl, wasmEnds, policy(api.RestartMode_RESTART_MODE_ALWAYS, 2))
		in := c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_STOPPED)
		if in.GetLastError() != "" || in.GetRestarts() != 2 || in.GetCrashes() != 0 || !strings.Contains(in.GetReason(), "all 2 restarts are used up") {
			t.Errorf("restarts of what exits with 0 used up: %v", in)
		}
	})
	t.Run("restart of what has ended", func(t *testing.T) {
		id := start(t, cl, wasmEnds)
		c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_STOPPED)
		_, err := cl.Instances.RestartInstance(t.Context(), &api.RestartInstanceRequest{InstanceId: id})
		wantCode(t, err, wasmatrix.CodeRestartPolicyViolation, "start a new one")
	})
	t.Run("ID in use", func(t *testing.T) {
		named := func(r *api.StartInstanceRequest) { r.InstanceId = "only" }
		start(t, cl, wasmEnds, named)
		_, err := tryStart(t.Context(), cl, wasmEnds, named)
		wantCode(t, err, wasmatrix.CodeConflict, "only")
	})
	t.Run("request ID reused", func(t *testing.T) {
		same := func(r *api.StartInstanceRequest) { r.RequestId = "deploy-1" }
		id := start(t, cl, wasmEnds, same)
		if again := start(t, cl, wasmEnds, same); again != id {
			t.Errorf("the repeated request was answered with %s, the first with %s", again, id)
		}
		_, err := tryStart(t.Context(), cl, wasmEnds, same, func(r *api.StartInstanceRequest) { r.Args = []string{"other"} })
		wantCode(t, err, wasmatrix.CodeConflict, "deploy-1")
		_, err = cl.Instances.StopInstance(t.Context(), &api.StopInstanceRequest{RequestId: "deploy-1", InstanceId: id})
		wantCode(t, err, wasmatrix.CodeConflict, "deploy-1")
	})
}

// TestCapacity fills the nodes: what finds no room is refused with the reasons,
// or waits where that was asked for.
func TestCapacity(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1, NodeInstances: 2, NodeMemory: "256MiB"})
	cl, s := c.Client(), c.Servers[0]
	guest := reactor(t)
	c.CLI(s, "module", "push", guest, "--name", "guest")

	res := c.TryCLI(s, "run", "guest", "--memory", "1GiB")
	wantFailure(t, res, 1, wasmatrix.CodeResourceExhausted, "memory")
	res = c.TryCLI(s, "run", "guest", "--constraint", "zone=mars")
	wantFailure(t, res, 1, wasmatrix.CodeResourceExhausted, "zone=mars")
	res = c.TryCLI(s, "run", "guest", "--count", "3")
	wantFailure(t, res, 1, wasmatrix.CodeResourceExhausted)
	if all, err := harness.List(t.Context(), cl); err != nil || len(all) != 0 {
		t.Fatalf("of three that do not all fit, these were started: %v, %v", all, err)
	}

	c.CLI(s, "run", "guest", "--id", "fits", "--count", "2", "--wait")
	res = c.TryCLI(s, "run", "guest")
	wantFailure(t, res, 1, wasmatrix.CodeResourceExhausted, "places are exhausted on 1", "nodes_instances_exhausted: 1")

	c.CLI(s, "run", "guest", "--id", "waits", "--queue")
	c.CLI(s, "run", "guest", "--id", "martian", "--queue", "--constraint", "node=n2")
	for _, id := range []string{"waits", "martian"} {
		if in := c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_PENDING); in.GetNode() != "" {
			t.Errorf("%s is pending on node %q", id, in.GetNode())
		}
	}
	t.Run("room is made", func(t *testing.T) {
		c.CLI(s, "stop", "fits-1")
		in := c.AwaitStatus(cl, "waits", api.InstanceStatus_INSTANCE_STATUS_RUNNING)
		if in.GetNode() != "n1" {
			t.Errorf("it was placed on %s", in.GetNode())
		}
		c.AwaitStatus(cl, "martian", api.InstanceStatus_INSTANCE_STATUS_PENDING)
	})
	t.Run("a node comes", func(t *testing.T) {
		c.AddNode().Start()
		in := c.AwaitStatus(cl, "martian", api.InstanceStatus_INSTANCE_STATUS_RUNNING)
		if in.GetNode() != "n2" {
			t.Errorf("it was placed on %s", in.GetNode())
		}
	})
	t.Run("a queue is left", func(_ *testing.T) {
		c.CLI(s, "run", "guest", "--id", "never", "--queue", "--constraint", "zone=mars")
		c.AwaitStatus(cl, "never", api.InstanceStatus_INSTANCE_STATUS_PENDING)
		c.CLI(s, "stop", "never")
		c.AwaitStatus(cl, "never", api.InstanceStatus_INSTANCE_STATUS_STOPPED)
	})
}

// TestStopOnPausedNode stops an instance whose node does not answer: the stop is
// committed, and the answer says so. It is carried out when the node goes on.
func TestStopOnPausedNode(t *testing.T) {
	// A lease that outlasts the test keeps the node from being given up.
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1, Extra: `lease { ttl = "5m" }`})
	cl, n := c.Client(), c.Nodes[0]
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 1, 1)()
	id := load.IDs()[0]
	c.AssertRunningOnce(cl, load.IDs())

	n.Pause()
	_, err = cl.Instances.StopInstance(t.Context(), &api.StopInstanceRequest{InstanceId: id, Timeout: durationpb.New(100 * time.Millisecond)})
	n.Resume()
	wantCode(t, err, wasmatrix.CodeTimeout)
	if e := wasmatrix.AsError(err); e != nil && (e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeCommitted || e.Details["node"] != n.Name) {
		t.Errorf("the details are %v", e.Details)
	}
	in := c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_STOPPED)
	if !in.GetStopRequested() {
		t.Errorf("it stopped by itself: %v", in)
	}
}

// TestMinority leaves one server of three: it acknowledges nothing, and when the
// others are back, nothing of what it refused has happened (I12).
func TestMinority(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	load := harness.NewLoad(cl, digest, "job")
	background(t, load, 2, 5)()
	c.AssertRunningOnce(cl, load.IDs())
	begin := func(ctx context.Context, cl *client.Client, id string) error {
		_, err := cl.Instances.StartInstance(ctx, &api.StartInstanceRequest{
			RequestId: "start-" + id, InstanceId: id, Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
		})
		return err
	}
	for _, name := range []string{"leader", "follower"} {
		t.Run(name+" survives", func(t *testing.T) {
			survivor := c.Leader()
			if name == "follower" {
				survivor = c.Followers()[0]
			}
			var dead []*harness.Agent
			for _, s := range c.Servers {
				if s != survivor {
					s.Kill()
					dead = append(dead, s)
				}
			}
			impatient, err := client.New(client.Config{Addrs: []string{survivor.API()}, RetryFor: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer impatient.Close()
			// A leader may still believe that it leads: whether what it takes in now
			// will be committed is not known then.
			var early error
			var calls sync.WaitGroup
			calls.Go(func() { early = begin(t.Context(), impatient, "early-"+name) })
			harness.Eventually(t, survivor.Name+" knows that it leads no more", func(context.Context) error {
				return notLeading(c, survivor)
			})
			// From here on it is certain that nothing happens.
			var write, read error
			var res harness.CLIResult
			calls.Go(func() { write = begin(t.Context(), impatient, "late-"+name) })
			calls.Go(func() {
				_, read = impatient.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{InstanceId: load.IDs()[0]})
			})
			calls.Go(func() {
				res = harness.RunCLI(t, harness.Binary(t), "--addr", survivor.API(), "--retry-for", "1s", "stop", load.IDs()[0])
			})
			stale, err := impatient.Instances.QueryInstance(t.Context(), &api.QueryInstanceRequest{
				InstanceId: load.IDs()[0], ReadMode: api.ReadMode_READ_MODE_STALE,
			})
			if err != nil || stale.GetInstance().GetInstanceId() != load.IDs()[0] {
				t.Errorf("a stale read in the minority: %v, %v", stale, err)
			}
			calls.Wait()
			for what, err := range map[string]error{"write": write, "read": read} {
				if wasmatrix.CodeOf(err) != wasmatrix.CodeNoLeader || wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown {
					t.Errorf("a %s in the minority: %v", what, err)
				}
			}
			wantFailure(t, res, 1, wasmatrix.CodeNoLeader)
			if err := notLeading(c, survivor); err != nil {
				t.Error(err)
			}

			for _, s := range dead {
				s.Start()
			}
			c.WaitReady()
			all, err := harness.List(t.Context(), cl)
			if err != nil {
				t.Fatal(err)
			}
			unknown := early != nil && wasmatrix.AsError(early).Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown
			if early == nil || all["early-"+name] != nil && !unknown || all["late-"+name] != nil {
				t.Errorf("what was answered with %v and %v: %v, %v", early, write, all["early-"+name], all["late-"+name])
			}
			// The same requests take effect once, now that there is a majority.
			for _, id := range []string{"early-" + name, "late-" + name} {
				if err := begin(t.Context(), cl, id); err != nil {
					t.Error(err)
				}
			}
			c.AssertRunningOnce(cl, append(load.IDs(), "early-"+name, "late-"+name))
		})
	}
	c.AssertSameState()
}

// notLeading returns nil if a server says that it does not lead.
func notLeading(c *harness.Cluster, s *harness.Agent) error {
	var st struct {
		State string `json:"state"`
	}
	if c.CLIJSON(&st, s, "cluster", "status"); st.State != "follower" && st.State != "candidate" {
		return fmt.Errorf("its state is %q", st.State)
	}
	return nil
}
