package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// awaitCode waits until a call of a guest gives an error of the ABI, 0 for none.
func awaitCode(t *testing.T, p probe, q probeRequest, want abi.Error) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("%s %s gives %d", p.id, q.Op, want), func(ctx context.Context) error {
		r, err := p.call(ctx, q)
		if err != nil {
			return err
		}
		if min(r.Code, 0) != -int32(want) {
			return fmt.Errorf("it gives %d: %s", r.Code, r.Error)
		}
		return nil
	})
}

// TestP20_StoppedProviders stops, starts and changes providers under guests that
// call them: no guest ends, and calls fail with the code that says so.
func TestP20_StoppedProviders(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl, s := c.Client(), c.Followers()[0]
	rec := newRecorder(t, nil)
	p := startProbe(t, c, cl, "p", withCaps(everythingGranted("")...))
	calls := map[string]probeRequest{
		"kv":        {Op: "kv.list", Cap: "kv", Limit: 1},
		"http":      {Op: "http.get", Cap: "http", URL: rec.URL},
		"messaging": {Op: "msg.publish", Cap: "msg", Topic: "t"},
	}
	p.must(t, calls["http"], abi.ErrDenied) // this machine is not the world
	c.CLI(s, "provider", "update", "http", "--config", "allow_addresses=127.0.0.0/8")
	awaitCode(t, p, calls["http"], 0)
	// That allows this machine, and not the cluster's own agents on it.
	for _, port := range []int{s.Ports.API, s.Ports.Raft, s.Ports.Gossip, c.Nodes[0].Ports.Node} {
		p.must(t, probeRequest{Op: "http.get", Cap: "http", URL: fmt.Sprintf("http://127.0.0.1:%d/healthz", port)}, abi.ErrDenied)
	}
	for name, call := range calls {
		c.CLI(s, "provider", "stop", name)
		awaitCode(t, p, call, abi.ErrUnavailable)
		for other, call := range calls {
			if other != name {
				p.must(t, call, 0)
			}
		}
		if out := c.CLI(s, "provider", "ls"); !strings.Contains(out, "stopped") {
			t.Errorf("the list does not show that %s is stopped:\n%s", name, out)
		}
		c.CLI(s, "provider", "start", name, "--type", name)
		awaitCode(t, p, call, 0)
	}
	// What was configured is so still.
	if out := c.CLI(s, "provider", "inspect", "http"); !strings.Contains(out, "127.0.0.0/8") {
		t.Errorf("inspect shows\n%s", out)
	}
	if in := c.AwaitStatus(cl, "p", api.InstanceStatus_INSTANCE_STATUS_RUNNING); in.GetRestarts() != 0 || in.GetCrashes() != 0 {
		t.Errorf("the guest has restarted %d times and crashed %d times", in.GetRestarts(), in.GetCrashes())
	}
	wantFailure(t, c.TryCLI(s, "provider", "stop", "nope"), 1, wasmatrix.CodeCapabilityNotFound)
	_, err := cl.Providers.StartProvider(t.Context(), &api.StartProviderRequest{ProviderId: "x", Type: "kv", Config: map[string]string{"color": "blue"}})
	wantCode(t, err, wasmatrix.CodeValidation, "color")
	wantFailure(t, c.TryCLI(s, "cap", "assign", "p", "far", "--type", "kv", "--permissions", "kv:read", "--provider", "nope"), 1, wasmatrix.CodeCapabilityNotFound)
}

// TestP21_ProvidersOutliveInstances sees that the one's records are not the
// other's.
func TestP21_ProvidersOutliveInstances(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	cl, s := c.Client(), c.Servers[0]
	c.CLI(s, "provider", "start", "small", "--type", "kv", "--config", "max_keys=2")
	small := grant("kv", "kv", "kv:read", "kv:write")
	small.Provider = "small"
	p := startProbe(t, c, cl, "p", withCaps(small))
	for n, want := range []abi.Error{0, 0, abi.ErrLimit} {
		p.must(t, probeRequest{Op: "kv.set", Cap: "kv", Key: strconv.Itoa(n)}, want)
	}
	wantFailure(t, c.TryCLI(s, "provider", "rm", "small"), 1, wasmatrix.CodeConflict)
	c.CLI(s, "stop", "p")
	c.KillAll()
	for _, a := range c.Agents() {
		a.Start()
	}
	c.WaitReady()
	if out := c.CLI(s, "provider", "inspect", "small"); !strings.Contains(out, "max_keys") {
		t.Errorf("after the instance and all machines ended:\n%s", out)
	}
	if out := c.CLI(s, "inspect", "p", "-o", "json"); strings.Contains(out, "max_keys") {
		t.Errorf("the instance's record has the provider's configuration:\n%s", out)
	}
	c.CLI(s, "provider", "stop", "small")
	c.CLI(s, "provider", "rm", "small")
	wantFailure(t, c.TryCLI(s, "provider", "inspect", "small"), 1, wasmatrix.CodeCapabilityNotFound)
	if in := c.AwaitStatus(cl, "p", api.InstanceStatus_INSTANCE_STATUS_STOPPED); in == nil {
		t.Error("the instance went with the provider")
	}
}

