package dispatch_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

// raiseEpoch begins an instance anew until it runs in an epoch.
func (w *world) raiseEpoch(id wasmatrix.InstanceID, epoch uint64) {
	w.t.Helper()
	for {
		i, _ := w.state().Instance(id)
		if i.Epoch >= epoch {
			return
		}
		if _, err := w.d().Restart(context.Background(), request(fmt.Sprintf("%s-%d", id, i.Epoch)), id); err != nil {
			w.t.Fatalf("%v", err)
		}
		w.await("it runs anew", w.running(id))
	}
}

// begun are the epochs of an instance that have run by the facts after one.
func (w *world) begun(id wasmatrix.InstanceID, after uint64) (epochs []uint64) {
	for f := range w.state().Facts(after + 1) {
		if f.Kind == wasmatrix.FactStarted && f.Instance == id {
			epochs = append(epochs, f.Epoch)
		}
	}
	return epochs
}

// assertOutrun waits until an instance runs, which it must above a fence and in
// no epoch that is not, and looks that this is the end of it.
func (w *world) assertOutrun(t *testing.T, kv *store, id wasmatrix.InstanceID, fence, lastFact uint64) {
	t.Helper()
	w.await("it runs above the fence", func() bool {
		i, _ := w.state().Instance(id)
		return i.Epoch > fence && w.running(id)()
	})
	i, _ := w.state().Instance(id)
	if i.Epoch != fence+1 || kv.count(id, i.Epoch) == 0 {
		t.Errorf("it runs in epoch %d, which was fenced %d times; the fence was at %d", i.Epoch, kv.count(id, i.Epoch), fence)
	}
	for _, e := range w.begun(id, lastFact) {
		if e <= fence {
			t.Errorf("it began in epoch %d, the fence was at %d", e, fence)
		}
	}
	restarts := w.count(wasmatrix.RestartInstance{})
	time.Sleep(time.Minute)
	if now, _ := w.state().Instance(id); now.Epoch != i.Epoch || w.count(wasmatrix.RestartInstance{}) != restarts || !w.running(id)() {
		t.Errorf("it went on from epoch %d to %d, with %d more restarts", i.Epoch, now.Epoch, w.count(wasmatrix.RestartInstance{})-restarts)
	}
	if len(w.lapsed) > 0 {
		t.Error(w.lapsed)
	}
}

// leaderChanges are times after a restore at which another server takes over;
// negative for never. Leases from before the restore are over after 3.5 s.
var leaderChanges = []time.Duration{-1, 0, 5 * time.Millisecond, time.Second, 3500 * time.Millisecond, 3502 * time.Millisecond, 3504 * time.Millisecond, 3507 * time.Millisecond, 11 * time.Second}

// TestEpochsBelowTheFenceAreOutrun: a snapshot is restored that knows of an
// earlier epoch than the fences of kv. The instance begins above them, whoever
// leads.
func TestEpochsBelowTheFenceAreOutrun(t *testing.T) {
	for _, begun := range []bool{true, false} {
		for _, change := range leaderChanges {
			t.Run(fmt.Sprintf("begun=%t/%s", begun, change), func(t *testing.T) {
				kv := &store{}
				inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
					nodes[0].set(func() { nodes[0].slowStart = !begun })
					x := w.mustStart(item("x", 1, w.spec(exclusive)))[0]
					w.await("its node has it", func() bool { return len(w.holders(x)) == 1 && (!begun || w.running(x)()) })
					before := w.save()
					nodes[0].set(func() { nodes[0].slowStart = false })
					w.raiseEpoch(x, 3)
					w.restore(before)
					_, last := w.state().FactRange()
					if i, _ := w.state().Instance(x); i.Epoch != 1 || begun != (i.Status == wasmatrix.StatusRunning) {
						t.Fatalf("the snapshot has it %s in epoch %d", i.Status, i.Epoch)
					}
					if change >= 0 {
						time.Sleep(change)
						w.elect(1)
					}
					w.assertOutrun(t, kv, x, 3, last)
				})
			})
		}
	}
}

