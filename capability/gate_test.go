package capability_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func assignment(t testing.TB, index uint64, id wasmatrix.CapabilityID, typ wasmatrix.ProviderType, perms ...wasmatrix.Permission) *wasmatrix.Assignment {
	t.Helper()
	a, err := wasmatrix.NewAssignment("i", id, wasmatrix.Grant{Type: typ, Permissions: perms})
	if err != nil {
		t.Fatal(err)
	}
	a.CreateIndex = index
	return a
}

func set(index uint64, as ...*wasmatrix.Assignment) *wasmatrix.GrantSet {
	return &wasmatrix.GrantSet{Instance: "i", Epoch: 1, Incarnation: 7, Index: index, Assignments: as}
}

func wantCode(t testing.TB, err error, code wasmatrix.Code) {
	t.Helper()
	if got := wasmatrix.CodeOf(err); got != code {
		t.Fatalf("the error is %v, of code %q, want %q", err, got, code)
	}
}

// everything calls every operation of a client under one capability and returns
// the errors by operation.
func everything(ctx context.Context, c *capability.Client, id wasmatrix.CapabilityID, key, url, topic string) map[string]error {
	errs := make(map[string]error)
	_, _, errs["kv.get"] = c.KVGet(ctx, id, key)
	_, errs["kv.set"] = c.KVSet(ctx, id, key, []byte("v"), capability.SetOptions{})
	_, errs["kv.delete"] = c.KVDelete(ctx, id, key)
	_, errs["kv.list"] = c.KVList(ctx, id, capability.ListQuery{Prefix: key, Limit: 10})
	x, err := c.HTTPOpen(ctx, id, &capability.Request{Method: "GET", URL: url})
	if errs["http.request"] = err; err == nil {
		_ = x.Close()
	}
	errs["msg.publish"] = c.Publish(ctx, id, topic, []byte("m"))
	sub, err := c.Subscribe(ctx, id, topic, "")
	if errs["msg.subscribe"] = err; err == nil {
		_ = sub.Close()
	}
	return errs
}

// TestP3_NothingReachesAProviderWithoutAnAssignment calls everything with no
// assignment, under the ID of one that was never made, and through a closed client.
func TestP3_NothingReachesAProviderWithoutAnAssignment(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newProvider()
		g := capability.NewGate(capability.Config{Providers: p})
		held := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2, rapid.ID[string]).Draw(rt, "held")
		var as []*wasmatrix.Assignment
		for n, id := range held {
			as = append(as, assignment(t, uint64(n+1), wasmatrix.CapabilityID(id), wasmatrix.ProviderKV, "kv:read", "kv:write", "kv:delete"))
		}
		c := g.NewClient(set(3, as...))
		id := rapid.SampledFrom([]string{"d", "e", ""}).Draw(rt, "id")
		if rapid.Bool().Draw(rt, "closed") {
			c.Close()
			id = "a"
		} else {
			defer c.Close()
		}
		for op, err := range everything(t.Context(), c, wasmatrix.CapabilityID(id), "k", "http://example.com/", "t") {
			if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
				rt.Fatalf("%s is %v", op, err)
			}
		}
		if p.count() != 0 {
			rt.Fatalf("the provider has seen %q", p.seen)
		}
		if got := g.Stats(); got.Denied != 7 || got.Calls != 0 || got.Open != 0 {
			rt.Fatalf("counted %+v", got)
		}
		denied := g.Denials(100)
		if len(denied) != 7 || denied[0].Instance != "i" || denied[0].Count != 1 || denied[0].At == 0 {
			rt.Fatalf("denials are %+v", denied)
		}
	})
}

