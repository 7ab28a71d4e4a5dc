package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// do runs the CLI against an agent, which must succeed, and returns its stdout.
func do(t *testing.T, a *harness.Agent, args ...string) string {
	t.Helper()
	res := a.CLI(args...)
	if res.Code != 0 {
		t.Fatalf("wasmatrix %s: exit %d\n%s%s", strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

// doJSON is do with -o json, decoded into m.
func doJSON(t *testing.T, a *harness.Agent, m proto.Message, args ...string) {
	t.Helper()
	out := do(t, a, append(args, "-o", "json")...)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(out), m); err != nil {
		t.Fatalf("wasmatrix %s -o json: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// awaitReady waits until an agent of -dev says that it can run a module.
func awaitReady(t *testing.T, dev *harness.Agent) (address string) {
	t.Helper()
	ready := regexp.MustCompile("ready: run a module with `wasmatrix run FILE`: address=(http://[0-9.:]+)")
	harness.Eventually(t, "the agent is ready", func(context.Context) error {
		if !dev.Running() {
			t.Fatalf("the agent has ended:\n%s", dev.LogTail(20))
		}
		m := ready.FindStringSubmatch(dev.Log())
		if m == nil {
			return errors.New("it has not said so")
		}
		address = m[1]
		return nil
	})
	return address
}

// TestDev does what the readme says, with every command that shows an instance,
// as a table and as JSON.
func TestDev(t *testing.T) {
	hello := harness.Guest(t, "hello")
	dev := harness.Dev(t, true)
	dev.Start()
	if got := awaitReady(t, dev); got != dev.API() {
		t.Errorf("it is ready at %s, want %s", got, dev.API())
	}
	if out := do(t, dev, "run", hello, "--id", "hi", "--env", "MODE=fast", "--label", "app=hello", "--wait", "--", "world"); out != "hi\n" {
		t.Errorf("run printed %q", out)
	}
	// Following ends with the instance.
	const said = "hello from a guest\nargument 1: world\nenvironment: MODE=fast\n"
	if out := do(t, dev, "logs", "-f", "hi"); out != said {
		t.Errorf("the log is %q, want %q", out, said)
	}
	if out := do(t, dev, "logs", "hi"); out != said {
		t.Errorf("the log of what has ended is %q, want %q", out, said)
	}
	do(t, dev, "run", file(t, "traps.wasm", wasmTraps), "--id", "boom")
	harness.Eventually(t, "the instances have ended", func(context.Context) error {
		if out := do(t, dev, "ps"); strings.Contains(out, "hi") || strings.Contains(out, "boom") {
			return errors.New(out)
		}
		return nil
	})
	for _, test := range []struct {
		args, text []string
		json       proto.Message
		check      func(m proto.Message) error
	}{
		{
			[]string{"ps", "-a"},
			[]string{"INSTANCE", "hi ", "boom ", "stopped", "crashed", "exited with code 0", "trap: unreachable"},
			&api.ListInstancesResponse{}, func(m proto.Message) error {
				if list := m.(*api.ListInstancesResponse).GetInstances(); len(list) != 2 || list[0].GetInstanceId() != "boom" || list[1].GetStatus() != api.InstanceStatus_INSTANCE_STATUS_STOPPED {
					return fmt.Errorf("instances %v", list)
				}
				return nil
			},
		},
		{
			[]string{"inspect", "hi"},
			[]string{"Instance: ", "Status:        stopped", "Exit code:     0", "Node:          dev", "Arguments:     world", "MODE=fast", "app=hello"},
			&api.QueryInstanceResponse{}, func(m proto.Message) error {
				in := m.(*api.QueryInstanceResponse).GetInstance()
				if in.GetSpec().GetEnv()["MODE"] != "fast" || in.GetSpec().GetArgs()[0] != "world" || in.GetNode() != "dev" {
					return fmt.Errorf("instance %v", in)
				}
				return nil
			},
		},
		{
			[]string{"crashes", "boom"},
			[]string{"boom has crashed once", "Kind:     trap", "unreachable", "_start"},
			&api.GetCrashInfoResponse{}, func(m proto.Message) error {
				if info := m.(*api.GetCrashInfoResponse); !info.GetCrashed() || len(info.GetCrashes()) != 1 || len(info.GetCrashes()[0].GetStack()) != 2 {
					return fmt.Errorf("crashes %v", info)
				}
				return nil
			},
		},
		{
			[]string{"crashes", "hi"},
			[]string{"hi has not crashed."},
			&api.GetCrashInfoResponse{}, func(m proto.Message) error {
				if info := m.(*api.GetCrashInfoResponse); info.GetCrashed() || len(info.GetCrashes()) != 0 {
					return fmt.Errorf("crashes %v", info)
				}
				return nil
			},
		},
		{
			[]string{"events", "hi"},
			[]string{"INDEX", "placed", "started", "exited", "hi "},
			&api.ListEventsResponse{}, func(m proto.Message) error {
				for _, e := range m.(*api.ListEventsResponse).GetEvents() {
					if e.GetInstanceId() != "hi" {
						return fmt.Errorf("event %v", e)
					}
				}
				return nil
			},
		},
		{
			[]string{"node", "ls"},
			[]string{"dev", "up"},
			&api.ListNodesResponse{}, func(m proto.Message) error {
				if nodes := m.(*api.ListNodesResponse).GetNodes(); len(nodes) != 1 || nodes[0].GetStatus() != "up" {
					return fmt.Errorf("nodes %v", nodes)
				}
				return nil
			},
		},
		{
			[]string{"module", "ls"},
			[]string{"command"},
			&api.ListModulesResponse{}, func(m proto.Message) error {
				if mods := m.(*api.ListModulesResponse).GetModules(); len(mods) != 2 || mods[0].GetKind() != "command" {
					return fmt.Errorf("modules %v", mods)
				}
				return nil
			},
		},
		{
			[]string{"cluster", "status"},
			[]string{"leader", "dev"},
			&api.GetStatusResponse{}, func(m proto.Message) error {
				if st := m.(*api.GetStatusResponse); st.GetState() != "leader" || st.GetVoters() != 1 || st.GetInstances() != 2 {
					return fmt.Errorf("status %v", st)
				}
				return nil
			},
		},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			out := do(t, dev, test.args...)
			for _, w := range test.text {
				if !strings.Contains(out, w) {
					t.Errorf("no %q in:\n%s", w, out)
				}
			}
			doJSON(t, dev, test.json, test.args...)
			if err := test.check(test.json); err != nil {
				t.Error(err)
			}
		})
	}
	if dirs := dev.DataDirs(); len(dirs) != 1 {
		t.Errorf("its data directories are %v", dirs)
	}
	dev.Terminate()
	if err := dev.Wait(0); err != nil {
		t.Errorf("asked to end, it ended with %v", err)
	}
	if dirs := dev.DataDirs(); len(dirs) != 0 {
		t.Errorf("it left %v behind", dirs)
	}
}

// TestDevWithTakenPorts takes the default ports: -dev uses others.
func TestDevWithTakenPorts(t *testing.T) {
	taken := map[string]bool{}
	for port := 7480; port <= 7484; port++ {
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		taken[addr] = true
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err != nil {
			continue // somebody else has taken it
		}
		defer l.Close()
	}
	dev := harness.Dev(t, false)
	dev.Start()
	address := awaitReady(t, dev)
	if taken[strings.TrimPrefix(address, "http://")] {
		t.Fatalf("it serves at %s, which is taken", address)
	}
	res := harness.RunCLI(t, harness.Binary(t), "--addr", address, "cluster", "members", "-o", "json")
	var list struct {
		Members []struct{ GossipAddress, APIAddress string }
	}
	if err := json.Unmarshal([]byte(res.Stdout), &list); err != nil || len(list.Members) != 2 {
		t.Fatalf("members: %v\n%s%s", err, res.Stdout, res.Stderr)
	}
	for _, m := range list.Members {
		if taken[m.GossipAddress] || taken[m.APIAddress] {
			t.Errorf("it uses a port that is taken: %+v", m)
		}
	}
	res = harness.RunCLI(t, harness.Binary(t), "--addr", address, "run", file(t, "ends.wasm", wasmEnds), "--wait")
	if res.Code != 0 {
		t.Errorf("run: exit %d\n%s", res.Code, res.Stderr)
	}
}

// TestDevKeepsAConfiguredDirectory starts -dev on a directory of the user's own
// twice: what was there is there again.
func TestDevKeepsAConfiguredDirectory(t *testing.T) {
	dev := harness.Dev(t, true)
	dir := t.TempDir()
	dev.Start("-data-dir", dir)
	awaitReady(t, dev)
	do(t, dev, "run", file(t, "ends.wasm", wasmEnds), "--id", "once")
	dev.Terminate()
	if err := os.Truncate(dev.LogPath(), 0); err != nil {
		t.Fatal(err)
	}
	dev.Start("-data-dir", dir)
	awaitReady(t, dev)
	do(t, dev, "inspect", "once")
}