// TestWhatRunsBelowTheFenceIsOutrun: the node that has the instance by the
// restored state never left that epoch, so that no order is due.
func TestWhatRunsBelowTheFenceIsOutrun(t *testing.T) {
	for _, change := range leaderChanges {
		t.Run(change.String(), func(t *testing.T) {
			kv := &store{}
			inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10, 10}, func(t *testing.T, w *world, nodes []*process) {
				x := w.mustStart(item("x", 1, w.spec(exclusive)))[0]
				w.await("it runs", w.running(x))
				before := w.save()
				_, last := w.state().FactRange()
				first := w.on(x, nodes)
				first.set(func() { first.cut = true })
				w.await("it has moved", func() bool { return w.status(x) == wasmatrix.StatusRunning && w.on(x, nodes) != first })
				second := w.on(x, nodes)
				if _, err := w.d().Restart(t.Context(), request("r"), x); err != nil {
					t.Fatal(err)
				}
				w.await("it runs in epoch 3", func() bool {
					i, _ := w.state().Instance(x)
					return i.Epoch == 3 && i.Status == wasmatrix.StatusRunning
				})
				second.kill()
				first.set(func() { first.cut = false })
				w.restore(before)
				if change >= 0 {
					time.Sleep(change)
					w.elect(1)
				}
				w.assertOutrun(t, kv, x, 3, last)
			})
		})
	}
}

// TestReviewLeavesAlone: what runs above its fence hears nothing of a new term's
// review, and no instance of the term is part of it.
func TestReviewLeavesAlone(t *testing.T) {
	kv := &store{}
	inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{100}, func(t *testing.T, w *world, nodes []*process) {
		old := w.mustStart(item("old", 2, w.spec(exclusive)))
		old = append(old, w.mustStart(item("free", 1, w.spec()))...)
		w.await("all run", w.running(old...))
		w.raiseEpoch(old[0], 4)
		w.elect(1)
		young := w.mustStart(item("young", 1, w.spec(exclusive)))[0]
		w.await("it runs", w.running(young))
		time.Sleep(3 * time.Second)
		heard := func() (calls, orders int) {
			kv.set(func() { calls = kv.calls })
			nodes[0].set(func() { orders = nodes[0].orders })
			return calls, orders
		}
		calls, orders := heard()
		time.Sleep(time.Minute)
		moreCalls, moreOrders := heard()
		if moreCalls != calls+1 || kv.count(old[0], 4) != 2 || kv.count(old[1], 1) != 1 || kv.count(old[2], 1)+kv.count(young, 1) != 0 {
			t.Errorf("after %d calls there were %d", calls, moreCalls)
		}
		if moreOrders != orders {
			t.Errorf("the node was told %d more things", moreOrders-orders)
		}
		if i, _ := w.state().Instance(old[0]); i.Epoch != 4 {
			t.Errorf("it is in epoch %d", i.Epoch)
		}
	})
}

// behindAFence starts exclusive instances and has kv, and not the state, know of
// a later epoch of each; the next order to start them has to find out.
func behindAFence(w *world, kv *store, epoch uint64, count int) []wasmatrix.InstanceID {
	w.t.Helper()
	ids := w.mustStart(item("x", count, w.spec(exclusive)))
	w.await("all run", w.running(ids...))
	kv.set(func() {
		kv.inForce = make(map[wasmatrix.InstanceID]wasmatrix.Fence)
		for _, id := range ids {
			i, _ := w.state().Instance(id)
			kv.inForce[id] = wasmatrix.Fence{Instance: id, Incarnation: i.CreateIndex, Epoch: epoch}
		}
	})
	return ids
}

