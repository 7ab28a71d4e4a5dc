package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// languages are those that examples exist in, with how an example is had.
var languages = map[string]func(t *testing.T, example string) string{
	"go": func(t *testing.T, example string) string { return harness.Wasm(t, "examples/"+example+"/go", true) },
	"c":  func(t *testing.T, example string) string { return committed(t, example, "c") },
	"as": func(t *testing.T, example string) string { return committed(t, example, "as") },
}

func committed(t *testing.T, example, language string) string {
	t.Helper()
	return filepath.Join(harness.Root(t), "examples", example, language, example+".wasm")
}

// TestGuestsOfEveryLanguage runs guests in Go, C and AssemblyScript that use kv,
// http and messaging, while their node is killed, and then the leader of everything.
func TestGuestsOfEveryLanguage(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	allowLoopback(t, cl)
	rec := newRecorder(t, nil)
	p := startProbe(t, c, cl, "p", always, withCaps(grant("msg", "messaging", "msg:publish:relay.in", "msg:subscribe:relay.out"), shared(grant("kv", "kv", "kv:read"), "pages")))
	for language, module := range languages {
		t.Run(language, func(t *testing.T) {
			id := "relay-" + language
			startGuest(t, c, cl, id, module(t, "relay"), always, withCaps(
				shared(grant("kv", "kv", "kv:write:relay/"), "pages"),
				grant("web", "http", "http:domain:127.0.0.1"), grant("msg", "messaging", "msg:subscribe:relay.in", "msg:publish:relay.out")))
			relayed := func(path string) {
				t.Helper()
				url := rec.URL + language + "/" + path
				harness.Eventually(t, "a page is relayed by the guest in "+language, func(ctx context.Context) error {
					return relayOnce(ctx, p, url)
				})
				if r := p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: "relay/" + url}, 0); r.Value != "200 5" {
					t.Errorf("kept %q", r.Value)
				}
			}
			relayed("first")

			node := agentNamed(t, c, c.AwaitStatus(cl, id, api.InstanceStatus_INSTANCE_STATUS_RUNNING).GetNode())
			node.Kill()
			relayed("after-the-node")
			node.Start()
			c.AwaitNode(node, "up")

			leader := c.Leader()
			leader.Kill()
			relayed("after-the-leader")
			leader.Start()
			c.WaitReady()
			if _, err := cl.Instances.StopInstance(t.Context(), &api.StopInstanceRequest{InstanceId: id}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// relayOnce publishes a URL, and returns nil if what a relay has made of it comes
// back. Messages may be lost while something is killed.
func relayOnce(ctx context.Context, p probe, url string) error {
	sub, err := p.call(ctx, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "relay.out"})
	if err != nil || sub.Code < 0 {
		return errors.Join(err, sub.err())
	}
	defer func() { _, _ = p.call(ctx, probeRequest{Op: "msg.unsubscribe", Handle: sub.Handle}) }()
	if r, err := p.call(ctx, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "relay.in", Value: url}); err != nil || r.Code < 0 {
		return errors.Join(err, r.err())
	}
	r, err := p.call(ctx, probeRequest{Op: "msg.receive", Handle: sub.Handle, Wait: 500, Buffer: 256})
	if err != nil || r.Code < 0 {
		return errors.Join(err, r.err())
	}
	if r.Value != url+" 200 5" {
		return fmt.Errorf("relayed: %q", r.Value)
	}
	return nil
}

// TestCounterUnderKills has writers on two nodes count in one key by compare-and-
// swap, each to its number, while nodes and leaders are killed: nothing is lost
// and nothing counted twice, though writers begin anew from their module alone.
func TestCounterUnderKills(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	const writers, each = 4, 400
	counter := harness.Guest(t, "counter")
	for n := range writers {
		startGuest(t, c, cl, fmt.Sprintf("w%d", n), counter, func(r *api.StartInstanceRequest) {
			r.Restart = &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ON_FAILURE, Backoff: &api.Backoff{Multiplier: 1}}
			r.Args = []string{"-writer", fmt.Sprintf("w%d", n), "-n", strconv.Itoa(each), "-pause", "5ms"}
			r.Capabilities = []*api.CapabilityGrant{shared(grant("kv", "kv", "kv:read", "kv:write"), "counters")}
			r.Exclusive = n%2 == 0
		})
	}
	reader := startProbe(t, c, cl, "reader", always, withCaps(shared(grant("kv", "kv", "kv:read"), "counters")))
	counted := func(ctx context.Context) (map[string]int, error) {
		r, err := reader.call(ctx, probeRequest{Op: "kv.get", Cap: "kv", Key: "counter", Buffer: 1024})
		if err != nil || r.Code < 0 && r.Code != -int32(abi.ErrNotFound) {
			return nil, errors.Join(err, r.err())
		}
		counts := make(map[string]int)
		for line := range strings.Lines(r.Value) {
			var name string
			var n int
			if _, err := fmt.Sscanf(line, "%s %d", &name, &n); err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			counts[name] = n
		}
		return counts, nil
	}
	sum := func() (all int) {
		harness.Eventually(t, "the counter is read", func(ctx context.Context) error {
			counts, err := counted(ctx)
			if err != nil {
				return err
			}
			all = 0
			for _, n := range counts {
				all += n
			}
			return nil
		})
		return all
	}
	for n, kill := range []func() *harness.Agent{
		func() *harness.Agent { return c.Nodes[0] },
		func() *harness.Agent { return kvLeader(t, c) },
		func() *harness.Agent { return c.Nodes[1] },
		c.Leader,
	} {
		before := sum()
		harness.Eventually(t, "the writers go on", func(context.Context) error {
			if now := sum(); now < before+50 && now < writers*each {
				return fmt.Errorf("from %d to %d", before, now)
			}
			return nil
		})
		victim := kill()
		victim.Kill()
		time.Sleep(200 * time.Millisecond) // it is gone for a while, and so is what it did
		victim.Start()
		c.WaitReady()
		if now := sum(); now < before {
			t.Fatalf("after kill %d the count went from %d to %d", n, before, now)
		}
	}
	for n := range writers {
		c.AwaitStatus(cl, fmt.Sprintf("w%d", n), api.InstanceStatus_INSTANCE_STATUS_STOPPED)
	}
	counts, err := counted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := range writers {
		if got := counts[fmt.Sprintf("w%d", n)]; got != each {
			t.Errorf("writer %d counted to %d, not %d", n, got, each)
		}
	}
	if all := sum(); all != writers*each {
		t.Errorf("counted to %d in all, not %d", all, writers*each)
	}
	assertSameKV(t, c)
}

