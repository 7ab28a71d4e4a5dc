package node

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// TestP8_PolicyEnforcedOnCrash draws a policy and a history of executions, and
// compares what the node does, and when, with the policy's own words.
func TestP8_PolicyEnforcedOnCrash(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { checkPolicy(t, rt) })
}

// past is one execution: how long it runs, and how it ends.
type past struct {
	Uptime time.Duration
	Exit   engine.Exit
	Starts bool // it comes as far as running
}

func checkPolicy(t *testing.T, rt *rapid.T) {
	millis := func(most int) *rapid.Generator[time.Duration] {
		return rapid.Map(rapid.IntRange(0, most), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
	}
	initial := millis(500).Draw(rt, "initial")
	policy := wasmatrix.RestartPolicy{
		Mode:       rapid.SampledFrom([]wasmatrix.RestartMode{wasmatrix.RestartNever, wasmatrix.RestartOnFailure, wasmatrix.RestartAlways}).Draw(rt, "mode"),
		MaxRetries: rapid.Uint32Range(0, 4).Draw(rt, "retries"),
		Backoff: wasmatrix.Backoff{
			Initial: initial, Multiplier: float64(rapid.IntRange(1, 3).Draw(rt, "multiplier")),
			Max: initial + millis(2000).Draw(rt, "max"), Reset: millis(1000).Draw(rt, "reset"),
		},
	}
	history := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) past {
		code := int32(0)
		failed := int32(7)
		p := past{Uptime: millis(1500).Draw(rt, "uptime"), Starts: true}
		p.Exit = rapid.SampledFrom([]engine.Exit{
			exitOK, {Kind: engine.OK, Code: &code}, exitTrap, {Kind: engine.Failed, Code: &failed, Message: "exit code 7"},
			{Kind: engine.Memory, Message: "memory"}, {Kind: engine.Deadline}, {Kind: engine.Start, Message: "no import"}, {Kind: engine.Host},
		}).Draw(rt, "exit")
		if p.Exit.Kind == engine.Start {
			p.Starts, p.Uptime = false, 0
		}
		return p
	}), 1, 10).Draw(rt, "history")

	// What the policy says of that history.
	type event struct {
		Status  wasmatrix.Status
		Attempt uint32
		At      time.Duration
		Failed  bool
	}
	var want []event
	var clock time.Duration
	row := uint32(0)
	for i := 0; ; i++ {
		attempt := uint32(i + 1)
		if i == len(history) { // stays from now on
			want = append(want, event{wasmatrix.StatusRunning, attempt, clock, false})
			break
		}
		p := history[i]
		if p.Starts {
			want = append(want, event{wasmatrix.StatusRunning, attempt, clock, false})
		}
		clock += p.Uptime
		failed := p.Exit.Kind != engine.OK
		if reset := policy.Backoff.Reset; reset > 0 && p.Uptime >= reset {
			row = 0
		}
		if !policy.Allows(failed, row) {
			final := wasmatrix.StatusStopped
			if failed {
				final = wasmatrix.StatusCrashed
			}
			want = append(want, event{final, attempt, clock, failed})
			break
		}
		row++
		want = append(want, event{wasmatrix.StatusBackoff, attempt, clock, failed})
		clock += policy.Backoff.Delay(row, 0.5) // the jitter is none
	}

	within(t, rt, func(t *testing.T) error {
		c := newControl()
		began := time.Now()
		runs := 0
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			runs++
			if runs > len(history) {
				return stay(ctx, cfg)
			}
			p := history[runs-1]
			if p.Starts {
				cfg.OnRunning()
			}
			time.Sleep(p.Uptime)
			return p.Exit
		}}})
		execute(t, n, startOrder("i", 1, spec(func(s *wasmatrix.Spec) { s.Restart = policy })))
		time.Sleep(clock + time.Hour)
		synctest.Wait()

		var got []event
		for i, r := range c.reports("i") {
			if r.Seq != uint64(i+1) || r.Epoch != 1 || r.Instance != "i" {
				return fmt.Errorf("report %d has seq %d, epoch %d", i, r.Seq, r.Epoch)
			}
			got = append(got, event{r.Status, r.Attempt, r.At.Std().Sub(began), r.Crash != nil})
			if err := checkReport(r, history, policy); err != nil {
				return err
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("policy %+v, history %+v\ngot  %+v\nwant %+v", policy, history, got, want)
		}
		last := want[len(want)-1]
		if h, ok := held(n)["i"]; ok == last.Status.Final() || ok && h.Status != last.Status {
			return fmt.Errorf("the node holds %+v, %v after %+v", h, ok, last)
		}
		return nil
	})
}