// TestOutrunWithALostAnswer: the restart takes effect and its answer is lost. It
// is not done again.
func TestOutrunWithALostAnswer(t *testing.T) {
	kv := &store{}
	inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
		x := behindAFence(w, kv, 7, 1)[0]
		_, last := w.state().FactRange()
		lost := false
		kv.during(func(inForce []wasmatrix.Fence) []wasmatrix.Fence {
			if !lost {
				lost = true
				w.set(func() { w.loseNext = 1 })
			}
			return inForce
		})
		if _, err := w.d().Restart(t.Context(), request("r"), x); err != nil {
			t.Fatal(err)
		}
		w.assertOutrun(t, kv, x, 7, last)
		if n := w.count(wasmatrix.RestartInstance{}); n != 2 || !lost {
			t.Errorf("%d restarts", n)
		}
	})
}

// TestOutrunIsTriedAgain: the log takes no restarts for a while.
func TestOutrunIsTriedAgain(t *testing.T) {
	kv := &store{}
	inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
		x := behindAFence(w, kv, 7, 1)[0]
		_, last := w.state().FactRange()
		refused := 0
		w.set(func() {
			w.reject = func(c wasmatrix.Command) error {
				if r, ok := c.(wasmatrix.RestartInstance); ok && r.MinEpoch > 0 && refused < 5 {
					refused++
					return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "not now")
				}
				return nil
			}
		})
		if _, err := w.d().Restart(t.Context(), request("r"), x); err != nil {
			t.Fatal(err)
		}
		w.assertOutrun(t, kv, x, 7, last)
		if refused != 5 {
			t.Errorf("%d were refused", refused)
		}
	})
}

// TestOutrunLosesRaces: while kv answers, the instance is lost with its node, asked
// to stop, or begins anew by itself.
func TestOutrunLosesRaces(t *testing.T) {
	for name, meanwhile := range map[string]func(*testing.T, *world, *process, wasmatrix.InstanceID){
		"lost": func(_ *testing.T, w *world, p *process, x wasmatrix.InstanceID) {
			p.kill()
			w.await("it is lost", func() bool { return w.status(x) == wasmatrix.StatusLost })
		},
		"stopped": func(t *testing.T, w *world, _ *process, x wasmatrix.InstanceID) {
			if err := w.d().Stop(t.Context(), request("s"), x); err != nil {
				t.Error(err)
			}
		},
		"restarted": func(t *testing.T, w *world, _ *process, x wasmatrix.InstanceID) {
			if _, err := w.d().Restart(t.Context(), request("again"), x); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			kv := &store{}
			inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
				x := behindAFence(w, kv, 7, 1)[0]
				_, last := w.state().FactRange()
				met := false
				kv.during(func(inForce []wasmatrix.Fence) []wasmatrix.Fence {
					if !met {
						met = true
						meanwhile(t, w, nodes[0], x)
					}
					return inForce
				})
				if _, err := w.d().Restart(t.Context(), request("r"), x); err != nil {
					t.Fatal(err)
				}
				if name == "stopped" {
					w.await("it stops", func() bool { return w.status(x) == wasmatrix.StatusStopped })
					if n := w.count(wasmatrix.RestartInstance{}); n != 1 {
						t.Errorf("%d restarts of what is to stop", n)
					}
					return
				}
				if name == "lost" {
					w.await("it is lost", func() bool { return w.status(x) == wasmatrix.StatusLost })
					w.boot("n1", 10)
				}
				w.assertOutrun(t, kv, x, 7, last)
			})
		})
	}
}

// TestManyAreOutrunTogether: the restarts share the log's time.
func TestManyAreOutrunTogether(t *testing.T) {
	kv := &store{}
	inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{1000}, func(t *testing.T, w *world, _ []*process) {
		ids := behindAFence(w, kv, 9, 500)
		w.elect(1)
		elected := time.Now()
		w.await("all run above their fences", func() bool {
			for _, id := range ids {
				if i, _ := w.state().Instance(id); i.Epoch != 10 {
					return false
				}
			}
			return w.running(ids...)()
		})
		if took := time.Since(elected); took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
		if n := w.count(wasmatrix.RestartInstance{}); n != 500 {
			t.Errorf("%d restarts", n)
		}
	})
}

