package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability/kv/kvtest"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// kvLeader waits until a running server leads the embedded kv, and returns it.
func kvLeader(t *testing.T, c *harness.Cluster) *harness.Agent {
	t.Helper()
	var leader *harness.Agent
	harness.Eventually(t, "a leader of kv", func(ctx context.Context) error {
		for _, s := range c.Servers {
			if !s.Running() {
				continue
			}
			st, err := c.Client(s).Cluster.GetStatus(ctx, &api.GetStatusRequest{})
			if err != nil {
				return err
			}
			for _, g := range st.GetGroups() {
				if g.GetName() == "kv" && g.GetState() == "leader" {
					leader = s
					return nil
				}
			}
		}
		return errors.New("none leads")
	})
	return leader
}

// assertSameKV waits until all servers have applied the same of kv, and sees that
// it has the same hash.
func assertSameKV(t *testing.T, c *harness.Cluster) (hash string) {
	t.Helper()
	harness.Eventually(t, "the same kv on all servers", func(ctx context.Context) error {
		index := uint64(0)
		hash = ""
		for _, s := range c.Servers {
			st, err := c.Client(s).Cluster.GetStatus(ctx, &api.GetStatusRequest{})
			if err != nil {
				return err
			}
			i := slices.IndexFunc(st.GetGroups(), func(g *api.HostedGroup) bool { return g.GetName() == "kv" })
			if i < 0 {
				return fmt.Errorf("%s has no kv", s.Name)
			}
			g := st.GetGroups()[i]
			switch {
			case hash == "":
				index, hash = g.GetStateIndex(), g.GetStateHash()
			case g.GetStateIndex() != index:
				return fmt.Errorf("%s is at %d, another at %d", s.Name, g.GetStateIndex(), index)
			case g.GetStateHash() != hash:
				t.Fatalf("at index %d %s has hash %s, another %s", index, s.Name, g.GetStateHash(), hash)
			}
		}
		if hash == "" {
			return errors.New("no hash")
		}
		return nil
	})
	return hash
}