func checkReport(r wasmatrix.Report, history []past, policy wasmatrix.RestartPolicy) error {
	if r.Status == wasmatrix.StatusRunning {
		if r.Error != "" || r.Crash != nil {
			return fmt.Errorf("running with %+v", r)
		}
		return nil
	}
	exit := history[r.Attempt-1].Exit
	if r.ExitCode != exit.Code {
		return fmt.Errorf("exit code %v of %+v", r.ExitCode, exit)
	}
	if exit.Kind == engine.OK {
		if r.Error != "" || r.Crash != nil || r.Status == wasmatrix.StatusCrashed {
			return fmt.Errorf("no failure, but %+v", r)
		}
		return nil
	}
	kind, code := crashKind(exit.Kind)
	if r.Status == wasmatrix.StatusCrashed && policy.Mode != wasmatrix.RestartNever {
		code = wasmatrix.CodeRestartPolicyViolation
	}
	uptime := history[r.Attempt-1].Uptime
	if r.Error != code || r.Crash.Kind != kind || r.Crash.Attempt != r.Attempt || r.Crash.Epoch != 1 || r.Crash.Node != "n1" ||
		r.Crash.Uptime != int64(uptime) || r.Crash.Message != exit.Message || r.Crash.At != r.At || r.Reason == "" {
		return fmt.Errorf("report %+v with crash %+v of %+v", r, r.Crash, exit)
	}
	return nil
}

func TestJitterSpreadsDelays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		var at []time.Time
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(context.Context, engine.RunConfig) engine.Exit {
			at = append(at, time.Now())
			return exitTrap
		}}})
		execute(t, n, startOrder("i", 1, spec(restart(wasmatrix.RestartOnFailure, 50,
			wasmatrix.Backoff{Initial: time.Second, Multiplier: 1, Max: time.Second, Jitter: 0.5}))))
		time.Sleep(time.Hour)
		synctest.Wait()
		distinct := map[time.Duration]bool{}
		for i := 1; i < len(at); i++ {
			d := at[i].Sub(at[i-1])
			if d < 500*time.Millisecond || d > 1500*time.Millisecond {
				t.Errorf("delay of %s", d)
			}
			distinct[d] = true
		}
		if len(at) != 51 || len(distinct) < 25 {
			t.Errorf("%d executions with %d different delays", len(at), len(distinct))
		}
	})
}