// TestP4_PermissionIsEnforcedAtTheCall compares with the permissions read
// plainly.
func TestP4_PermissionIsEnforcedAtTheCall(t *testing.T) {
	perms := map[wasmatrix.ProviderType][]wasmatrix.Permission{
		wasmatrix.ProviderKV:        {"kv:read", "kv:write", "kv:delete", "kv:read:a", "kv:write:a", "kv:delete:ab"},
		wasmatrix.ProviderHTTP:      {"http:request", "http:domain:a.example", "http:domain:*.b.example"},
		wasmatrix.ProviderMessaging: {"msg:publish", "msg:subscribe", "msg:publish:a.*", "msg:subscribe:a.>"},
	}
	has := func(list []wasmatrix.Permission, name string, fits func(arg string) bool) bool {
		for _, p := range list {
			rest, ok := strings.CutPrefix(string(p), name)
			if ok && (rest == "" || fits(rest[1:])) {
				return true
			}
		}
		return false
	}
	rapid.Check(t, func(rt *rapid.T) {
		typ := rapid.SampledFrom(wasmatrix.ProviderTypes).Draw(rt, "type")
		given := rapid.SliceOfNDistinct(rapid.SampledFrom(perms[typ]), 1, 3, rapid.ID[wasmatrix.Permission]).Draw(rt, "permissions")
		key := rapid.SampledFrom([]string{"a", "ab", "abc", "b"}).Draw(rt, "key")
		host := rapid.SampledFrom([]string{"a.example", "x.b.example", "b.example", "c.example"}).Draw(rt, "host")
		topic := rapid.SampledFrom([]string{"a.b", "a.b.c", "b", "a"}).Draw(rt, "topic")

		prefix := func(arg string) bool { return strings.HasPrefix(key, arg) }
		domains := has(given, "http:domain", func(string) bool { return true })
		want := map[string]bool{
			"kv.get": has(given, "kv:read", prefix), "kv.list": has(given, "kv:read", prefix),
			"kv.set": has(given, "kv:write", prefix), "kv.delete": has(given, "kv:delete", prefix),
			"http.request": has(given, "http:domain", func(d string) bool {
				return d == host || strings.HasPrefix(d, "*") && strings.HasSuffix(host, d[1:])
			}) || !domains && has(given, "http:request", nil),
			"msg.publish":   has(given, "msg:publish", func(string) bool { return topic == "a.b" }),
			"msg.subscribe": has(given, "msg:subscribe", func(string) bool { return strings.HasPrefix(topic, "a.") }),
		}
		p := newProvider()
		c := capability.NewGate(capability.Config{Providers: p}).NewClient(set(1, assignment(t, 1, "c", typ, given...)))
		defer c.Close()
		allowed := 0
		for op, err := range everything(t.Context(), c, "c", key, "http://"+strings.ToUpper(host)+".:80/", topic) {
			if want[op] {
				allowed++
			}
			if want[op] != (err == nil) || err != nil && wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
				rt.Fatalf("%s with %q is %v, want allowed: %v", op, given, err, want[op])
			}
		}
		if p.count() != allowed {
			rt.Fatalf("%d calls were allowed, the provider has seen %q", allowed, p.seen)
		}
	})
}

func TestASetReplacesOlderOnesOnly(t *testing.T) {
	p := newProvider()
	c := capability.NewGate(capability.Config{Providers: p}).NewClient(set(5, assignment(t, 5, "c", wasmatrix.ProviderKV, "kv:read")))
	defer c.Close()
	if err := c.Set(t.Context(), set(9)); err != nil {
		t.Fatal(err)
	}
	// What was revoked at 9 is not given back by what was read at 5.
	if err := c.Set(t.Context(), set(5, assignment(t, 5, "c", wasmatrix.ProviderKV, "kv:read"))); err != nil {
		t.Fatal(err)
	}
	_, _, err := c.KVGet(t.Context(), "c", "k")
	wantCode(t, err, wasmatrix.CodePermissionDenied)
	if err := c.Set(t.Context(), set(10, assignment(t, 10, "c", wasmatrix.ProviderKV, "kv:read"))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.KVGet(t.Context(), "c", "k"); err != nil {
		t.Fatal(err)
	}
	if c.Index() != 10 {
		t.Fatalf("the index is %d", c.Index())
	}
}

// TestRevocationEndsCallsUnderWay has a call wait at the provider, and one that
// is not revoked beside it.
func TestRevocationEndsCallsUnderWay(t *testing.T) {
	p := newProvider()
	p.hold, p.arrived = make(chan struct{}), make(chan struct{}, 2)
	c := capability.NewGate(capability.Config{Providers: p}).NewClient(set(2,
		assignment(t, 1, "gone", wasmatrix.ProviderKV, "kv:write"), assignment(t, 2, "kept", wasmatrix.ProviderKV, "kv:write")))
	defer c.Close()
	ended := map[wasmatrix.CapabilityID]chan error{"gone": make(chan error, 1), "kept": make(chan error, 1)}
	for id, done := range ended {
		go func() {
			_, err := c.KVSet(t.Context(), id, "k", nil, capability.SetOptions{})
			done <- err
		}()
		<-p.arrived
	}
	if err := c.Set(t.Context(), set(3, assignment(t, 2, "kept", wasmatrix.ProviderKV, "kv:write"))); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended["gone"]:
		wantCode(t, err, wasmatrix.CodePermissionDenied)
		if wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown {
			t.Fatalf("its outcome is not said: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the call under the revoked capability goes on")
	}
	close(p.hold)
	if err := <-ended["kept"]; err != nil {
		t.Fatalf("the other call: %v", err)
	}
}

// stubborn ignores its context until it is let go.
type stubborn struct {
	*provider
	entered, leave chan struct{}
}

func (s stubborn) KV(context.Context, *capability.Scope) (capability.KV, error) { return s, nil }

func (s stubborn) Get(context.Context, *capability.Scope, string) (capability.Entry, bool, error) {
	close(s.entered)
	<-s.leave
	return capability.Entry{Value: []byte("secret")}, true, nil
}

// TestRevocationWaitsForWhatDoesNotEnd also sees that the second attempt waits:
// the first one has taken the grant away already.
func TestRevocationWaitsForWhatDoesNotEnd(t *testing.T) {
	p := stubborn{newProvider(), make(chan struct{}), make(chan struct{})}
	c := capability.NewGate(capability.Config{Providers: p}).NewClient(set(1, assignment(t, 1, "c", wasmatrix.ProviderKV, "kv:read")))
	defer c.Close()
	result := make(chan error, 1)
	go func() {
		e, found, err := c.KVGet(t.Context(), "c", "k")
		if found || e.Value != nil {
			err = errors.Join(err, fmt.Errorf("got %q", e.Value))
		}
		result <- err
	}()
	<-p.entered
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		wantCode(t, c.Set(ctx, set(2)), wasmatrix.CodeTimeout)
		cancel()
	}
	close(p.leave)
	if err := c.Set(t.Context(), set(2)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-result, wasmatrix.CodePermissionDenied)
}