// TestP17_RemoteEqualsLocal calls providers that run on another node than the
// instance, beside ones that run on its own: what they answer is the same. Then the
// other node goes and comes back.
func TestP17_RemoteEqualsLocal(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl, s := c.Client(), c.Servers[0]
	rec := newRecorder(t, nil)
	allowLoopback(t, cl)
	for typ, config := range map[string][]string{"kv": nil, "http": {"--config", "allow_addresses=127.0.0.0/8", "--config", "send_identity=true"}, "messaging": nil} {
		c.CLI(s, append([]string{"provider", "start", "far-" + typ, "--type", typ, "--constraint", "node=n2"}, config...)...)
	}
	caps := append(everythingGranted("near"), everythingGranted("far")...)
	for _, g := range caps[3:] {
		g.CapabilityId, g.Provider = "far-"+g.GetCapabilityId(), "far-"+g.GetType()
	}
	p := startProbe(t, c, cl, "p", onNode("n1"), withCaps(caps...))
	script := []probeRequest{
		{Op: "kv.get", Key: "k"}, {Op: "kv.set", Key: "k", Value: "v"}, {Op: "kv.get", Key: "k"},
		{Op: "kv.cas", Key: "k", Expect: 1, Value: "w"}, {Op: "kv.cas", Key: "new", Value: "w"}, {Op: "kv.list", Limit: 10},
		{Op: "kv.set", Key: "\xff"}, {Op: "kv.set"}, {Op: "kv.list", Limit: 0}, {Op: "kv.delete", Key: "k"}, {Op: "kv.delete", Key: "k"},
		{Op: "http.get", URL: rec.URL}, {Op: "http.get", URL: "http://10.1.2.3/"}, {Op: "http.get", URL: "http://127.0.0.1:1/"}, {Op: "http.get", URL: "ftp://x/"},
		{Op: "msg.publish", Topic: "a.b", Value: "m"}, {Op: "msg.publish", Topic: "a.*"}, {Op: "msg.publish", Topic: ""},
	}
	for _, q := range script {
		kind, _, _ := strings.Cut(q.Op, ".")
		near, far := q, q
		near.Cap, far.Cap = kind, "far-"+kind
		a, err := p.call(t.Context(), near)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.call(t.Context(), far)
		if err != nil {
			t.Fatal(err)
		}
		if a.Revision != 0 && b.Revision != 0 { // of two keys
			a.Revision, b.Revision = 1, 1
		}
		if fmt.Sprint(a) != fmt.Sprint(b) && (a.Code >= 0 || a.Code != b.Code) {
			t.Errorf("%+v: here %+v, there %+v", q, a, b)
		}
	}
	// A subscription there hears what is published here.
	h := p.must(t, probeRequest{Op: "msg.subscribe", Cap: "far-msg", Topic: "x.>"}, 0).Handle
	p.must(t, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "x.y", Value: "hello"}, 0)
	if r := p.must(t, probeRequest{Op: "msg.receive", Handle: h, Wait: 10_000}, 0); r.Topic != "x.y" || r.Value != "hello" {
		t.Errorf("received %+v", r)
	}
	// The permission is checked there as well as here, and revoked there with here.
	if _, err := cl.Capabilities.RevokeCapability(t.Context(), &api.RevokeCapabilityRequest{InstanceId: "p", CapabilityId: "far-http"}); err != nil {
		t.Fatal(err)
	}
	p.must(t, probeRequest{Op: "http.get", Cap: "far-http", URL: rec.URL}, abi.ErrDenied)

	c.Nodes[1].Kill()
	awaitCode(t, p, probeRequest{Op: "kv.get", Cap: "far-kv", Key: "new"}, abi.ErrUnavailable)
	p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: "new"}, 0)
	c.Nodes[1].Start()
	c.AwaitNode(c.Nodes[1], "up")
	awaitCode(t, p, probeRequest{Op: "kv.get", Cap: "far-kv", Key: "new"}, 0)
	p.must(t, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "x.z", Value: "again"}, 0)
	harness.Eventually(t, "the subscription goes on", func(ctx context.Context) error {
		if _, err := p.call(ctx, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "x.z", Value: "again"}); err != nil {
			return err
		}
		r, err := p.call(ctx, probeRequest{Op: "msg.receive", Handle: h, Wait: 200})
		if err != nil {
			return err
		}
		return r.err()
	})
}