func TestStop(t *testing.T) {
	crash := func(context.Context, engine.RunConfig) engine.Exit { return exitTrap }
	always := spec(restart(wasmatrix.RestartAlways, 0, wasmatrix.Backoff{Initial: time.Hour, Multiplier: 1, Max: time.Hour}))
	for _, tt := range []struct {
		name   string
		run    func(context.Context, engine.RunConfig) engine.Exit
		orders []wasmatrix.Order
		want   string
	}{
		{"running", stay, []wasmatrix.Order{stopOrder("i", 1)}, "running/1 stopped/1"},
		{"twice", stay, []wasmatrix.Order{stopOrder("i", 1), stopOrder("i", 1)}, "running/1 stopped/1"},
		{"in backoff", crash, []wasmatrix.Order{stopOrder("i", 1)}, "backoff/1 stopped/1"},
		{"not yet running", func(ctx context.Context, _ engine.RunConfig) engine.Exit {
			<-ctx.Done()
			return engine.Exit{Kind: engine.Cancelled}
		}, []wasmatrix.Order{stopOrder("i", 1)}, "stopped/1"},
		{"an older epoch", stay, []wasmatrix.Order{stopOrder("i", 0), forgetOrder("i", 0)}, "running/1"},
		{"forget", stay, []wasmatrix.Order{forgetOrder("i", 1)}, "running/1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newControl()
				n := fakeNode(t, Config{Control: c, guests: &guests{run: tt.run}})
				execute(t, n, startOrder("i", 2, always))
				synctest.Wait()
				for _, o := range tt.orders {
					o.Epoch++
					execute(t, n, o)
				}
				synctest.Wait()
				if got := summary(c.reports("i")); got != tt.want {
					t.Errorf("reports %q, want %q", got, tt.want)
				}
				// What was stopped does not begin again.
				if strings.Contains(tt.want, "stopped") || tt.name == "forget" {
					execute(t, n, startOrder("i", 2, always))
					time.Sleep(2 * time.Hour)
					if got := summary(c.reports("i")); got != tt.want || len(held(n)) != 0 {
						t.Errorf("after a late start: reports %q, held %v", got, held(n))
					}
				}
			})
		})
	}
}

func TestStopOfWhatTheNodeDoesNotHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: stay}})
		execute(t, n, stopOrder("a", 3), forgetOrder("b", 3))
		synctest.Wait()
		if a := c.instance("a"); a.Status != wasmatrix.StatusStopped || a.Epoch != 3 {
			t.Errorf("the control plane believes %+v", a)
		}
		// Starts that come late are known to be over; newer ones are not.
		execute(t, n, startOrder("a", 3, spec()), startOrder("b", 2, spec()), startOrder("b", 3, spec()))
		synctest.Wait()
		if h := held(n); len(h) != 0 || len(c.reports("b")) != 0 {
			t.Errorf("held %v, reports of b %v", h, c.reports("b"))
		}
		c.place("a", 4)
		c.place("b", 4)
		execute(t, n, startOrder("a", 4, spec()), startOrder("b", 4, spec()))
		synctest.Wait()
		for _, id := range []wasmatrix.InstanceID{"a", "b"} {
			if i := c.instance(id); i.Status != wasmatrix.StatusRunning {
				t.Errorf("%s is %s", id, i.Status)
			}
		}
	})
}

func TestNewerEpochWaitsForTheEndOfTheOlder(t *testing.T) {
	for _, again := range []string{"start", "stop"} {
		t.Run(again, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newControl()
				g := &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
					exit := stay(ctx, cfg)
					time.Sleep(time.Minute) // takes its time to end
					return exit
				}}
				n := fakeNode(t, Config{Control: c, guests: g})
				execute(t, n, startOrder("i", 1, spec()))
				synctest.Wait()
				c.place("i", 2)
				want := wasmatrix.StatusRunning
				if again == "start" {
					execute(t, n, startOrder("i", 2, spec()), startOrder("i", 1, spec()), stopOrder("i", 1))
				} else {
					want = wasmatrix.StatusStopped
					execute(t, n, stopOrder("i", 2))
				}
				time.Sleep(30 * time.Second)
				if i := c.instance("i"); i.Status != wasmatrix.StatusStarting {
					t.Errorf("%s while the older epoch has not ended", i.Status)
				}
				time.Sleep(time.Minute)
				if i := c.instance("i"); i.Status != want || i.Epoch != 2 {
					t.Errorf("%s in epoch %d, want %s", i.Status, i.Epoch, want)
				}
				if g.maximum != 1 {
					t.Errorf("%d epochs ran at once", g.maximum)
				}
				for _, r := range c.reports("i") {
					if r.Epoch == 1 && r.Seq > 1 {
						t.Errorf("the older epoch still reported: %+v", r)
					}
				}
			})
		})
	}
}

func TestAForgottenInstanceIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			time.Sleep(time.Minute) // is not to be hurried
			cfg.OnRunning()
			return exitTrap
		}}})
		execute(t, n, startOrder("i", 1, spec()))
		synctest.Wait()
		execute(t, n, forgetOrder("i", 1))
		time.Sleep(time.Hour)
		if got := c.arrived(); len(got) != 0 {
			t.Errorf("reports %s", summary(got))
		}
	})
}

func TestRepeatedOrdersRestateWhatTheLeaderHasMissed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		var runs atomic.Int32
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			runs.Add(1)
			cfg.OnRunning()
			if cfg.Args[1] == "stays" {
				<-ctx.Done()
			}
			return exitOK
		}}})
		args := func(a string) *wasmatrix.Spec { return spec(func(s *wasmatrix.Spec) { s.Args = []string{a} }) }
		orders := []wasmatrix.Order{startOrder("ended", 1, args("ends")), startOrder("running", 1, args("stays"))}
		execute(t, n, orders...)
		synctest.Wait()
		// It answered, but has forgotten.
		c.place("ended", 1)
		c.place("running", 1)
		execute(t, n, orders...)
		synctest.Wait()
		if a, b := c.instance("ended").Status, c.instance("running").Status; a != wasmatrix.StatusStopped || b != wasmatrix.StatusRunning {
			t.Errorf("the control plane believes %s and %s", a, b)
		}
		c.place("ended", 1)
		execute(t, n, stopOrder("ended", 1))
		synctest.Wait()
		if s := c.instance("ended").Status; s != wasmatrix.StatusStopped {
			t.Errorf("after a stop the control plane believes %s", s)
		}
		if n := runs.Load(); n != 2 {
			t.Errorf("%d executions", n)
		}
	})
}

func TestFencing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := idleNode(t, Config{Control: c, guests: &guests{run: stay}})
		order := []wasmatrix.Order{startOrder("i", 1, spec())}
		conflict := func(err error) {
			t.Helper()
			if wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
				t.Errorf("error %v", err)
			}
		}
		conflict(n.Execute(t.Context(), 5, "boot-0", 0, order))
		if err := n.Execute(t.Context(), 5, "boot-1", 0, nil); err != nil {
			t.Error(err)
		}
		conflict(n.Execute(t.Context(), 4, "boot-1", 0, order))
		conflict(n.Attached(t.Context(), 4))
		if len(held(n)) != 0 {
			t.Error("a refused order was carried out")
		}
		// A lease of a newer leader fences the older one as well.
		c.set(func() { c.term = 7 })
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = n.Run(ctx) }()
		synctest.Wait()
		conflict(n.Execute(t.Context(), 6, "boot-1", 0, order))
		if err := n.Execute(t.Context(), 7, "boot-1", 0, order); err != nil {
			t.Error(err)
		}
		cancel()
	})
}

func TestBadOrdersAreRefusedWhole(t *testing.T) {
	t.Parallel()
	n := idleNode(t, Config{Control: newControl(), guests: &guests{run: stay}})
	good := startOrder("good", 1, spec())
	for name, bad := range map[string]wasmatrix.Order{
		"kind": {Kind: 9, Instance: "i", Epoch: 1}, "no spec": startOrder("i", 1, nil), "no epoch": stopOrder("i", 0),
		"no ID": stopOrder("", 1), "bad ID": stopOrder("a b", 1),
	} {
		err := n.Execute(t.Context(), 1, "boot-1", 0, []wasmatrix.Order{good, bad})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest || len(held(n)) != 0 {
			t.Errorf("%s: %v, held %v", name, err, held(n))
		}
	}
}

func TestPanicsStayWithTheirInstance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			if cfg.Args[0] == "bad" {
				panic("a bug of the host")
			}
			return stay(ctx, cfg)
		}}})
		named := func(name string) *wasmatrix.Spec { return spec(func(s *wasmatrix.Spec) { s.ModuleName = name }) }
		execute(t, n, startOrder("good", 1, named("good")), startOrder("bad", 1, named("bad")))
		synctest.Wait()
		bad := c.reports("bad")
		if summary(bad) != "crashed/1" || bad[0].Crash.Kind != wasmatrix.CrashHost || !strings.Contains(bad[0].Reason, "a bug of the host") {
			t.Errorf("reports %+v", bad)
		}
		if s := c.instance("good").Status; s != wasmatrix.StatusRunning {
			t.Errorf("the other is %s", s)
		}
	})
}

func TestRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		memory := func(m uint64) *wasmatrix.Spec {
			return spec(func(s *wasmatrix.Spec) { s.Limits.Memory = m })
		}
		n := fakeNode(t, Config{
			Control: c, Capacity: wasmatrix.Capacity{Memory: 100 << 20, Instances: 2}, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
				exit := stay(ctx, cfg)
				time.Sleep(10 * time.Second)
				return exit
			}},
		})
		execute(t, n, startOrder("a", 1, memory(50<<20)), startOrder("b", 1, memory(50<<20)), startOrder("huge", 1, memory(101<<20)))
		synctest.Wait()
		execute(t, n, startOrder("c", 1, memory(10<<20)))
		synctest.Wait()
		if s := c.reports("huge"); summary(s) != "crashed/1" || s[0].Error != wasmatrix.CodeResourceExhausted || s[0].Crash.Kind != wasmatrix.CrashStart {
			t.Errorf("huge: %+v", s)
		}
		if r := c.reports("c"); len(r) != 0 {
			t.Errorf("c began without room: %v", summary(r))
		}
		execute(t, n, forgetOrder("a", 1))
		time.Sleep(11 * time.Second)
		if got := summary(c.reports("c")); got != "running/1" {
			t.Errorf("c with room: %q", got)
		}
		execute(t, n, startOrder("d", 1, memory(10<<20)), startOrder("e", 1, memory(10<<20)))
		time.Sleep(time.Second)
		execute(t, n, stopOrder("e", 1)) // gives up waiting
		synctest.Wait()
		if got := summary(c.reports("e")); got != "stopped/1" {
			t.Errorf("e: %q", got)
		}
		time.Sleep(roomWait)
		if r := c.reports("d"); summary(r) != "crashed/1" || r[0].Error != wasmatrix.CodeResourceExhausted {
			t.Errorf("d: %+v", r)
		}
	})
}

func TestStartsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		var starting, most atomic.Int32
		n := fakeNode(t, Config{Control: c, Starts: 3, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			if now := starting.Add(1); now == 3 {
				most.Store(3)
			} else if now > 3 {
				t.Errorf("%d start at once", now)
			}
			time.Sleep(time.Millisecond)
			starting.Add(-1)
			return stay(ctx, cfg)
		}}})
		var orders []wasmatrix.Order
		for i := range 30 {
			orders = append(orders, startOrder(wasmatrix.InstanceID(fmt.Sprintf("i%02d", i)), 1, spec()))
		}
		began := time.Now()
		execute(t, n, orders...)
		time.Sleep(time.Second)
		if active := n.cfg.guests.(*guests).running(); most.Load() != 3 || active != 30 {
			t.Errorf("%d started at once, %d run", most.Load(), active)
		}
		if last := c.arrived()[29].At.Std().Sub(began); last != 10*time.Millisecond {
			t.Errorf("the last was running after %s", last)
		}
	})
}

func TestModulesAreAskedForAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error
		heals bool
		want  string
		code  wasmatrix.Code
	}{
		{"heals", wasmatrix.Errorf(wasmatrix.CodeCommunication, "away"), true, "running/1", ""},
		{"never heals", wasmatrix.Errorf(wasmatrix.CodeCommunication, "away"), false, "crashed/1", wasmatrix.CodeCommunication},
		{"gone", wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "gone"), true, "crashed/1", wasmatrix.CodeModuleNotFound},
		{"bad", wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "bad"), true, "crashed/1", wasmatrix.CodeWasmRuntime},
		{"without a code", errBroken, true, "crashed/1", wasmatrix.CodeInternal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newControl()
				began := time.Now()
				n := fakeNode(t, Config{Control: c, guests: &guests{run: stay, err: func() error {
					if tt.heals && time.Since(began) > 10*time.Second {
						return nil
					}
					return tt.err
				}}})
				execute(t, n, startOrder("i", 1, spec()))
				time.Sleep(time.Minute)
				r := c.reports("i")
				if summary(r) != tt.want || r[0].Error != tt.code {
					t.Errorf("reports %+v, want %s %s", r, tt.want, tt.code)
				}
			})
		})
	}
}

