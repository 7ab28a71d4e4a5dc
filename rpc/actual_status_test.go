package rpc_test

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
)

// worker is the oracle of TestP14: one instance on its node, as it truly is. What
// the node has not said, nobody can know, so its status is that of the last
// thing it said, and changes by nothing that was only asked for.
type worker struct {
	t    *rapid.T
	c    *rpctest.Cluster
	cl   *client.Client
	id   wasmatrix.InstanceID
	boot int

	epoch   uint64
	attempt uint32
	seq     uint64
	status  wasmatrix.Status
	asked   bool // to stop
}

func (w *worker) propose(cmd wasmatrix.Command) any {
	w.t.Helper()
	answer, err := w.c.Servers[0].Propose(context.Background(), cmd)
	if err != nil {
		w.t.Fatalf("%T: %v", cmd, err)
	}
	return answer
}

// say has the node report a status.
func (w *worker) say(status wasmatrix.Status) {
	w.t.Helper()
	w.seq++
	r := wasmatrix.Report{Instance: w.id, Epoch: w.epoch, Attempt: w.attempt, Seq: w.seq, Status: status}
	if status == wasmatrix.StatusBackoff || status == wasmatrix.StatusCrashed {
		r.Error, r.Crash = wasmatrix.CodeCrashDetected, &wasmatrix.Crash{Kind: wasmatrix.CrashTrap, Message: "unreachable"}
	}
	answer := w.propose(wasmatrix.ApplyReports{At: 5, Node: "n1", Boot: w.bootID(), Reports: []wasmatrix.Report{r}})
	if !answer.([]bool)[0] {
		w.t.Fatalf("a report of %s in (%d, %d, %d) was not taken", status, w.epoch, w.attempt, w.seq)
	}
	w.status = status
}

func (w *worker) bootID() wasmatrix.BootID { return wasmatrix.BootID(fmt.Sprintf("boot-%d", w.boot)) }

func (w *worker) register() {
	w.propose(wasmatrix.RegisterNode{At: 4, Registration: wasmatrix.Registration{
		ID: "n1", Boot: w.bootID(), Addr: "127.0.0.1:1", Capacity: wasmatrix.Capacity{Memory: 1 << 40, Instances: 100_000},
	}})
}

// is checks what every server answers, the leader and a follower that asks it.
func (w *worker) is() {
	w.t.Helper()
	for _, ask := range []api.ReadMode{api.ReadMode_READ_MODE_LINEARIZABLE, api.ReadMode_READ_MODE_STALE} {
		res, err := w.cl.Instances.QueryInstance(context.Background(), &api.QueryInstanceRequest{InstanceId: string(w.id), ReadMode: ask})
		if err != nil {
			w.t.Fatalf("query: %v", err)
		}
		got, want := res.GetInstance(), int32(w.status)
		if int32(got.GetStatus()) != want || got.GetStopRequested() != w.asked && !w.status.Final() {
			w.t.Fatalf("query says %s (stop requested: %t), the truth is %s (%t)", got.GetStatus(), got.GetStopRequested(), w.status, w.asked)
		}
	}
}

// TestP14_QueryReportsTheActualStatus asks for starts, stops, restarts and
// placements, has the node report in between what comes of them or nothing,
// loses it and has it come back, and sees at every step that a query answers with
// what was reported or decided, and never with what was only wished.
func TestP14_QueryReportsTheActualStatus(t *testing.T) {
	c := newCluster(t, 2)
	digest := addModule(t, c, "m")
	cl := c.Client(nil, 1) // the follower
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		w := &worker{t: rt, c: c, cl: cl, id: wasmatrix.InstanceID(fmt.Sprintf("i%d", run)), boot: 1000 * run}
		w.register()
		mode := rapid.SampledFrom([]api.RestartMode{api.RestartMode_RESTART_MODE_NEVER, api.RestartMode_RESTART_MODE_ALWAYS}).Draw(rt, "policy")
		if _, err := cl.Instances.StartInstance(context.Background(), &api.StartInstanceRequest{
			InstanceId: string(w.id), Restart: &api.RestartPolicy{Mode: mode},
			Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest.String()},
		}); err != nil {
			rt.Fatal(err)
		}
		w.epoch, w.attempt, w.status = 1, 1, wasmatrix.StatusStarting
		w.is()
		survives := mode == api.RestartMode_RESTART_MODE_ALWAYS
		lost := func() {
			switch {
			case !w.status.OnNode():
			case w.asked:
				w.status = wasmatrix.StatusStopped
			case survives:
				w.status = wasmatrix.StatusLost
			default:
				w.status = wasmatrix.StatusCrashed
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"reports running": func(t *rapid.T) {
				if w.status != wasmatrix.StatusStarting && w.status != wasmatrix.StatusBackoff {
					t.Skip()
				}
				if w.status == wasmatrix.StatusBackoff {
					w.attempt++
				}
				w.say(wasmatrix.StatusRunning)
			},
			"reports a crash": func(t *rapid.T) {
				if w.status != wasmatrix.StatusRunning {
					t.Skip()
				}
				w.say(rapid.SampledFrom([]wasmatrix.Status{wasmatrix.StatusBackoff, wasmatrix.StatusCrashed}).Draw(t, "to"))
			},
			"is asked to stop": func(*rapid.T) {
				w.propose(wasmatrix.StopInstances{At: 5, Items: []wasmatrix.StopItem{{Instance: w.id}}})
				switch {
				case w.status.Unplaced():
					w.status = wasmatrix.StatusStopped // nobody has it: that is the truth
				case w.status.OnNode():
					w.asked = true
				}
			},
			"reports stopped": func(t *rapid.T) {
				if !w.asked || !w.status.OnNode() {
					t.Skip()
				}
				w.say(wasmatrix.StatusStopped)
			},
			"is restarted": func(t *rapid.T) {
				if !w.status.OnNode() || w.asked {
					t.Skip()
				}
				w.propose(wasmatrix.RestartInstance{At: 5, Instance: w.id})
				w.epoch, w.attempt, w.seq, w.status = w.epoch+1, 1, 0, wasmatrix.StatusStarting
			},
			"reports late of an old epoch": func(t *rapid.T) {
				if w.epoch < 2 {
					t.Skip()
				}
				w.propose(wasmatrix.ApplyReports{At: 5, Node: "n1", Boot: w.bootID(), Reports: []wasmatrix.Report{
					{Instance: w.id, Epoch: w.epoch - 1, Attempt: 9, Seq: 99, Status: wasmatrix.StatusRunning},
				}})
			},
			"loses its node": func(*rapid.T) {
				w.propose(wasmatrix.MarkNodeDown{At: 5, Node: "n1", Boot: w.bootID(), Reason: "lease"})
				lost()
				w.boot++
				w.register()
			},
			"has its node restarted": func(*rapid.T) {
				w.boot++
				w.register()
				lost()
			},
			"is placed anew": func(t *rapid.T) {
				if w.status != wasmatrix.StatusLost {
					t.Skip()
				}
				answer := w.propose(wasmatrix.PlaceInstances{At: 5, Items: []wasmatrix.PlaceItem{{Instance: w.id, Epoch: w.epoch, Node: "n1"}}})
				if e := answer.([]*wasmatrix.Error)[0]; e != nil {
					t.Fatal(e)
				}
				w.epoch, w.attempt, w.seq, w.status = w.epoch+1, 1, 0, wasmatrix.StatusStarting
			},
			"": func(*rapid.T) { w.is() },
		})
	})
}