// TestNoCallSucceedsAfterARevocation revokes under load, a hundred times, and asks the
// provider, by one clock, for calls that began after the answer.
func TestNoCallSucceedsAfterARevocation(t *testing.T) {
	p := newProvider()
	c := capability.NewGate(capability.Config{Providers: p, Limits: capability.Limits{Calls: 1 << 30}}).NewClient(set(1))
	defer c.Close()
	var revoked atomic.Bool
	var late, good atomic.Int64
	stop := make(chan struct{})
	var guests sync.WaitGroup
	for range 4 {
		guests.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := revoked.Load()
				if _, err := c.KVSet(t.Context(), "c", "k", nil, capability.SetOptions{}); err == nil {
					good.Add(1)
					if before && revoked.Load() {
						late.Add(1)
					}
				}
			}
		})
	}
	for round := range uint64(100) {
		had := good.Load()
		revoked.Store(false)
		if err := c.Set(t.Context(), set(2*round+2, assignment(t, 2*round+2, "c", wasmatrix.ProviderKV, "kv:write"))); err != nil {
			t.Fatal(err)
		}
		for good.Load() == had {
			time.Sleep(time.Microsecond) // a guest has to get in before it can be put out
		}
		if err := c.Set(t.Context(), set(2*round+3)); err != nil {
			t.Fatal(err)
		}
		revoked.Store(true)
		p.mu.Lock()
		seen := len(p.seen)
		p.mu.Unlock()
		for range 100 {
			if _, err := c.KVSet(t.Context(), "c", "k", nil, capability.SetOptions{}); err == nil {
				t.Fatal("a call after the revocation has succeeded")
			}
		}
		if now := p.count(); now != seen {
			t.Fatalf("round %d: %d calls have reached the provider after the revocation", round, now-seen)
		}
	}
	close(stop)
	guests.Wait()
	if late.Load() != 0 {
		t.Fatalf("%d calls that began after a revocation have succeeded", late.Load())
	}
}

