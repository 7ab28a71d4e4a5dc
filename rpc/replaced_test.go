package rpc_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// TestI10_NoEventComesTwice: a watch that goes on at a server that lags begins
// where it was asked to, not where that server happens to be.
func TestI10_NoEventComesTwice(t *testing.T) {
	c, cl := watchCluster(t, 2) // cl asks the follower
	c.Servers[1].Hold()
	start(t, cl, "a1")
	start(t, cl, "a2")
	_, last := c.Servers[0].Machine.Snapshot().FactRange()
	if _, lags := c.Servers[1].Machine.Snapshot().FactRange(); lags >= last {
		t.Fatal("the follower does not lag: the test is of no use")
	}
	w, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{From: last + 1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if m := receive(t, w); m.Next != last+1 || len(m.Events) != 0 {
		t.Fatalf("the watch begins with %v", m)
	}
	beside, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	receive(t, beside)
	c.Servers[1].Step()
	receive(t, beside) // the follower has moved, and lags still
	c.Servers[1].Release()
	start(t, cl, "a3")
	if m := receive(t, w); len(m.Events) == 0 || m.Events[0].Index != last+1 {
		t.Errorf("after fact %d came %v", last, m)
	}
}

// TestI10_FactsThatAreGoneAreSaid: after a restore there are fewer facts than
// somebody has seen.
func TestI10_FactsThatAreGoneAreSaid(t *testing.T) {
	c, cl := watchCluster(t, 2)
	_, last := c.Servers[0].Machine.Snapshot().FactRange()
	w, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{From: last + 100})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := rest(w); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
		t.Errorf("a watch from %d, where %d is the newest, ended with %v", last+100, last, err)
	}
}

// TestWatchesEndWhenTheStateIsReplaced: by one that has more facts, and so could
// be mistaken for what follows.
func TestWatchesEndWhenTheStateIsReplaced(t *testing.T) {
	c, cl := watchCluster(t, 1)
	start(t, cl, "a1")
	all, err := cl.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	one, err := cl.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{InstanceId: "a1"})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	events, err := cl.Events.WatchEvents(t.Context(), &api.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	receive(t, events)
	for _, w := range []stream[api.WatchInstancesResponse]{all, one} {
		if m := receive(t, w); m.GetInstance().GetInstanceId() != "a1" {
			t.Fatalf("the watch begins with %v", m)
		}
		if m := receive(t, w); !m.GetBookmark() {
			t.Fatalf("the watch goes on with %v", m)
		}
	}

	by := machineOf(fsm.Options{})
	for i := range 50 {
		by.Apply(uint64(i+1), wasmatrix.RegisterNode{At: 2, Registration: wasmatrix.Registration{
			ID: wasmatrix.NodeID(fmt.Sprint("n", i)), Boot: "boot", Addr: "127.0.0.1:1", Capacity: wasmatrix.Capacity{Memory: 1 << 40, Instances: 1},
		}})
	}
	c.Servers[0].Machine.(machine).restore(t, by)
	if m := receive(t, one); !m.GetRemoved() {
		t.Errorf("the watch of an instance that is gone got %v", m)
	}
	for what, err := range map[string]error{"instances": rest(all), "events": rest(events)} {
		if wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("the watch of %s ended with %v", what, err)
		}
	}
}

func TestWatchOfAllTellsWhatWasCollected(t *testing.T) {
	c, cl := watchCluster(t, 1)
	start(t, cl, "a1")
	start(t, cl, "a2")
	report(t, c, "n1", "a1", 1, wasmatrix.StatusStopped)
	w, err := cl.Instances.WatchInstances(t.Context(), &api.WatchInstancesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for !receive(t, w).GetBookmark() {
	}
	now := wasmatrix.TimeOf(time.Now())
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.CollectGarbage{At: now, FinalBefore: now, Limit: 10, MaxFinal: 100}); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, w); !m.GetRemoved() || m.GetInstance().GetInstanceId() != "a1" {
		t.Errorf("after the collection came %v", m)
	}
}
