package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

func wantCode(t testing.TB, what string, err error, code wasmatrix.Code, outcome string) {
	t.Helper()
	if e := wasmatrix.AsError(err); e == nil || e.Code != code || outcome != "" && e.Details[wasmatrix.DetailOutcome] != outcome {
		t.Errorf("%s: %v, want %s with outcome %s", what, err, code, outcome)
		if e != nil {
			t.Logf("details %v", e.Details)
		}
	}
}

// wait is a context for what must happen soon.
func wait(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestCarriedCallsAreRefused(t *testing.T) {
	host := newFakeHost()
	c, carrier := carryCluster(t, host)
	kv := carrier.KV()
	_, _, err := kv.Get(t.Context(), scopeOf("stranger"), "k")
	wantCode(t, "a stranger", err, wasmatrix.CodePermissionDenied, "")
	_, err = carrier.HTTP().Open(t.Context(), scopeOf("stranger"), &capability.Request{URL: "u"})
	wantCode(t, "a stranger's exchange", err, wasmatrix.CodePermissionDenied, "")
	_, err = carrier.Messaging().Subscribe(t.Context(), scopeOf("stranger"), "t", "")
	wantCode(t, "a stranger's subscription", err, wasmatrix.CodePermissionDenied, "")
	stopped := scopeOf("i")
	stopped.Provider = "stopped"
	_, _, err = kv.Get(t.Context(), stopped, "k")
	wantCode(t, "a stopped provider", err, wasmatrix.CodeProviderUnavailable, "")
	nobody := scopeOf("i")
	nobody.Instance = "-"
	_, _, err = kv.Get(t.Context(), nobody, "k")
	wantCode(t, "an instance that cannot be", err, wasmatrix.CodeInvalidRequest, "")
	_, err = kv.Set(t.Context(), scopeOf("i"), "k", make([]byte, 3<<20), capability.SetOptions{})
	wantCode(t, "a value that is too large", err, wasmatrix.CodeResourceExhausted, wasmatrix.OutcomeNone)
	_, _, err = kv.Get(t.Context(), scopeOf("i"), "a\xff")
	wantCode(t, "a key that is not text", err, wasmatrix.CodeInvalidRequest, wasmatrix.OutcomeNone)
	_, _, err = kv.Get(t.Context(), scopeOf("i"), "fail/panic")
	wantCode(t, "a panic", err, wasmatrix.CodeInternal, wasmatrix.OutcomeUnknown)
	_, err = carrier.HTTP().Open(t.Context(), scopeOf("i"), &capability.Request{URL: "fail/panic"})
	wantCode(t, "a panic at the opening", err, wasmatrix.CodeInternal, wasmatrix.OutcomeUnknown)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = kv.Set(ended, scopeOf("i"), "k", nil, capability.SetOptions{})
	wantCode(t, "a call that was cancelled before", err, wasmatrix.CodeTimeout, wasmatrix.OutcomeNone)
	if len(host.entries) != 0 {
		t.Errorf("what was refused is there: %v", host.entries)
	}
	// None of it has harmed the stream.
	if _, err := kv.Set(t.Context(), scopeOf("i"), "k", make([]byte, 1<<20), capability.SetOptions{}); err != nil {
		t.Error(err)
	}
	if e, found, err := kv.Get(t.Context(), scopeOf("i"), "k"); err != nil || !found || len(e.Value) != 1<<20 {
		t.Errorf("%d bytes, %t, %v", len(e.Value), found, err)
	}
	none := client.NewCarrier(newTransport(t).DialContext, c.Servers[0].Addr)
	none.Close()
	_, _, err = none.KV().Get(t.Context(), scopeOf("i"), "k")
	wantCode(t, "a closed carrier", err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
}

// TestWhoMayNotActSendsNothing: neither a call, nor more of one that has begun.
func TestWhoMayNotActSendsNothing(t *testing.T) {
	host := newFakeHost()
	_, carrier := carryCluster(t, host)
	var alive atomic.Bool
	alive.Store(true)
	scope := scopeOf("i")
	scope.Alive = alive.Load
	x, err := carrier.HTTP().Open(t.Context(), scope, &capability.Request{URL: "well"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Write([]byte("before")); err != nil {
		t.Fatal(err)
	}
	if !carrier.Busy() {
		t.Error("with an exchange open the carrier is not busy")
	}
	alive.Store(false)
	_, err = carrier.KV().Set(t.Context(), scope, "k", []byte("v"), capability.SetOptions{})
	wantCode(t, "set", err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
	_, err = carrier.Messaging().Subscribe(t.Context(), scope, "t", "")
	wantCode(t, "subscribe", err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
	_, err = x.Write([]byte("after"))
	wantCode(t, "write", err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
	if len(host.entries) != 0 {
		t.Errorf("there is %v", host.entries)
	}
	alive.Store(true)
	if _, err := carrier.KV().Set(t.Context(), scope, "k", []byte("v"), capability.SetOptions{}); err != nil {
		t.Error(err)
	}
	if body, err := io.ReadAll(x); err != nil || string(body) != "before" {
		t.Errorf("%q has arrived, %v", body, err)
	}
	alive.Store(false)
	if err := x.Close(); err != nil { // to end something is always allowed
		t.Error(err)
	}
	if err := host.await(wait(t), 0); err != nil {
		t.Error(err)
	}
	if carrier.Busy() {
		t.Error("with nothing open the carrier is busy")
	}
}

func TestAProcessWithoutAHostCarriesOutNothing(t *testing.T) {
	addr, _ := serveNode(t, &node{id: "n1"})
	carrier := client.NewCarrier(newTransport(t).DialContext, addr)
	defer carrier.Close()
	_, _, err := carrier.KV().Get(t.Context(), scopeOf("i"), "k")
	wantCode(t, "get", err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
}

// TestScopesArrive sees that what the host is told is what the caller said.
func TestScopesArrive(t *testing.T) {
	_, carrier := carryCluster(t, newFakeHost())
	e, _, err := carrier.KV().Get(t.Context(), scopeOf("i"), "scope")
	if want := "i 2 3 true c 4 p own/i/2 true"; err != nil || string(e.Value) != want {
		t.Errorf("%q, %v; want %q", e.Value, err, want)
	}
}

// TestPagesFitIntoMessages lists ten times as much as a message can have.
func TestPagesFitIntoMessages(t *testing.T) {
	host := newFakeHost()
	_, carrier := carryCluster(t, host)
	var want []string
	for i := range 20_000 {
		key := fmt.Sprintf("%05d%s", i, strings.Repeat("x", 1000))
		want = append(want, key)
		host.entries["own/i/2/"+key] = capability.Entry{Revision: 1}
	}
	var got []string
	q := capability.ListQuery{Limit: 10_000}
	for more := true; more; {
		p, err := carrier.KV().List(t.Context(), scopeOf("i"), q)
		if err != nil || len(p.Keys) == 0 {
			t.Fatalf("%d keys, %v", len(p.Keys), err)
		}
		got, more = append(got, p.Keys...), p.More
		q.After = p.Keys[len(p.Keys)-1]
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%d keys of %d, or others", len(got), len(want))
	}
}

// TestACancelledReadReturnsAtOnce: it has no effect that would have to be waited for. It
// counts among the calls under way until it has ended.
func TestACancelledReadReturnsAtOnce(t *testing.T) {
	host := newFakeHost()
	host.slow = make(chan struct{})
	_, carrier := carryCluster(t, host)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, _, err := carrier.KV().Get(ctx, scopeOf("i"), "block")
		got <- err
	}()
	if err := host.await(wait(t), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-got:
		wantCode(t, "get", err, wasmatrix.CodeTimeout, wasmatrix.OutcomeNone)
	case <-wait(t).Done():
		t.Fatal("it waits for the other side")
	}
	if !carrier.Busy() {
		t.Error("it is not under way any more, and has not ended")
	}
	close(host.slow)
	if err := host.await(wait(t), 0); err != nil {
		t.Error(err)
	}
	for soon := wait(t); carrier.Busy(); time.Sleep(time.Millisecond) {
		if soon.Err() != nil {
			t.Fatal("its end was not received")
		}
	}
	if _, err := carrier.KV().Set(t.Context(), scopeOf("i"), "k", nil, capability.SetOptions{}); err != nil {
		t.Error(err)
	}
}

// TestACancelledCallReturnsWhenItHasEnded, not before: a revocation relies on it.
func TestACancelledCallReturnsWhenItHasEnded(t *testing.T) {
	host := newFakeHost()
	host.slow = make(chan struct{})
	_, carrier := carryCluster(t, host)
	x, err := carrier.HTTP().Open(t.Context(), scopeOf("i"), &capability.Request{URL: "write block"})
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func(context.Context) error{
		"set": func(ctx context.Context) error {
			_, err := carrier.KV().Set(ctx, scopeOf("i"), "block", nil, capability.SetOptions{})
			return err
		},
		"write": func(ctx context.Context) error {
			stop := context.AfterFunc(ctx, func() { x.Close() })
			defer stop()
			_, err := x.Write([]byte("body"))
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			host.mu.Lock()
			before := host.opened
			host.slow = make(chan struct{})
			host.mu.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- f(ctx) }()
			if what != "write" {
				for {
					host.mu.Lock()
					opened, changed := host.opened, host.changed
					host.mu.Unlock()
					if opened > before {
						break
					}
					<-changed
				}
			}
			cancel()
			select {
			case err := <-done:
				t.Fatalf("it returned before its end: %v", err)
			case <-time.After(100 * time.Millisecond): // it could have by now
			}
			close(host.slow)
			select {
			case err := <-done:
				wantCode(t, what, err, wasmatrix.CodeTimeout, "")
			case <-wait(t).Done():
				t.Fatal("it did not return")
			}
		})
	}
	if err := host.await(wait(t), 0); err != nil {
		t.Error(err)
	}
}

// TestDeadlinesAreKeptAtTheOtherSide: where the caller's process says nothing any
// more, its calls end all the same.
func TestDeadlinesAreKeptAtTheOtherSide(t *testing.T) {
	host := newFakeHost()
	c, carrier := carryCluster(t, host)
	silent := openRaw(t, c.Servers[0].Addr)
	defer silent.Close()
	for _, m := range []*api.CarryRequest{get(1, "block"), openOf(2, "response block")} {
		m.Timeout = durationpb.New(50 * time.Millisecond)
		if _, err := silent.Write(frameOf(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	for ended := 0; ended < 2; {
		m, end := silent.read(t)
		if end != nil {
			t.Fatal(end)
		}
		if m.End {
			ended++
			wantCode(t, "a call of who is silent", wire.ErrorFrom(m.Error), wasmatrix.CodeTimeout, "")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := carrier.KV().Get(ctx, scopeOf("i"), "block")
	wantCode(t, "get", err, wasmatrix.CodeTimeout, "")
	<-ctx.Done() // the other side may have been a little earlier
	x, err := carrier.HTTP().Open(ctx, scopeOf("i"), &capability.Request{URL: "well"})
	wantCode(t, "opening too late", err, wasmatrix.CodeTimeout, wasmatrix.OutcomeNone)
	if x != nil {
		t.Error("there is an exchange")
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	x, err = carrier.HTTP().Open(ctx, scopeOf("i"), &capability.Request{URL: "response block"})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	_, err = x.Response()
	wantCode(t, "response", err, wasmatrix.CodeTimeout, "")
	if err := host.await(wait(t), 0); err != nil {
		t.Errorf("the exchange goes on: %v", err)
	}
	// The time of a subscription is that of its beginning.
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	sub, err := carrier.Messaging().Subscribe(ctx, scopeOf("i"), "t", "")
	if err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	time.Sleep(50 * time.Millisecond) // the other side may be a little later
	if err := carrier.Messaging().Publish(t.Context(), scopeOf("i"), "t", []byte("late")); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.Receive(wait(t)); err != nil || string(m.Data) != "late" {
		t.Errorf("%q, %v", m.Data, err)
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
}

// TestASlowSubscriberHoldsNothingUp: what it does not take is dropped where it is
// kept, and other calls of the stream go on.
func TestASlowSubscriberHoldsNothingUp(t *testing.T) {
	host := newFakeHost()
	_, carrier := carryCluster(t, host)
	slow, err := carrier.Messaging().Subscribe(t.Context(), scopeOf("i"), "t", "")
	if err != nil {
		t.Fatal(err)
	}
	const published = 1000
	for range published {
		if err := carrier.Messaging().Publish(t.Context(), scopeOf("i"), "t", make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	received, dropped := 0, uint64(0)
	take := func(patience time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		m, err := slow.Receive(ctx)
		if err == nil {
			received++
			dropped += m.Dropped
		}
		return err == nil
	}
	for take(300 * time.Millisecond) { // what was kept
	}
	// The next says how many were dropped.
	if err := carrier.Messaging().Publish(t.Context(), scopeOf("i"), "t", []byte("last")); err != nil {
		t.Fatal(err)
	}
	if !take(patience) || received+int(dropped) != published+1 {
		t.Errorf("%d messages were received and %d dropped, of %d", received, dropped, published+1)
	}
	if most := wire.DeliveryWindow + fakePending + 2; received > most {
		t.Errorf("%d messages waited for a subscriber that took none, at most %d should", received, most)
	}
	if err := slow.Close(); err != nil {
		t.Error(err)
	}
	if err := host.await(wait(t), 0); err != nil {
		t.Error(err)
	}
}

// TestAMessageThatIsThereIsGiven, whether or not the receiver's time is over.
func TestAMessageThatIsThereIsGiven(t *testing.T) {
	_, carrier := carryCluster(t, newFakeHost())
	sub, err := carrier.Messaging().Subscribe(t.Context(), scopeOf("i"), "t", "")
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := sub.Receive(over); !errors.Is(err, context.Canceled) {
		t.Errorf("without a message: %q, %v", m.Data, err)
	}
	if err := carrier.Messaging().Publish(t.Context(), scopeOf("i"), "t", []byte("m")); err != nil {
		t.Fatal(err)
	}
	for soon := wait(t); ; time.Sleep(time.Millisecond) { // until it has come
		m, err := sub.Receive(over)
		if err == nil && string(m.Data) == "m" {
			break
		}
		if soon.Err() != nil {
			t.Fatalf("%q, %v", m.Data, err)
		}
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
}

// TestLargeBodiesPass carries more than a message, a window of the connection and
// the queue can hold.
func TestLargeBodiesPass(t *testing.T) {
	_, carrier := carryCluster(t, newFakeHost())
	x, err := carrier.HTTP().Open(t.Context(), scopeOf("i"), &capability.Request{Method: "POST", URL: "well"})
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 12<<20)
	for i := range body {
		body[i] = byte(i * i >> 8)
	}
	if n, err := x.Write(body); n != len(body) || err != nil {
		t.Fatal(n, err)
	}
	if _, err := x.Response(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(x)
	if err != nil || string(got) != string(body) {
		t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhoWantsNoLinkIsToldOfIt(t *testing.T) {
	c, _ := carryCluster(t, newFakeHost())
	for name, rt := range map[string]http.RoundTripper{"HTTP/1.1": http.DefaultTransport, "HTTP/2": newTransport(t)} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Servers[0].Addr+wire.CallsPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		res, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusUpgradeRequired || res.Header.Get(wire.HeaderCode) != string(wasmatrix.CodeInvalidRequest) {
			t.Errorf("%s: status %d with code %q", name, res.StatusCode, res.Header.Get(wire.HeaderCode))
		}
		if up := res.Header.Get("Upgrade"); name == "HTTP/1.1" && up != "wasmatrix-link/1" {
			t.Errorf("%s: it is told to upgrade to %q", name, up)
		}
	}
}

func TestCarriedCallsPassTheGate(t *testing.T) {
	_, carrier := carryCluster(t, newFakeHost(), func(cfg *rpc.Config) {
		cfg.Authenticate = func(context.Context, string, http.Header) (context.Context, error) {
			return nil, wasmatrix.Errorf(wasmatrix.CodeUnauthenticated, "no certificate")
		}
	})
	_, _, err := carrier.KV().Get(t.Context(), scopeOf("i"), "k")
	wantCode(t, "get", err, wasmatrix.CodeProviderUnavailable, "")
	if !strings.Contains(err.Error(), "UNAUTHENTICATED") || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("the reason is lost: %v", err)
	}
}