// TestWithoutALeaseNothingGoes takes the lease away with a call, a request and a
// subscription under way, and gives it back.
func TestWithoutALeaseNothingGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		var alive atomic.Bool
		alive.Store(true)
		g := capability.NewGate(capability.Config{Providers: p, Alive: alive.Load})
		c := g.NewClient(set(1, assignment(t, 1, "kv", wasmatrix.ProviderKV, "kv:read"), assignment(t, 1, "http", wasmatrix.ProviderHTTP, "http:request"),
			assignment(t, 1, "msg", wasmatrix.ProviderMessaging, "msg:publish", "msg:subscribe")))
		defer c.Close()
		x, err := c.HTTPOpen(t.Context(), "http", &capability.Request{Method: "GET", URL: "http://a/"})
		if err != nil {
			t.Fatal(err)
		}
		sub, err := c.Subscribe(t.Context(), "msg", "t", "")
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		received := make(chan capability.Message, 1)
		go func() {
			m, err := sub.Receive(t.Context())
			if err != nil {
				t.Errorf("receiving: %v", err)
			}
			received <- m
		}()
		p.mu.Lock()
		p.hold = make(chan struct{})
		p.mu.Unlock()
		waiting := make(chan error, 1)
		go func() {
			_, _, err := c.KVGet(t.Context(), "kv", "k")
			waiting <- err
		}()
		synctest.Wait()

		alive.Store(false)
		g.Lapsed()
		wantCode(t, <-waiting, wasmatrix.CodeProviderUnavailable)
		_, err = x.Write([]byte("x"))
		wantCode(t, err, wasmatrix.CodeProviderUnavailable)
		_, err = x.Read(make([]byte, 1))
		wantCode(t, err, wasmatrix.CodeProviderUnavailable)
		seen := p.count()
		_, _, err = c.KVGet(t.Context(), "kv", "k")
		wantCode(t, err, wasmatrix.CodeProviderUnavailable)
		wantCode(t, c.Publish(t.Context(), "msg", "t", nil), wasmatrix.CodeProviderUnavailable)
		time.Sleep(time.Hour)
		if p.count() != seen {
			t.Fatalf("calls have reached the provider: %q", p.seen[seen:])
		}
		if open := g.Stats().Open; open != 0 {
			t.Fatalf("%d calls are open", open)
		}

		p.mu.Lock()
		p.hold = nil
		p.mu.Unlock()
		alive.Store(true)
		g.Resumed()
		synctest.Wait()
		if err := c.Publish(t.Context(), "msg", "t", []byte("again")); err != nil {
			t.Fatal(err)
		}
		if m := <-received; string(m.Data) != "again" {
			t.Fatalf("received %q", m.Data)
		}
	})
}

// TestASubscriptionOutlivesItsProvider has the provider end it and be down for a
// while.
func TestASubscriptionOutlivesItsProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := capability.NewGate(capability.Config{Providers: p}).NewClient(set(1, assignment(t, 1, "msg", wasmatrix.ProviderMessaging, "msg:publish", "msg:subscribe")))
		defer c.Close()
		sub, err := c.Subscribe(t.Context(), "msg", "t", "")
		if err != nil {
			t.Fatal(err)
		}
		p.down.Store(true)
		_ = p.subs[0].Close()
		got := make(chan error, 1)
		go func() {
			_, err := sub.Receive(t.Context())
			got <- err
		}()
		time.Sleep(time.Minute)
		p.down.Store(false)
		time.Sleep(time.Minute)
		if err := c.Publish(t.Context(), "msg", "t", nil); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := sub.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a receive in vain is %v", err)
		}
		if err := c.Set(t.Context(), set(2)); err != nil {
			t.Fatal(err)
		}
		_, err = sub.Receive(t.Context())
		wantCode(t, err, wasmatrix.CodePermissionDenied)
		_ = sub.Close()
		_, err = sub.Receive(t.Context())
		wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	})
}