// TestRedis uses a real Redis as kv, and takes it away and back.
func TestRedis(t *testing.T) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("no redis-server is installed: apt-get install redis-server")
	}
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	cl, s := c.Client(), c.Servers[0]
	port := harness.FreePorts(t, 1)[0]
	dir := t.TempDir()
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--requirepass", "secret")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	redis := start()
	t.Cleanup(func() {
		_ = redis.Process.Kill()
		_ = redis.Wait()
	})
	c.CLI(s, "provider", "start", "redis", "--type", "kv", "--config", fmt.Sprintf("url=redis://:secret@127.0.0.1:%d/0", port))
	for _, out := range []string{c.CLI(s, "provider", "inspect", "redis"), c.CLI(s, "provider", "ls", "-o", "json")} {
		if strings.Contains(out, "secret") {
			t.Errorf("the password is shown:\n%s", out)
		}
	}
	g := grant("kv", "kv", "kv:read", "kv:write", "kv:delete")
	g.Provider = "redis"
	p := startProbe(t, c, cl, "p", withCaps(g))
	set := probeRequest{Op: "kv.set", Cap: "kv", Key: "k", Value: "v"}
	awaitCode(t, p, set, 0)
	r := p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: "k"}, 0)
	p.must(t, probeRequest{Op: "kv.cas", Cap: "kv", Key: "k", Expect: r.Revision + 1, Value: "w"}, abi.ErrConflict)
	p.must(t, probeRequest{Op: "kv.cas", Cap: "kv", Key: "k", Expect: r.Revision, Value: "w"}, 0)

	_ = redis.Process.Signal(syscall.SIGTERM)
	_ = redis.Wait()
	awaitCode(t, p, set, abi.ErrUnavailable)
	redis = start()
	awaitCode(t, p, probeRequest{Op: "kv.get", Cap: "kv", Key: "k"}, 0)
	if r := p.must(t, probeRequest{Op: "kv.get", Cap: "kv", Key: "k"}, 0); r.Value != "w" && r.Value != "v" {
		t.Errorf("after Redis came back the value is %q", r.Value)
	}
}

// TestExternalNATS uses a NATS server of one's own for messaging.
func TestExternalNATS(t *testing.T) {
	bin := harness.Build(t, "nats-server", "github.com/nats-io/nats-server/v2")
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 2})
	cl, s := c.Client(), c.Servers[0]
	port := harness.FreePorts(t, 1)[0]
	nats := exec.CommandContext(t.Context(), bin, "-a", "127.0.0.1", "-p", strconv.Itoa(port))
	if err := nats.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nats.Process.Kill()
		_ = nats.Wait()
	})
	harness.Eventually(t, "NATS listens", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	c.CLI(s, "provider", "start", "nats", "--type", "messaging", "--config", fmt.Sprintf("url=nats://127.0.0.1:%d", port))
	g := func() *api.CapabilityGrant {
		g := grant("msg", "messaging", "msg:publish", "msg:subscribe")
		g.Provider = "nats"
		return g
	}
	a := startProbe(t, c, cl, "a", onNode("n1"), withCaps(g(), grant("own", "messaging", "msg:subscribe")))
	b := startProbe(t, c, cl, "b", onNode("n2"), withCaps(g()))
	h := a.must(t, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "t"}, 0).Handle
	other := a.must(t, probeRequest{Op: "msg.subscribe", Cap: "own", Topic: "t"}, 0).Handle
	b.must(t, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "t", Value: "m"}, 0)
	if r := a.must(t, probeRequest{Op: "msg.receive", Handle: h, Wait: 10_000}, 0); r.Value != "m" {
		t.Errorf("received %+v", r)
	}
	// It is another system than the embedded one.
	a.must(t, probeRequest{Op: "msg.receive", Handle: other, Wait: 100}, abi.ErrTimeout)
}

