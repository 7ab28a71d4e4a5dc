package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module/replica"
)

func TestI1_PushIsAcknowledgedOnceAMajorityHasIt(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		a, b, late := c.servers[0], c.servers[1], c.servers[2]
		gate, lateGate := make(chan struct{}), make(chan struct{})
		open, openLate := sync.OnceFunc(func() { close(gate) }), sync.OnceFunc(func() { close(lateGate) })
		defer openLate()
		defer open()
		b.setFault(func(context.Context) error { <-gate; return nil })
		late.setFault(func(context.Context) error { <-lateGate; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		acknowledged := make(chan error, 1)
		go func() {
			m, existed, err := a.push(ctx, 1)
			_, d := guest(1)
			if err == nil && (existed || m.Digest != d || m.Kind != wasmatrix.ModuleReactor || m.CreateIndex == 0) {
				t.Errorf("got %+v, existed %v", m, existed)
			}
			acknowledged <- err
		}()
		synctest.Wait()
		if len(acknowledged) > 0 || c.proposals() > 0 {
			t.Fatal("acknowledged, or proposed, while one server of three has it")
		}
		open()
		if err := <-acknowledged; err != nil {
			t.Fatal(err)
		}
		_, d := guest(1)
		if got := c.holders(t, d); got != "ab" {
			t.Errorf("acknowledged when %q have it", got)
		}
		// The rest goes on although the one who pushed has left.
		cancel()
		synctest.Wait()
		openLate()
		synctest.Wait()
		if got := c.holders(t, d); got != "abc" {
			t.Errorf("later %q have it", got)
		}
		if late.stores != 1 || late.fetched() != 0 {
			t.Errorf("c was sent it %d times and fetched it %d times", late.stores, late.fetched())
		}
	})
}

func TestPushOfWhatIsRefusedLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		_, d := guest(1)
		c.refused = d
		if m, _, err := c.servers[0].push(t.Context(), 1); wasmatrix.CodeOf(err) != wasmatrix.CodeWasmRuntime || m != nil {
			t.Errorf("got %v, %v", m, err)
		}
		if got, n := c.holders(t, d), c.proposals(); got != "" || n != 0 {
			t.Errorf("%q have it, %d commands proposed", got, n)
		}
		mustPush(t, c.servers[0], 2)
	})
}

func TestPushWithAServerDownIsMadeGoodLater(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		c.servers[2].setFault(down)
		d := mustPush(t, c.servers[0], 1)
		c.pass(t, time.Minute)
		if got := c.holders(t, d); got != "ab" {
			t.Errorf("%q have it", got)
		}
		c.servers[2].setFault(nil)
		c.pass(t, time.Minute)
		if got := c.holders(t, d); got != "abc" {
			t.Errorf("%q have it", got)
		}
	})
}

func TestI12_PushWithoutAMajorityProposesNothing(t *testing.T) {
	diskFull := func(context.Context) error { return wasmatrix.Errorf(wasmatrix.CodeStorage, "disk full") }
	for what, c := range map[string]struct {
		b, c func(context.Context) error
		want wasmatrix.Code
	}{
		"both down":         {down, down, wasmatrix.CodeCommunication},
		"one hangs":         {down, hang, wasmatrix.CodeCommunication},
		"both hang":         {hang, hang, wasmatrix.CodeCommunication},
		"both disks full":   {diskFull, diskFull, wasmatrix.CodeStorage},
		"one full, one off": {diskFull, down, wasmatrix.CodeCommunication},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T, cl *testCluster) {
				cl.servers[1].setFault(c.b)
				cl.servers[2].setFault(c.c)
				m, _, err := cl.servers[0].push(t.Context(), 1)
				if wasmatrix.CodeOf(err) != c.want || m != nil {
					t.Errorf("got %v, %v, want %s", m, err, c.want)
				}
				if wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeNone {
					t.Errorf("details %v", wasmatrix.AsError(err).Details)
				}
				if n := cl.proposals(); n != 0 {
					t.Errorf("%d commands proposed", n)
				}
				// What is left is garbage.
				_, d := guest(1)
				cl.pass(t, 11*time.Minute)
				if got := cl.holders(t, d); got != "" {
					t.Errorf("%q still have it", got)
				}
			})
		})
	}
}

func TestPushOfWhatIsKnownReadsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		d := mustPush(t, c.servers[0], 1)
		synctest.Wait()
		body := iotest.ErrReader(errors.New("must not be read"))
		req := wasmatrix.Request{ID: "r1"}
		m, existed, err := c.servers[0].Push(t.Context(), replica.Header{Digest: d, Name: "web", Request: req}, body)
		if err != nil || !existed || m.Digest != d {
			t.Fatalf("got %v, %v, %v", m, existed, err)
		}
		last, ok := c.proposed[len(c.proposed)-1].(wasmatrix.AddModule)
		if !ok || last.Name != "web" || last.Request != req || last.Module.Kind != wasmatrix.ModuleReactor || last.At == 0 {
			t.Errorf("proposed %+v", last)
		}
		if n := c.servers[1].stores; n != 1 {
			t.Errorf("copied %d times", n)
		}
		// A leader that has not caught up with the bytes takes them.
		behind := c.servers[2]
		if err := behind.store.Remove(d); err != nil {
			t.Fatal(err)
		}
		if _, existed, err := behind.push(t.Context(), 1); err != nil || !existed || !behind.store.Has(d) {
			t.Errorf("existed %v, %v", existed, err)
		}
	})
}

func TestPushWithoutADigest(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		b, d := guest(1)
		m, existed, err := c.servers[0].Push(t.Context(), replica.Header{}, bytes.NewReader(b))
		if err != nil || existed || m.Digest != d {
			t.Fatalf("got %v, %v, %v", m, existed, err)
		}
		_, existed, err = c.servers[0].Push(t.Context(), replica.Header{}, bytes.NewReader(b))
		if err != nil || !existed {
			t.Errorf("the second time: existed %v, %v", existed, err)
		}
	})
}

func TestP18_PushRefusesBadModules(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		good, d := guest(1)
		_, other := guest(2)
		for what, h := range map[string]struct {
			replica.Header
			body []byte
			want wasmatrix.Code
		}{
			"empty":        {replica.Header{}, nil, wasmatrix.CodeInvalidRequest},
			"text":         {replica.Header{}, []byte("hello"), wasmatrix.CodeInvalidRequest},
			"component":    {replica.Header{}, []byte("\x00asm\x0d\x00\x01\x00"), wasmatrix.CodeValidation},
			"other digest": {replica.Header{Digest: other}, good, wasmatrix.CodeInvalidRequest},
			"other size":   {replica.Header{Digest: d, Size: 17}, good, wasmatrix.CodeInvalidRequest},
			"no size":      {replica.Header{Digest: d, Size: -1}, good, wasmatrix.CodeInvalidRequest},
			"name":         {replica.Header{Name: "a/b"}, good, wasmatrix.CodeInvalidRequest},
			"says large":   {replica.Header{Size: maxModule + 1}, good, wasmatrix.CodeResourceExhausted},
			"is large":     {replica.Header{}, wasmOf(maxModule + 1), wasmatrix.CodeResourceExhausted},
		} {
			_, _, err := c.servers[0].Push(t.Context(), h.Header, bytes.NewReader(h.body))
			if wasmatrix.CodeOf(err) != h.want {
				t.Errorf("%s: %v, want %s", what, err, h.want)
			}
		}
		if n := c.proposals(); n != 0 {
			t.Errorf("%d commands proposed", n)
		}
		if n := c.servers[0].unfinished(t); n != 0 || len(c.servers[0].store.List()) != 0 {
			t.Errorf("%d files left, %v", n, c.servers[0].store.List())
		}
	})
}

// wasmOf is a module of at least size bytes.
func wasmOf(size int) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	for len(b) < size {
		b = append(b, 0, 0x81, 0x80, 0x01) // a custom section of 16 KiB and 1
		b = append(b, make([]byte, 16<<10+1)...)
	}
	return b
}

func TestCancelledPushLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		b, d := guest(1)
		a := c.servers[0]
		// While the bytes come in.
		ctx, cancel := context.WithCancel(t.Context())
		body := io.MultiReader(bytes.NewReader(b[:100]), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }))
		if _, _, err := a.Push(ctx, replica.Header{Digest: d}, body); !errors.Is(err, context.Canceled) {
			t.Errorf("while the bytes come in: %v", err)
		}
		if a.unfinished(t) != 0 || a.store.Has(d) {
			t.Error("half a module is left")
		}
		// While the copies go out.
		ctx, cancel = context.WithCancel(t.Context())
		c.servers[1].setFault(func(ctx context.Context) error { cancel(); return hang(ctx) })
		c.servers[2].setFault(hang)
		if _, _, err := a.push(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("while the copies go out: %v", err)
		}
		synctest.Wait()
		c.pass(t, 11*time.Minute)
		if got := c.holders(t, d); got != "" || c.proposals() != 2 { // two ticks of pass
			t.Errorf("%q have it, %d commands proposed", got, c.proposals())
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDamageIsHealedFromAPeer(t *testing.T) {
	for what, find := range map[string]func(*testing.T, *server, wasmatrix.Digest){
		"by scrubbing": func(*testing.T, *server, wasmatrix.Digest) { time.Sleep(2 * time.Minute) },
		"by a reader": func(t *testing.T, s *server, d wasmatrix.Digest) {
			r, _, err := s.Open(t.Context(), d, true)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.Copy(io.Discard, r); wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
				t.Errorf("a damaged module was read: %v", err)
			}
			synctest.Wait() // and not the next scrub
		},
		"after its file disappeared": func(t *testing.T, s *server, d wasmatrix.Digest) {
			if err := os.Remove(s.file(d)); err != nil {
				t.Fatal(err)
			}
			r, _, err := s.Open(t.Context(), d, false)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *testCluster) {
				d := mustPush(t, c.servers[0], 1)
				c.pass(t, time.Second)
				b, err := os.ReadFile(c.servers[1].file(d))
				if err != nil {
					t.Fatal(err)
				}
				b[100] ^= 1
				if err := os.WriteFile(c.servers[1].file(d), b, 0o600); err != nil {
					t.Fatal(err)
				}
				find(t, c.servers[1], d)
				synctest.Wait()
				if got := c.holders(t, d); got != "abc" {
					t.Errorf("%q have it", got)
				}
			})
		})
	}
}

func TestGarbageIsDeletedAfterAGracePeriod(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		keep, drop := mustPush(t, c.servers[0], 1), mustPush(t, c.servers[0], 2)
		c.pass(t, time.Hour)
		if err := c.servers[0].Remove(t.Context(), wasmatrix.Request{}, drop); err != nil {
			t.Fatal(err)
		}
		c.pass(t, 9*time.Minute)
		if got := c.holders(t, drop); got != "abc" {
			t.Errorf("before the grace period is over only %q have it", got)
		}
		c.pass(t, 2*time.Minute)
		if got := c.holders(t, drop); got != "" {
			t.Errorf("%q still have it", got)
		}
		if got := c.holders(t, keep); got != "abc" {
			t.Errorf("only %q have what is to be kept", got)
		}
	})
}

// Pushing what the state names and no disk has any more brings it back.
func TestPushRestoresWhatAllDisksLost(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		d := mustPush(t, c.servers[0], 1)
		c.pass(t, time.Second)
		for _, s := range c.servers {
			if err := s.store.Remove(d); err != nil {
				t.Fatal(err)
			}
		}
		if _, existed, err := c.servers[0].push(t.Context(), 1); err != nil || !existed {
			t.Fatalf("existed %v, %v", existed, err)
		}
		if got := c.holders(t, d); len(got) < 2 {
			t.Errorf("acknowledged when %q have it", got)
		}
	})
}