// TestARevocationDoesNotWaitForASleepingGuest has a request and a subscription
// open that nobody uses.
func TestARevocationDoesNotWaitForASleepingGuest(t *testing.T) {
	p := newProvider()
	g := capability.NewGate(capability.Config{Providers: p})
	c := g.NewClient(set(1, assignment(t, 1, "http", wasmatrix.ProviderHTTP, "http:request"), assignment(t, 1, "msg", wasmatrix.ProviderMessaging, "msg:subscribe")))
	defer c.Close()
	x, err := c.HTTPOpen(t.Context(), "http", &capability.Request{Method: "GET", URL: "http://a/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(t.Context(), "msg", "t", ""); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), set(2)); err != nil {
		t.Fatal(err)
	}
	_, err = x.Read(make([]byte, 1))
	wantCode(t, err, wasmatrix.CodePermissionDenied)
	if open := g.Stats().Open; open != 0 {
		t.Fatalf("%d calls are open", open)
	}
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		g := capability.NewGate(capability.Config{Providers: p, Limits: capability.Limits{Calls: 10, Concurrent: 3, Bytes: 1000, Deadline: time.Second}})
		c := g.NewClient(set(1, assignment(t, 1, "kv", wasmatrix.ProviderKV, "kv:read", "kv:write"), assignment(t, 1, "http", wasmatrix.ProviderHTTP, "http:request")))
		defer c.Close()
		{ // calls
			for range 10 {
				if _, _, err := c.KVGet(t.Context(), "kv", "k"); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := c.KVGet(t.Context(), "kv", "k")
			wantCode(t, err, wasmatrix.CodeResourceExhausted)
			time.Sleep(time.Second)
			if _, _, err := c.KVGet(t.Context(), "kv", "k"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		{ // bytes
			if _, err := c.KVSet(t.Context(), "kv", "k", make([]byte, 900), capability.SetOptions{}); err != nil {
				t.Fatal(err)
			}
			_, err := c.KVSet(t.Context(), "kv", "k", make([]byte, 900), capability.SetOptions{})
			wantCode(t, err, wasmatrix.CodeResourceExhausted)
			began := time.Now()
			if _, _, err := c.KVGet(t.Context(), "kv", "k"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took < 700*time.Millisecond {
				t.Fatalf("900 bytes beyond the limit came within %s", took)
			}
		}
		time.Sleep(2 * time.Second)
		{ // concurrent
			var open []capability.Exchange
			for range 3 {
				x, err := c.HTTPOpen(t.Context(), "http", &capability.Request{Method: "GET", URL: "http://a/"})
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, x)
			}
			_, _, err := c.KVGet(t.Context(), "kv", "k")
			wantCode(t, err, wasmatrix.CodeResourceExhausted)
			for _, x := range open {
				_ = x.Close()
			}
			if _, _, err := c.KVGet(t.Context(), "kv", "k"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		{ // deadline
			p.mu.Lock()
			p.hold = make(chan struct{})
			p.mu.Unlock()
			began := time.Now()
			_, _, err := c.KVGet(t.Context(), "kv", "k")
			wantCode(t, err, wasmatrix.CodeTimeout)
			if took := time.Since(began); took != time.Second {
				t.Fatalf("it took %s", took)
			}
		}
	})
}

// TestDenialsAreGathered refuses by the hundred thousand.
func TestDenialsAreGathered(t *testing.T) {
	g := capability.NewGate(capability.Config{Providers: newProvider()})
	c := g.NewClient(set(1))
	defer c.Close()
	for n := range 100_000 {
		_, _, _ = c.KVGet(t.Context(), wasmatrix.CapabilityID(fmt.Sprint("c", n%5000)), "k")
	}
	_, _, _ = c.KVGet(t.Context(), "c\n\"}", "k")
	total, kinds := uint64(0), 0
	for {
		batch := g.Denials(64)
		if len(batch) == 0 {
			break
		}
		for _, d := range batch {
			total += d.Count
			kinds++
			if d.Capability.Validate() != nil {
				t.Fatalf("a guest has made up %q", d.Capability)
			}
		}
	}
	if kinds != 4096 || total != 4096*20 || g.Stats().Denied != 100_001 {
		t.Fatalf("%d kinds of %d denials, counted %d", kinds, total, g.Stats().Denied)
	}
}

func TestHostOf(t *testing.T) {
	for url, want := range map[string]string{
		"http://A.Example.:80/x": "a.example", "https://[::1]:443/": "::1", "http://user:pw@b.example/": "b.example",
		"http://[::FFFF:1.2.3.4]/": "1.2.3.4", "http://[2001:DB8:0::1]/": "2001:db8::1",
		"ftp://a/": "", "http:///x": "", "//a/": "", "http://ä.example/": "", "http://a b/": "", "": "",
	} {
		got, err := capability.HostOf(url)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v, want %q", url, got, err, want)
		}
	}
}

// BenchmarkGate is what the gate itself costs: a provider in memory that does
// nothing, called by way of the gate and without.
func BenchmarkGate(b *testing.B) {
	p := idle{}
	c := capability.NewGate(capability.Config{Providers: p, Limits: capability.Limits{Calls: 1 << 40}}).NewClient(set(1, assignment(b, 1, "c", wasmatrix.ProviderKV, "kv:read:users/", "kv:write:x", "kv:read:orders/")))
	defer c.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.Run("admitted", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := c.KVGet(ctx, "c", "users/alice"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("denied", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := c.KVGet(ctx, "c", "admins/alice"); err == nil {
				b.Fatal("not denied")
			}
		}
	})
	b.Run("without", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := p.Get(ctx, nil, "users/alice"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type idle struct{ *provider }

func (i idle) KV(context.Context, *capability.Scope) (capability.KV, error) { return i, nil }

func (idle) Get(context.Context, *capability.Scope, string) (capability.Entry, bool, error) {
	return capability.Entry{}, true, nil
}
