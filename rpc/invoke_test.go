package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
)

// invoking starts instance "f" of a reactor on node n1, which answers by invoke.
func invoking(t *testing.T, servers int, invoke func(context.Context, wasmatrix.Invocation) (wasmatrix.InvocationResult, error)) (*rpctest.Cluster, *node) {
	t.Helper()
	c := newCluster(t, servers)
	n := &node{id: "n1", invoke: invoke}
	addr, _ := serveNode(t, n)
	addNode(t, c, "n1", addr)
	addModule(t, c, "m")
	start(t, c.Client(nil), "f")
	return c, n
}

// TestInvokeByEveryProtocol: numbers and bytes go to the node and come back
// unchanged, through a follower.
func TestInvokeByEveryProtocol(t *testing.T) {
	var got atomic.Pointer[wasmatrix.Invocation]
	c, _ := invoking(t, 2, func(_ context.Context, inv wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
		got.Store(&inv)
		if inv.Bytes {
			return wasmatrix.InvocationResult{Data: append([]byte("<"), inv.Data...), Status: -7, Fuel: 5, CPU: time.Millisecond}, nil
		}
		return wasmatrix.InvocationResult{Results: []wasmatrix.Number{
			{Type: "i32", Text: "-3"}, {Type: "i64", Text: "9007199254740993"}, {Type: "f32", Text: "0.1"}, {Type: "f64", Text: "NaN"},
			{Type: "f64", Text: "Inf"}, {Type: "f64", Text: "-Inf"}, {Type: "f64", Text: "1e+300"},
		}}, nil
	})
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			cl := c.Client(func(cfg *client.Config) { cfg.Options = opts }, 1)
			args, err := structpb.NewList([]any{1, -2.5, "18446744073709551615", "Infinity", "NaN", 1e300, "1.5e-3"})
			if err != nil {
				t.Fatal(err)
			}
			res, err := cl.Instances.InvokeInstance(t.Context(), &api.InvokeInstanceRequest{
				InstanceId: "f", Function: "add", Args: args.Values, Timeout: durationpb.New(7 * time.Second),
			})
			if err != nil {
				t.Fatal(err)
			}
			inv := got.Load()
			if want := "1 -2.5 18446744073709551615 Inf NaN 1e+300 1.5e-3"; strings.Join(inv.Args, " ") != want || inv.Function != "add" || inv.Bytes {
				t.Errorf("the node was asked for %+v, want arguments %s", inv, want)
			}
			if inv.Timeout <= 6*time.Second || inv.Timeout > 7*time.Second {
				t.Errorf("the node was given %s", inv.Timeout)
			}
			b, err := json.Marshal((&structpb.ListValue{Values: res.Results}).AsSlice())
			if want := `[-3,"9007199254740993",0.1,"NaN","Infinity","-Infinity",1e+300]`; err != nil || string(b) != want {
				t.Errorf("the results are %s, %v; want %s", b, err, want)
			}
			for _, data := range [][]byte{{}, []byte("\x00\xffhello"), bytes.Repeat([]byte("x"), wasmatrix.MaxInvokeData-1)} {
				res, err := cl.Instances.InvokeInstance(t.Context(), &api.InvokeInstanceRequest{InstanceId: "f", Function: "b", Data: data})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(res.Data, append([]byte("<"), data...)) || res.Status != -7 || res.Fuel != 5 || res.Cpu.AsDuration() != time.Millisecond {
					t.Errorf("%d bytes: %d came back, status %d, fuel %d, %v", len(data), len(res.Data), res.Status, res.Fuel, res.Cpu)
				}
				if inv := got.Load(); !inv.Bytes || inv.Timeout > wasmatrix.DefaultInvokeTimeout {
					t.Errorf("the node was asked for %+v", inv)
				}
			}
		})
	}
}