// A server that acknowledged a copy and lags behind the log must not delete it,
// however long that takes: it may be one of the majority.
func TestI1_AServerThatLagsDeletesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		c.servers[1].setLag(true)
		c.servers[2].setFault(down)
		d := mustPush(t, c.servers[0], 1)
		c.pass(t, 3*time.Hour)
		if got := c.holders(t, d); got != "ab" {
			t.Errorf("%q have it", got)
		}
		c.servers[1].setLag(false)
		c.pass(t, time.Hour)
		if got := c.holders(t, d); got != "ab" {
			t.Errorf("%q have it", got)
		}
	})
}

// A server that gossip has not told of counts as one that is down.
func TestServersWithoutAnAddress(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		c.servers[1].hidden, c.servers[2].hidden = true, true
		if _, _, err := c.servers[0].push(t.Context(), 1); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("push: %v", err)
		}
		_, d := guest(2)
		if _, _, err := c.servers[0].Open(t.Context(), d, false); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("open: %v", err)
		}
		c.servers[1].hidden = false
		mustPush(t, c.servers[0], 1)
	})
}

// A leader whose clock is ahead does not shorten the grace period.
func TestGracePeriodIsCountedHereToo(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		b, d := guest(1)
		if err := c.servers[0].Store(t.Context(), d, int64(len(b)), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		c.pass(t, time.Second)
		ahead := wasmatrix.TimeOf(time.Now().Add(24 * time.Hour))
		if _, err := c.Propose(t.Context(), wasmatrix.CollectGarbage{At: ahead}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := c.holders(t, d); got != "a" {
			t.Errorf("%q have it a minute later", got)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := c.holders(t, d); got != "" {
			t.Errorf("%q have it after the grace period", got)
		}
	})
}

// What is being handed over is not fetched as well.
func TestRunLetsAPeerFinish(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		late := c.servers[2]
		late.setFault(down)
		b, d := guest(1)
		half := b[len(b)/2:]
		mustPush(t, c.servers[0], 1)
		time.Sleep(time.Minute)
		tried := late.fetched()
		slow := readerFunc(func(p []byte) (int, error) {
			time.Sleep(time.Minute)
			n := copy(p, half)
			half = half[n:]
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		})
		if err := late.Store(t.Context(), d, int64(len(b)), io.MultiReader(bytes.NewReader(b[:len(b)/2]), slow)); err != nil {
			t.Fatal(err)
		}
		if n := late.fetched() - tried; n != 0 {
			t.Errorf("fetched %d times meanwhile", n)
		}
	})
}

// A push that takes longer than the grace period finds its bytes still there.
func TestPushUnderWayIsNoGarbage(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		b, d := guest(1)
		a := c.servers[0]
		if err := a.Store(t.Context(), d, int64(len(b)), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		slow := readerFunc(func(p []byte) (int, error) {
			if len(b) == 0 {
				return 0, io.EOF
			}
			c.pass(t, time.Minute)
			n := copy(p[:min(len(p), 200)], b)
			b = b[n:]
			if !a.store.Has(d) {
				t.Error("deleted while it is pushed")
				return 0, io.ErrUnexpectedEOF
			}
			return n, nil
		})
		if _, _, err := a.Push(t.Context(), replica.Header{Digest: d}, slow); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenFetchesFromWhoeverHasIt(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		a, b, late := c.servers[0], c.servers[1], c.servers[2]
		late.setFault(down)
		d := mustPush(t, a, 1)
		if _, _, err := late.Open(t.Context(), d, false); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("cut off: %v", err)
		}
		late.setFault(nil)
		late.setLag(true) // its state does not matter
		if _, _, err := late.Open(t.Context(), d, true); wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
			t.Errorf("local: %v", err)
		}
		a.corrupt = true // whom it asks first is a matter of chance
		b.corrupt = true
		if _, _, err := late.Open(t.Context(), d, false); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("from liars: %v", err)
		}
		b.corrupt = false
		r, size, err := late.Open(t.Context(), d, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || wasmatrix.DigestOf(got) != d || size != int64(len(got)) {
			t.Errorf("%d bytes of %d, %v", len(got), size, err)
		}
		r.Close()
		if got := c.holders(t, d); got != "abc" {
			t.Errorf("%q have it", got)
		}
		_, unknown := guest(9)
		if _, _, err := late.Open(t.Context(), unknown, false); wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("known to nobody who answers, and the learner is down: %v", err)
		}
	})
}