// TestFencesThatLeaveNoEpoch: the instance cannot begin, and that is all.
func TestFencesThatLeaveNoEpoch(t *testing.T) {
	for _, epoch := range []uint64{wasmatrix.MaxMinEpoch, math.MaxUint64} {
		t.Run(fmt.Sprint(epoch), func(t *testing.T) {
			kv := &store{}
			inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
				x := behindAFence(w, kv, epoch, 1)[0]
				if _, err := w.d().Restart(t.Context(), request("r"), x); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if i, _ := w.state().Instance(x); i.Epoch != 2 || i.Status != wasmatrix.StatusStarting {
					t.Errorf("it is %s in epoch %d", i.Status, i.Epoch)
				}
				if n := w.count(wasmatrix.RestartInstance{}); n > 3 {
					t.Errorf("%d restarts", n)
				}
				// Others go their way.
				next := w.mustStart(item("next", 1, w.spec(exclusive)))[0]
				w.raiseEpoch(next, 2)
			})
		})
	}
}

// TestAnswersOfKVAreHeldToTheQuestion: what does not answer it lets nothing begin.
func TestAnswersOfKVAreHeldToTheQuestion(t *testing.T) {
	for name, wrong := range map[string]func([]wasmatrix.Fence) []wasmatrix.Fence{
		"none": func([]wasmatrix.Fence) []wasmatrix.Fence { return nil },
		"more": func(f []wasmatrix.Fence) []wasmatrix.Fence { return append(f, f...) },
		"another instance's": func(f []wasmatrix.Fence) []wasmatrix.Fence {
			f[0].Instance = "y"
			return f
		},
		"another record's": func(f []wasmatrix.Fence) []wasmatrix.Fence {
			f[0].Incarnation++
			return f
		},
		"lower": func(f []wasmatrix.Fence) []wasmatrix.Fence {
			f[0].Epoch--
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			kv := &store{answering: wrong}
			inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
				x := w.mustStart(item("x", 1, w.spec(exclusive)))[0]
				w.await("it runs", w.running(x))
				if _, err := w.d().Restart(t.Context(), request("r"), x); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				if i, _ := w.state().Instance(x); i.Epoch != 2 || i.Status != wasmatrix.StatusStarting || w.holders(x)[0] != "n0@1" {
					t.Errorf("it is %s in epoch %d: %v", i.Status, i.Epoch, w.holders(x))
				}
				kv.during(nil)
				w.await("it runs", w.running(x))
			})
		})
	}
}

// TestALaterEpochIsNotForgotten: an instance begins anew while kv fails to fence
// the epoch before.
func TestALaterEpochIsNotForgotten(t *testing.T) {
	kv := &store{}
	inWorld(t, dispatch.Config{Fence: kv.fence}, []uint32{10}, func(t *testing.T, w *world, _ []*process) {
		x := w.mustStart(item("x", 1, w.spec(exclusive)))[0]
		w.await("it runs", w.running(x))
		failed := false
		kv.during(func(inForce []wasmatrix.Fence) []wasmatrix.Fence {
			if failed {
				return inForce
			}
			failed = true
			if _, err := w.d().Restart(context.Background(), request("again"), x); err != nil {
				t.Error(err)
			}
			time.Sleep(20 * time.Millisecond) // it is directed to its node
			return nil
		})
		if _, err := w.d().Restart(t.Context(), request("r"), x); err != nil {
			t.Fatal(err)
		}
		w.await("it runs in epoch 3", func() bool { i, _ := w.state().Instance(x); return i.Epoch == 3 && w.running(x)() })
		if !failed {
			t.Error("kv did not fail")
		}
	})
}
