package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

func TestGuestsGoOnWhileNobodyIsReached(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			if cfg.Args[1] == "crash" {
				cfg.OnRunning()
				time.Sleep(time.Minute)
				return exitTrap
			}
			return stay(ctx, cfg)
		}}})
		args := func(a string, change ...func(*wasmatrix.Spec)) *wasmatrix.Spec {
			return spec(append(change, func(s *wasmatrix.Spec) { s.Args = []string{a} })...)
		}
		execute(t, n, startOrder("stays", 1, args("stay")),
			startOrder("crashes", 1, args("crash", restart(wasmatrix.RestartAlways, 0, wasmatrix.DefaultBackoff))),
			startOrder("ends", 1, args("crash")))
		time.Sleep(1500 * time.Millisecond)
		if !n.LeaseValid() {
			t.Error("no lease")
		}
		c.set(func() { c.away = true })
		time.Sleep(2*time.Second + 100*time.Millisecond)
		if !n.LeaseValid() {
			t.Error("the lease ran out early")
		}
		time.Sleep(time.Hour)
		if n.LeaseValid() {
			t.Error("the lease has not run out")
		}
		if g := n.cfg.guests.(*guests); g.running() != 2 {
			t.Errorf("%d guests run", g.running())
		}
		// Starts are still taken in, from whoever has a way to the node.
		execute(t, n, startOrder("new", 1, args("stay")))

		c.set(func() { c.away = false })
		time.Sleep(10 * time.Second)
		if !n.LeaseValid() {
			t.Error("no lease afterwards")
		}
		for id, want := range map[wasmatrix.InstanceID]wasmatrix.Status{
			"stays": wasmatrix.StatusRunning, "crashes": wasmatrix.StatusRunning, "ends": wasmatrix.StatusCrashed, "new": wasmatrix.StatusRunning,
		} {
			if i := c.instance(id); i.Status != want {
				t.Errorf("%s is %s, want %s", id, i.Status, want)
			}
		}
		if i := c.instance("crashes"); i.Restarts < 50 {
			t.Errorf("%d restarts in an hour", i.Restarts)
		}
	})
}

func TestLeaseIsRenewedInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		n := fakeNode(t, Config{Control: c, guests: &guests{run: stay}})
		time.Sleep(time.Minute + time.Millisecond)
		if registrations, renewals := c.sessions(); renewals != 60 || registrations != 1 {
			t.Errorf("%d renewals in a minute, %d registrations", renewals, registrations)
		}
		var r wasmatrix.Registration
		c.set(func() { r = c.registrations[0] })
		if r.ID != "n1" || r.Boot != "boot-1" || r.Addr != "127.0.0.1:1" || r.Capacity != n.cfg.Capacity {
			t.Errorf("registration %+v", r)
		}
		// It counts from when the request was sent, not from the answer.
		c.hook(func(string, []wasmatrix.Report) error {
			time.Sleep(900 * time.Millisecond)
			return nil
		})
		time.Sleep(3 * time.Second)
		for range 100 {
			n.lease.mu.Lock()
			left := time.Until(n.lease.until)
			n.lease.mu.Unlock()
			if left > 2100*time.Millisecond || left < 0 {
				t.Fatalf("the lease runs for another %s", left)
			}
			time.Sleep(30 * time.Millisecond)
		}
	})
}

func TestResyncRegistersAgainWithAllThatIsHeld(t *testing.T) {
	for _, how := range []string{"lease", "renewal", "report"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newControl()
				n := fakeNode(t, Config{Control: c, guests: &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
					if cfg.Args[1] == "end" {
						return exitOK
					}
					return stay(ctx, cfg)
				}}})
				args := func(a string) *wasmatrix.Spec { return spec(func(s *wasmatrix.Spec) { s.Args = []string{a} }) }
				execute(t, n, startOrder("runs", 4, args("stay")), startOrder("over", 1, args("end")))
				synctest.Wait()

				var known atomic.Bool
				c.hook(func(verb string, _ []wasmatrix.Report) error {
					switch {
					case verb == "register":
						known.Store(true)
					case !known.Load() && (verb == "report" || how == "renewal"):
						return wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "who?")
					}
					return nil
				})
				if how == "lease" {
					c.set(func() { c.resync = true })
				}
				execute(t, n, startOrder("unreported", 2, args("end")))
				if how == "report" {
					synctest.Wait() // long before the next renewal
				} else {
					time.Sleep(2 * time.Second)
				}
				time.Sleep(100 * time.Millisecond)
				if n, _ := c.sessions(); n != 2 {
					t.Fatalf("%d registrations", n)
				}
				got := map[wasmatrix.InstanceID]wasmatrix.Holding{}
				c.set(func() {
					for _, h := range c.registrations[1].Holding {
						got[h.Instance] = h
					}
				})
				want := map[wasmatrix.InstanceID]wasmatrix.Holding{
					"runs":       {Instance: "runs", Epoch: 4, Status: wasmatrix.StatusRunning},
					"unreported": {Instance: "unreported", Epoch: 2, Status: wasmatrix.StatusStopped},
				}
				if !maps.Equal(got, want) {
					t.Errorf("holding %v, want %v", got, want)
				}
				time.Sleep(5 * time.Second)
				if i := c.instance("unreported"); i.Status != wasmatrix.StatusStopped {
					t.Errorf("%s afterwards", i.Status)
				}
				if n, _ := c.sessions(); n != 2 {
					t.Errorf("%d registrations in the end", n)
				}
			})
		})
	}
}

func TestResyncForEverDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		var calls atomic.Int32
		c.onCall = func(string, []wasmatrix.Report) error {
			calls.Add(1)
			return nil
		}
		eager := &eagerControl{control: c}
		fakeNode(t, Config{Control: eager, guests: &guests{run: stay}})
		time.Sleep(time.Minute)
		if n := calls.Load(); n < 30 || n > 200 {
			t.Errorf("%d calls in a minute", n)
		}
	})
}

// eagerControl is never content with a registration.
type eagerControl struct{ *control }

func (c *eagerControl) Register(ctx context.Context, r wasmatrix.Registration) (wasmatrix.Lease, error) {
	l, err := c.control.Register(ctx, r)
	l.Resync = true
	return l, err
}

func TestShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		g := &guests{run: func(ctx context.Context, cfg engine.RunConfig) engine.Exit {
			exit := stay(ctx, cfg)
			time.Sleep(2 * time.Second)
			return exit
		}}
		n := fakeNode(t, Config{Control: c, guests: g})
		synctest.Wait()
		execute(t, n, startOrder("i", 1, spec(restart(wasmatrix.RestartAlways, 0, wasmatrix.Backoff{Multiplier: 1}))))
		if err := n.Attached(t.Context(), 1); err != nil {
			t.Error(err)
		}
		synctest.Wait()

		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.Shutdown(hasty); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown in haste: %v", err)
		}
		if err := n.Execute(t.Context(), 1, "boot-1", 0, nil); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("order during shutdown: %v", err)
		}
		for range 2 {
			if err := n.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if g.running() != 0 {
			t.Error("a guest runs")
		}
		time.Sleep(time.Minute)
		if got := summary(c.reports("i")); got != "running/1" {
			t.Errorf("reports %q", got)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := n.Run(t.Context()); err == nil {
			t.Error("ran after Close")
		}
	})
}

func TestShutdownWaitsForReportsButNotLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, away := range []bool{false, true} {
			c := newControl()
			n := fakeNode(t, Config{Control: c, guests: &guests{run: func(context.Context, engine.RunConfig) engine.Exit { return exitTrap }}})
			synctest.Wait()
			c.hook(func(string, []wasmatrix.Report) error {
				time.Sleep(500 * time.Millisecond)
				if away {
					return errAway
				}
				return nil
			})
			execute(t, n, startOrder("i", 1, spec()))
			synctest.Wait()
			began := time.Now()
			if err := n.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			want := 500 * time.Millisecond
			if away {
				want = flushWait
			}
			if took := time.Since(began); took != want {
				t.Errorf("away %v: took %s, want %s", away, took, want)
			}
			if got := summary(c.reports("i")); (got == "crashed/1") == away {
				t.Errorf("away %v: reports %q", away, got)
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	good := Config{ID: "n", Capacity: wasmatrix.Capacity{Memory: 1, Instances: 1}, guests: &guests{}}
	for name, change := range map[string]func(*Config){
		"no ID": func(c *Config) { c.ID = "" }, "no memory": func(c *Config) { c.Capacity.Memory = 0 },
		"no instances": func(c *Config) { c.Capacity.Instances = 0 }, "labels": func(c *Config) { c.Labels = map[string]string{"a b": ""} },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	var boots []wasmatrix.BootID
	for range 2 {
		n, err := New(good)
		if err != nil {
			t.Fatal(err)
		}
		id, boot := n.Ping()
		if id != "n" || boot == "" || slices.Contains(boots, boot) {
			t.Errorf("ping %s %s", id, boot)
		}
		boots = append(boots, boot)
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestALeaseOfAnOlderTermIsWorthNothing, since the leader of the newer one does
// not know of it.
func TestALeaseOfAnOlderTermIsWorthNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := idleNode(t, Config{Control: newControl(), guests: &guests{run: stay}})
		if err := n.Execute(t.Context(), 5, "boot-1", 0, nil); err != nil {
			t.Fatal(err)
		}
		n.granted(time.Now(), wasmatrix.Lease{TTL: int64(time.Second), Term: 4})
		if n.LeaseValid() {
			t.Error("a lease of term 4 holds in term 5")
		}
		n.granted(time.Now(), wasmatrix.Lease{TTL: int64(time.Second), Term: 6})
		if !n.LeaseValid() || n.term != 6 {
			t.Errorf("a lease of term 6 does not hold in term %d", n.term)
		}
	})
}