func TestStoreBoundsWhatAPeerSends(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		_, d := guest(1)
		err := c.servers[0].Store(t.Context(), d, maxModule+1, strings.NewReader(""))
		if wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
			t.Errorf("more than the limit: %v", err)
		}
	})
}

func TestServersStartAnewFromTheirDisks(t *testing.T) {
	bubble(t, func(t *testing.T, c *testCluster) {
		d := mustPush(t, c.servers[0], 1)
		c.pass(t, time.Second)
		lost := c.servers[2]
		lost.stop()
		if err := os.RemoveAll(lost.dir); err != nil {
			t.Fatal(err)
		}
		lost.start(t)
		c.pass(t, time.Second)
		if got := c.holders(t, d); got != "abc" {
			t.Errorf("%q have it", got)
		}
	})
}

// step is something that happens to a server or a module.
type step struct {
	what           string
	server, module int
}

func drawStep(rt *rapid.T) step {
	return step{
		what:   rapid.SampledFrom([]string{"push", "push", "remove", "down", "up", "damage", "restart", "wait", "long wait"}).Draw(rt, "what"),
		server: rapid.IntRange(0, 2).Draw(rt, "server"),
		module: rapid.IntRange(0, 4).Draw(rt, "module"),
	}
}

// TestDisksConvergeToTheState does random things to three servers and then
// leaves them alone. The steps are drawn outside of the bubble, whose clock
// would tell rapid that its time is up.
func TestDisksConvergeToTheState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 12).Draw(rt, "steps")
		dir := t.TempDir()
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			c := startCluster(t, dir, 3)
			defer c.stop()
			wrong = c.disagreements(t, c.play(t, steps))
		})
		if len(wrong) > 0 {
			rt.Fatal(strings.Join(wrong, "; "))
		}
	})
}

// play returns the modules that the cluster owes to those who pushed them.
func (c *testCluster) play(t *testing.T, steps []step) map[wasmatrix.Digest]bool {
	t.Helper()
	owed := map[wasmatrix.Digest]bool{}
	for _, step := range steps {
		s := c.servers[step.server]
		_, d := guest(step.module)
		switch step.what {
		case "push":
			if _, _, err := s.push(t.Context(), step.module); err == nil {
				owed[d] = true
			}
		case "remove":
			if err := s.Remove(t.Context(), wasmatrix.Request{}, d); err != nil {
				t.Fatal(err)
			}
			delete(owed, d)
		case "down":
			s.setFault(down)
		case "up":
			s.setFault(nil)
		case "damage":
			// Of one copy of three, or the module may be beyond help.
			if c.holders(t, d) == "abc" {
				if err := os.WriteFile(s.file(d), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		case "restart":
			s.stop()
			synctest.Wait() // a process that is gone takes no copies
			s.start(t)
		case "wait":
			c.pass(t, time.Second)
		case "long wait":
			c.pass(t, 15*time.Minute)
		}
	}
	return owed
}

// disagreements mends the network, waits, and says where a disk does not have
// what is owed, or has more.
func (c *testCluster) disagreements(t *testing.T, owed map[wasmatrix.Digest]bool) []string {
	t.Helper()
	for _, s := range c.servers {
		s.setFault(nil)
	}
	c.pass(t, 30*time.Minute)
	var wrong []string
	for i := range 5 {
		_, d := guest(i)
		want := ""
		if owed[d] {
			want = "abc"
		}
		if got := c.holders(t, d); got != want {
			wrong = append(wrong, fmt.Sprintf("module %d: %q have it, want %q", i, got, want))
		}
	}
	for _, s := range c.servers {
		if n := s.unfinished(t); n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d files left half written at %s", n, s.name))
		}
	}
	return wrong
}