// TestInvokeByCurl: data that is given and empty is not data that is absent, and
// integers that JSON may have rounded do not pass for integers.
func TestInvokeByCurl(t *testing.T) {
	var got atomic.Pointer[wasmatrix.Invocation]
	c, _ := invoking(t, 1, func(_ context.Context, inv wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
		got.Store(&inv)
		return wasmatrix.InvocationResult{Results: []wasmatrix.Number{{Type: "i32", Text: "5"}}}, nil
	})
	for body, want := range map[string]wasmatrix.Invocation{
		`"args":[2,3]`:                      {Args: []string{"2", "3"}},
		`"args":[-0.5,"-0.5"]`:              {Args: []string{"-0.5", "-0.5"}},
		`"args":[9007199254740991]`:         {Args: []string{"9007199254740991"}},
		`"args":[9007199254740993]`:         {Args: []string{"9.007199254740992e+15"}},
		`"args":[123456789012345678901234]`: {Args: []string{"1.2345678901234569e+23"}},
		`"args":["9007199254740993"]`:       {Args: []string{"9007199254740993"}},
		`"args":["-Infinity","Inf"]`:        {Args: []string{"-Inf", "Inf"}},
		`"args":[1000000,0]`:                {Args: []string{"1000000", "0"}},
		`"data":""`:                         {Bytes: true},
		`"data":"aGk="`:                     {Bytes: true, Data: []byte("hi")},
		`"timeout":"1s"`:                    {},
	} {
		res, e := call(t, c.Servers[0].Addr, "InstanceService/InvokeInstance", `{"instanceId":"f","function":"f",`+body+`}`)
		if e != nil {
			t.Errorf("%s: %v", body, e)
			continue
		}
		inv := got.Load()
		if strings.Join(inv.Args, " ") != strings.Join(want.Args, " ") || inv.Bytes != want.Bytes || !bytes.Equal(inv.Data, want.Data) {
			t.Errorf("%s: the node was asked for %+v, want %+v", body, inv, want)
		}
		if results, _ := res["results"].([]any); len(results) != 1 || results[0] != 5.0 {
			t.Errorf("%s: answered %v", body, res)
		}
	}
}

// TestInvokePassesTheNodesErrorsOn, and executes nothing twice.
func TestInvokePassesTheNodesErrorsOn(t *testing.T) {
	var calls atomic.Int32
	var fail atomic.Pointer[wasmatrix.Error]
	c, _ := invoking(t, 2, func(context.Context, wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
		calls.Add(1)
		return wasmatrix.InvocationResult{}, fail.Load()
	})
	for _, want := range []*wasmatrix.Error{
		wasmatrix.Errorf(wasmatrix.CodeCrashDetected, "trapped").With("kind", "trap"),
		wasmatrix.Errorf(wasmatrix.CodeTimeout, "too slow").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown),
		wasmatrix.Errorf(wasmatrix.CodeValidation, "no such function").With(wasmatrix.DetailField, "function"),
		wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "queue full"),
		wasmatrix.Errorf(wasmatrix.CodeConflict, "is final"),
	} {
		fail.Store(want)
		calls.Store(0)
		_, err := c.Client(nil, 1).Instances.InvokeInstance(t.Context(), &api.InvokeInstanceRequest{InstanceId: "f", Function: "f"})
		got := wasmatrix.AsError(err)
		if got == nil || got.Code != want.Code || got.Message != want.Message || calls.Load() != 1 {
			t.Errorf("got %v after %d calls, want %v", err, calls.Load(), want)
			continue
		}
		for k, v := range want.Details {
			if got.Details[k] != v {
				t.Errorf("%s: detail %s is %q, want %q", want.Code, k, got.Details[k], v)
			}
		}
	}
}

// TestInvokeIsNotRepeatedWhereTheAnswerIsLost: the node may have executed it.
func TestInvokeIsNotRepeatedWhereTheAnswerIsLost(t *testing.T) {
	var calls atomic.Int32
	end := make(chan func(), 1)
	c := newCluster(t, 2)
	n := &node{id: "n1", invoke: func(ctx context.Context, _ wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
		calls.Add(1)
		go (<-end)() // the node's process ends under the call
		<-ctx.Done()
		return wasmatrix.InvocationResult{}, ctx.Err()
	}}
	addr, stop := serveNode(t, n)
	end <- stop
	addNode(t, c, "n1", addr)
	addModule(t, c, "m")
	start(t, c.Client(nil), "f")
	_, err := c.Client(nil, 1).Instances.InvokeInstance(t.Context(), &api.InvokeInstanceRequest{InstanceId: "f", Function: "f"})
	e := wasmatrix.AsError(err)
	if e == nil || e.Code != wasmatrix.CodeCommunication || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown || calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}