// TestMessaging sends messages between guests on different nodes by way of
// different servers, to each, to one of a group, and to a reactor's handler; and
// goes on when servers are killed.
func TestMessaging(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 2})
	cl := c.Client()
	a := startProbe(t, c, cl, "a", onNode("n1"), withCaps(everythingGranted("")...))
	b := startProbe(t, c, cl, "b", onNode("n2"), withCaps(everythingGranted("")...))
	narrow := startProbe(t, c, cl, "narrow", onNode("n2"), withCaps(grant("msg", "messaging", "msg:subscribe:news.*", "msg:publish:own")))
	narrow.must(t, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "news.>"}, abi.ErrDenied)
	narrow.must(t, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "news.x"}, abi.ErrDenied)
	n := narrow.must(t, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "news.*"}, 0).Handle
	narrow.must(t, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "news.*", Mode: abi.SubscribePush}, 0)
	all := b.must(t, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "news.>"}, 0).Handle

	a.must(t, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "news.one", Value: "1"}, 0)
	a.must(t, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "news.two.deep", Value: "2"}, 0)
	for _, want := range []string{"news.one=1", "news.two.deep=2"} {
		if r := b.must(t, probeRequest{Op: "msg.receive", Handle: all, Wait: 10_000}, 0); r.Topic+"="+r.Value != want {
			t.Errorf("received %+v, want %s", r, want)
		}
	}
	if r := narrow.must(t, probeRequest{Op: "msg.receive", Handle: n, Wait: 10_000}, 0); r.Topic != "news.one" {
		t.Errorf("received %+v", r)
	}
	harness.Eventually(t, "a message is pushed", func(ctx context.Context) error {
		r, err := narrow.call(ctx, probeRequest{Op: "pushed"})
		if err != nil {
			return err
		}
		if strings.Join(r.Keys, ",") != "news.one=1" {
			return fmt.Errorf("pushed: %q", r.Keys)
		}
		return nil
	})

	// One of a group gets each.
	g1 := a.must(t, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "jobs", Group: "workers"}, 0).Handle
	g2 := b.must(t, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "jobs", Group: "workers"}, 0).Handle
	const jobs = 40
	for n := range jobs {
		a.must(t, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "jobs", Value: strconv.Itoa(n)}, 0)
	}
	got := make(map[string]bool)
	for deadline := time.Now().Add(20 * time.Second); len(got) < jobs && time.Now().Before(deadline); {
		for p, h := range map[probe]int32{a: g1, b: g2} {
			r, err := p.call(t.Context(), probeRequest{Op: "msg.receive", Handle: h, Wait: 50})
			if err != nil {
				t.Fatal(err)
			}
			if r.Code >= 0 {
				if got[r.Value] {
					t.Fatalf("job %s was given twice", r.Value)
				}
				got[r.Value] = true
			}
		}
	}
	if len(got) != jobs {
		t.Errorf("%d of %d jobs were given", len(got), jobs)
	}

	for _, victim := range c.Servers {
		victim.Kill()
		harness.Eventually(t, "messages come while "+victim.Name+" is gone", func(ctx context.Context) error {
			if r, err := a.call(ctx, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "news.more", Value: victim.Name}); err != nil || r.Code < 0 {
				return errors.Join(err, r.err())
			}
			r, err := b.call(ctx, probeRequest{Op: "msg.receive", Handle: all, Wait: 300})
			if err != nil || r.Code < 0 {
				return errors.Join(err, r.err())
			}
			if r.Value != victim.Name {
				return fmt.Errorf("received %q", r.Value)
			}
			return nil
		})
		victim.Start()
		c.WaitReady()
	}
}

// TestSlowSubscriber publishes more than a guest takes: what is dropped is
// counted, and the guest told.
func TestSlowSubscriber(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 1, Nodes: 1})
	cl, s := c.Client(), c.Servers[0]
	c.CLI(s, "provider", "update", "messaging", "--config", "max_pending=10")
	p := startProbe(t, c, cl, "p", withCaps(everythingGranted("")...))
	h := p.must(t, probeRequest{Op: "msg.subscribe", Cap: "msg", Topic: "t"}, 0).Handle
	const sent = 100
	for n := range sent {
		p.must(t, probeRequest{Op: "msg.publish", Cap: "msg", Topic: "t", Value: strconv.Itoa(n)}, 0)
	}
	received, dropped := 0, 0
	for received+dropped < sent {
		r := p.must(t, probeRequest{Op: "msg.receive", Handle: h, Wait: 10_000}, 0)
		received++
		dropped += int(r.Dropped)
	}
	if received+dropped != sent || dropped < sent-20 {
		t.Errorf("%d received and %d dropped of %d", received, dropped, sent)
	}
	p.must(t, probeRequest{Op: "msg.unsubscribe", Handle: h}, 0)
	p.must(t, probeRequest{Op: "msg.receive", Handle: h}, abi.ErrHandle)
}