// TestVisitsUnderKills invokes guests in three languages that count the same
// visits, while everything is killed in turn. No two visits have the same number,
// and all that were acknowledged are counted; those without an answer may be.
func TestVisitsUnderKills(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	for language, module := range languages {
		startGuest(t, c, cl, "visits-"+language, module(t, "visits"), always, withCaps(shared(grant("kv", "kv", "kv:read", "kv:write"), "visits")))
	}
	v := visitors{numbers: make(map[int]string)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for language := range languages {
		for range 2 {
			wg.Go(func() { v.visit(ctx, t, cl, "visits-"+language) })
		}
	}
	for _, kill := range []func() *harness.Agent{
		func() *harness.Agent { return kvLeader(t, c) }, func() *harness.Agent { return c.Nodes[0] }, c.Leader, func() *harness.Agent { return c.Nodes[1] },
	} {
		v.awaitMore(t, 100)
		victim := kill()
		victim.Kill()
		v.awaitMore(t, 20)
		victim.Start()
		c.WaitReady()
	}
	cancel()
	wg.Wait()
	var final int
	harness.Eventually(t, "the count", func(ctx context.Context) error {
		res, err := invokeFunction(ctx, cl, "visits-go", "count", callTimeout, []byte{})
		if err != nil {
			return err
		}
		if res.GetStatus() != 0 {
			return fmt.Errorf("status %d: %s", res.GetStatus(), res.GetData())
		}
		final, err = strconv.Atoi(strings.TrimSpace(string(res.GetData())))
		return err
	})
	t.Logf("%d visits were acknowledged, %d have no answer, %d were counted", len(v.numbers), v.unknown, final)
	if final < len(v.numbers) || final > len(v.numbers)+v.unknown {
		t.Errorf("counted %d, of which %d were acknowledged and %d have no answer", final, len(v.numbers), v.unknown)
	}
	for n := range v.numbers {
		if n > final {
			t.Errorf("visit %d was acknowledged, and %d were counted", n, final)
		}
	}
}

// visitors count visits.
type visitors struct {
	mu      sync.Mutex
	numbers map[int]string // who was told each number
	unknown int
}

func (v *visitors) awaitMore(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		v.mu.Lock()
		defer v.mu.Unlock()
		return len(v.numbers)
	}
	before := count()
	harness.Eventually(t, fmt.Sprintf("%d more visits", n), func(context.Context) error {
		if now := count(); now < before+n {
			return fmt.Errorf("%d so far", now-before)
		}
		return nil
	})
}

func (v *visitors) visit(ctx context.Context, t *testing.T, cl *client.Client, id string) {
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		res, err := invokeFunction(within, cl, id, "visit", callTimeout, []byte{})
		cancel()
		n, bad := strconv.Atoi(strings.TrimSpace(string(res.GetData())))
		v.mu.Lock()
		switch {
		case err == nil && res.GetStatus() == 0 && bad == nil:
			if other, taken := v.numbers[n]; taken {
				t.Errorf("visit %d was counted for %s and for %s", n, other, id)
			}
			v.numbers[n] = id
		case err == nil && res.GetStatus() == 1:
			// Nothing was counted.
		case wasmatrix.CodeOf(err) == wasmatrix.CodeInvalidRequest, wasmatrix.CodeOf(err) == wasmatrix.CodeValidation:
			t.Errorf("%s: %v", id, err)
		default:
			v.unknown++
		}
		v.mu.Unlock()
	}
}