// TestAnIDIsUsedAgain: once the cluster has forgotten an instance its ID may
// stand for another, whose epochs begin anew.
func TestAnIDIsUsedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		var runs atomic.Int32
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			_, _ = fmt.Fprintln(cfg.Stdout, "run", runs.Add(1))
			return exitOK
		}}})
		execute(t, n, startOrder("ended", 1, spec()), startOrder("moved", 7, spec()))
		synctest.Wait()
		for _, id := range []wasmatrix.InstanceID{"ended", "moved"} {
			c.place(id, 1)
			execute(t, n, startOrder(id, 1, spec()))
		}
		synctest.Wait()
		if got := runs.Load(); got != 2 {
			t.Errorf("orders that may be late ran the guests: %d executions", got)
		}
		time.Sleep(lateOrder)
		for _, id := range []wasmatrix.InstanceID{"ended", "moved"} {
			c.place(id, 1)
			execute(t, n, startOrder(id, 1, spec()))
			synctest.Wait()
			if i := c.instance(id); i.Status != wasmatrix.StatusStopped || i.Attempt != 1 {
				t.Errorf("%s is %s in attempt %d", id, i.Status, i.Attempt)
			}
		}
		if got := runs.Load(); got != 4 {
			t.Errorf("%d executions, and should be 4", got)
		}
		var out strings.Builder
		var mu sync.Mutex
		if err := n.Logs(t.Context(), "ended", LogOptions{}, collect(&out, &mu)); err != nil || strings.Contains(out.String(), "run 1") {
			t.Errorf("output of the other instance: %q, %v", out.String(), err)
		}
	})
}

// TestAGuestThatSpinsAsItStartsKeepsNobodyFromIt for long.
func TestAGuestThatSpinsAsItStartsKeepsNobodyFromIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, Starts: 1, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			if cfg.Args[1] == "spin" {
				<-ctx.Done()
				return engine.Exit{Kind: engine.Cancelled}
			}
			return stay(ctx, cfg)
		}}})
		args := func(a string) *wasmatrix.Spec { return spec(func(s *wasmatrix.Spec) { s.Args = []string{a} }) }
		execute(t, n, startOrder("spins", 1, args("spin")))
		synctest.Wait()
		execute(t, n, startOrder("waits", 1, args("stay")))
		time.Sleep(startPatience)
		synctest.Wait()
		if s := c.instance("waits").Status; s != wasmatrix.StatusRunning {
			t.Errorf("the other is %s", s)
		}
	})
}

// TestAttemptsEnd where their numbers do, and reports are heard beyond.
func TestAttemptsEnd(t *testing.T) {
	n := &Node{}
	in := &instance{attempt: math.MaxUint32 - 1}
	for range 3 {
		n.nextAttempt(in)
	}
	if in.attempt != math.MaxUint32 {
		t.Errorf("attempt %d", in.attempt)
	}
}

// TestAStopRunsNothing, however soon the supervisor of what it stops begins.
func TestAStopRunsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: stay}})
		const count = 20_000
		orders := make([]wasmatrix.Order, count)
		for i := range orders {
			orders[i] = stopOrder(wasmatrix.InstanceID(fmt.Sprintf("i%05d", i)), 1)
		}
		execute(t, n, orders...)
		synctest.Wait()
		for _, r := range c.arrived() {
			if r.Status != wasmatrix.StatusStopped {
				t.Fatalf("%s is %s: %s", r.Instance, r.Status, r.Reason)
			}
		}
		if got := len(c.arrived()); got < count {
			t.Errorf("%d reports", got)
		}
	})
}