// TestInvokeWaitsForAPlacement: while an instance is on no node, and while its
// node was not told of it, and for as long as the call's time allows.
func TestInvokeWaitsForAPlacement(t *testing.T) {
	c := newCluster(t, 2)
	addModule(t, c, "m")
	cl := c.Client(nil, 1)
	if _, err := cl.Instances.StartInstance(t.Context(), &api.StartInstanceRequest{
		Module: &api.StartInstanceRequest_ModuleName{ModuleName: "m"}, InstanceId: "f", Queue: true,
		Restart: &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ON_FAILURE},
	}); err != nil {
		t.Fatal(err)
	}
	invoke := func(timeout time.Duration) error {
		_, err := cl.Instances.InvokeInstance(t.Context(), &api.InvokeInstanceRequest{InstanceId: "f", Function: "f", Timeout: durationpb.New(timeout)})
		return err
	}
	for _, phase := range []string{"pending", "n1"} { // on no node; then on one that nobody answers for
		e := wasmatrix.AsError(invoke(250 * time.Millisecond))
		if e == nil || e.Code != wasmatrix.CodeTimeout || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeNone || !strings.Contains(e.Message, phase) {
			t.Errorf("%s: %v, details %v", phase, e, e.Details)
		}
		if phase == "n1" {
			break
		}
		addNode(t, c, "n1", unusedAddr(t))
		place(t, c, "n1", 0)
	}

	// A node that does not know the instance at first, as before its orders come.
	asked := make(chan struct{}, 100)
	var known atomic.Bool
	n := &node{id: "n2", invoke: func(_ context.Context, inv wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
		if !known.Load() {
			asked <- struct{}{}
			return wasmatrix.InvocationResult{}, wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "no instance %s", inv.Instance)
		}
		return wasmatrix.InvocationResult{}, nil
	}}
	addr, _ := serveNode(t, n)
	addNode(t, c, "n2", addr)
	answer := make(chan error, 1)
	go func() { answer <- invoke(20 * time.Second) }()
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.MarkNodeDown{At: 9, Node: "n1", Boot: "boot", Reason: "gone"}); err != nil {
		t.Fatal(err)
	}
	place(t, c, "n2", 1)
	<-asked
	known.Store(true)
	if err := <-answer; err != nil {
		t.Errorf("placed anew: %v", err)
	}
	report2 := wasmatrix.ApplyReports{At: 10, Node: "n2", Boot: "boot", Reports: []wasmatrix.Report{{Instance: "f", Epoch: 2, Attempt: 1, Seq: 1, Status: wasmatrix.StatusStopped}}}
	if _, err := c.Servers[0].Propose(t.Context(), report2); err != nil {
		t.Fatal(err)
	}
	if e := wasmatrix.AsError(invoke(time.Second)); e == nil || e.Code != wasmatrix.CodeConflict || e.Details["status"] != "stopped" {
		t.Errorf("of what has ended: %v", e)
	}
}

// place puts instance f, which waits in an epoch, on a node for the next.
func place(t *testing.T, c *rpctest.Cluster, id wasmatrix.NodeID, epoch uint64) {
	t.Helper()
	answer, err := c.Servers[0].Propose(t.Context(), wasmatrix.PlaceInstances{At: 9, Items: []wasmatrix.PlaceItem{{Instance: "f", Epoch: epoch, Node: id}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range answer.([]*wasmatrix.Error) {
		if e != nil {
			t.Fatalf("placing on %s: %v", id, e)
		}
	}
}

// unusedAddr is an address at which nothing listens.
func unusedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestInvokeThroughALaggingFollower: one that does not know the instance asks
// the leader.
func TestInvokeThroughALaggingFollower(t *testing.T) {
	c, _ := invoking(t, 2, func(context.Context, wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
		return wasmatrix.InvocationResult{Status: 3}, nil
	})
	c.Servers[1].Hold()
	start(t, c.Client(nil, 0), "g")
	for _, size := range []int{1, 1 << 20} { // the second is too large for the follower to keep
		res, err := c.Client(nil, 1).Instances.InvokeInstance(t.Context(), &api.InvokeInstanceRequest{InstanceId: "g", Function: "f", Data: make([]byte, size)})
		if err != nil || res.Status != 3 {
			t.Errorf("%d bytes: %v, %v", size, res, err)
		}
	}
	c.Servers[1].Release()
}

// TestInvokeTimeoutIsItsOwn: its own timeout counts, not that of calls.
func TestInvokeTimeoutIsItsOwn(t *testing.T) {
	deadlines := make(chan time.Duration, 1)
	c, _ := invoking(t, 1, func(ctx context.Context, _ wasmatrix.Invocation) (wasmatrix.InvocationResult, error) {
		left := time.Duration(math.MaxInt64)
		if d, ok := ctx.Deadline(); ok {
			left = time.Until(d)
		}
		deadlines <- left
		return wasmatrix.InvocationResult{}, nil
	})
	if _, err := c.Client(nil).Instances.InvokeInstance(t.Context(), &api.InvokeInstanceRequest{InstanceId: "f", Function: "f", Timeout: durationpb.New(5 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if left := <-deadlines; left < 4*time.Minute {
		t.Errorf("the node was left %s", left)
	}
	if _, e := call(t, c.Servers[0].Addr, "InstanceService/InvokeInstance", `{"instanceId":"f","function":"f","timeout":"300s"}`); e != nil {
		t.Fatal(e)
	}
	if left := <-deadlines; left < 4*time.Minute {
		t.Errorf("called by curl, the node was left %s", left)
	}
}