// TestKVIsLinearizable has guests on two nodes read, write and swap a few keys
// while leaders are killed, and looks for an order that explains what they saw.
func TestKVIsLinearizable(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	const clients, kills, keys = 6, 4, 3
	var probes []probe
	for n := range clients {
		probes = append(probes, startProbe(t, c, cl, fmt.Sprintf("p%d", n), withCaps(everythingGranted("history")...)))
	}
	history := kvtest.NewHistory()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for n, p := range probes {
		wg.Go(func() { work(ctx, t, history, n, p, keys) })
	}
	for range kills {
		all, _ := history.Len()
		harness.Eventually(t, "operations go on", func(context.Context) error {
			if now, _ := history.Len(); now < all+100 {
				return fmt.Errorf("%d so far", now)
			}
			return nil
		})
		victim := kvLeader(t, c)
		victim.Kill()
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // somewhere in the election, or after it
		victim.Start()
		c.WaitReady()
	}
	cancel()
	wg.Wait()
	all, unknown := history.Len()
	t.Logf("%d operations, of which %d have no answer", all, unknown)
	if err := history.Check(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
	assertSameKV(t, c)
}

// work is one client of a history, until ctx ends.
func work(ctx context.Context, t *testing.T, h *kvtest.History, client int, p probe, keys int) {
	revisions := make(map[string]uint64)
	for n := 0; ctx.Err() == nil; n++ {
		key := strconv.Itoa(rand.IntN(keys))
		op := kvtest.Op{Key: key, Value: fmt.Sprintf("%d/%d", client, n)}
		q := probeRequest{Cap: "kv", Key: key, Value: op.Value}
		switch rand.IntN(8) {
		case 0, 1, 2:
			op.Kind, q.Op = kvtest.OpGet, "kv.get"
		case 3:
			op.Kind, q.Op = kvtest.OpSet, "kv.set"
		case 4:
			op.Kind, q.Op = kvtest.OpDelete, "kv.delete"
		default:
			op.Kind, q.Op = kvtest.OpSwap, "kv.cas"
			op.Expect = revisions[key]
			q.Expect = op.Expect
		}
		pending := h.Begin(client, op)
		// A call that has begun is waited for: what it answers counts.
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		r, err := p.call(within, q)
		cancel()
		if err != nil {
			pending.Unknown()
			continue
		}
		switch code := abi.Error(-r.Code); {
		case r.Code >= 0, code == abi.ErrNotFound && op.Kind == kvtest.OpGet, code == abi.ErrConflict && op.Kind == kvtest.OpSwap:
			revisions[key] = r.Revision
			if op.Kind == kvtest.OpDelete {
				revisions[key] = 0
			}
			pending.End(kvtest.Result{
				Found: op.Kind == kvtest.OpGet && r.Code >= 0 || r.Existed, Value: r.Value, Revision: r.Revision, Conflict: code == abi.ErrConflict,
			})
		case code == abi.ErrUnavailable, code == abi.ErrTimeout:
			pending.Unknown()
		default:
			t.Errorf("%+v gives %d: %s", q, r.Code, r.Error)
			pending.Unknown()
			return
		}
	}
}

// TestKVSurvives kills all machines at once, and adds and removes servers: what
// was written is there.
func TestKVSurvives(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := c.Client()
	p := startProbe(t, c, cl, "p", always, withCaps(everythingGranted("kept")...))
	for n := range 100 {
		p.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: strconv.Itoa(n), Value: strconv.Itoa(n)}, 0)
	}
	before := assertSameKV(t, c)
	c.KillAll()
	for _, a := range c.Agents() {
		a.Start()
	}
	c.WaitReady()
	awaitAnswer(t, p)
	if after := assertSameKV(t, c); after != before {
		t.Errorf("the hash was %s and is %s", before, after)
	}
	for n := range 100 {
		if r := p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: strconv.Itoa(n)}, 0); r.Value != strconv.Itoa(n) {
			t.Fatalf("key %d is %q", n, r.Value)
		}
	}

	// A fourth server takes the place of one that is lost.
	s4 := c.AddServer()
	s4.Start()
	c.CLI(c.Servers[0], "cluster", "join", s4.Gossip())
	c.WaitReady()
	lost := kvLeader(t, c)
	lost.Kill()
	out := c.Servers[0]
	if lost == out {
		out = c.Servers[1]
	}
	harness.Eventually(t, "the lost server is removed", func(context.Context) error {
		if res := c.TryCLI(out, "cluster", "remove-peer", lost.Name); res.Code != 0 {
			return errors.New(res.Stderr)
		}
		return nil
	})
	c.Forget(lost)
	awaitAnswer(t, p)
	for n := range 100 {
		if r := p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: strconv.Itoa(n)}, 0); r.Value != strconv.Itoa(n) {
			t.Fatalf("key %d is %q", n, r.Value)
		}
	}
	assertSameKV(t, c)
}

// awaitAnswer waits until kv answers a guest.
func awaitAnswer(t *testing.T, p probe) {
	t.Helper()
	harness.Eventually(t, "kv answers", func(ctx context.Context) error {
		r, err := p.call(ctx, probeRequest{Op: "kv.get", Cap: "kv", Key: "0"})
		if err != nil {
			return err
		}
		return r.err()
	})
}

// TestKVSnapshot saves the data of kv, changes it, and sets it back.
func TestKVSnapshot(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl := c.Client()
	p := startProbe(t, c, cl, "p", withCaps(everythingGranted("saved")...))
	for n := range 10 {
		p.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: strconv.Itoa(n), Value: "before"}, 0)
	}
	s := c.Followers()[0]
	path := filepath.Join(t.TempDir(), "kv.snapshot")
	c.CLI(s, "cluster", "snapshot", "save", "--group", "kv", path)
	p.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: "3", Value: "after"}, 0)
	p.must(t, probeRequest{Op: "kv.delete", Cap: "kv", Key: "4"}, 0)
	c.CLI(s, "cluster", "snapshot", "restore", "--group", "kv", "--force", path)
	awaitAnswer(t, p)
	for n := range 10 {
		if r := p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: strconv.Itoa(n)}, 0); r.Value != "before" {
			t.Errorf("key %d is %q", n, r.Value)
		}
	}
	assertSameKV(t, c)
	c.AssertSameState()
	// A snapshot of one is not taken for one of the other.
	wantFailure(t, c.TryCLI(s, "cluster", "snapshot", "restore", "--force", path), 1, wasmatrix.CodeStorage, "not a wasmatrix snapshot")
}
