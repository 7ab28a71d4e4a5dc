package messaging_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
)

// TestServerKilled: clients move to another server with their subscriptions, of which
// each gets each message once.
func TestServerKilled(t *testing.T) {
	cl := newCluster(t, 3)
	from, to := cl.client(messaging.ClientConfig{}), cl.client(messaging.ClientConfig{})
	subs := []capability.Subscription{subscribe(t, to, "a.*", ""), subscribe(t, to, "a.b", "g"), subscribe(t, to, "a.>", "")}
	subscribe(t, to, "a.b", "").Close()
	for round := range 3 {
		for _, c := range []*messaging.Client{to, from} {
			eventually(t, "a connection", func() bool { return messaging.Connected(c) != "" })
			was := messaging.Connected(c)
			for _, s := range cl.servers() {
				if s.Addr().Client == was {
					cl.kill(s)
				}
			}
			cl.add(messaging.ServerConfig{}) // the same member, elsewhere
			eventually(t, "another server", func() bool {
				is := messaging.Connected(c)
				return is != "" && is != was
			})
		}
		cl.routed()
		eventually(t, "live servers", func() bool {
			return slices.Contains(cl.addrs(), messaging.Connected(to)) && slices.Contains(cl.addrs(), messaging.Connected(from))
		})
		// When all servers know of this one, they know of those before it.
		subscribe(t, to, "later", "").Close()
		for _, data := range []string{"first", "second"} {
			data = fmt.Sprintf("%s of %d", data, round)
			publish(t, from, "a.b", data)
			for _, s := range subs {
				expect(t, s, "a.b", data)
			}
		}
	}
	if n := messaging.Held(to); n != len(subs) {
		t.Errorf("%d subscriptions are held, want %d", n, len(subs))
	}
}

// TestServerNoLongerListed: one that is not of the cluster any more is left, though it
// answers.
func TestServerNoLongerListed(t *testing.T) {
	a, b := openServer(t, messaging.ServerConfig{}), openServer(t, messaging.ServerConfig{Cluster: "apart"})
	var list atomic.Pointer[[]string]
	set := func(addrs ...string) { list.Store(&addrs) }
	set(a.Addr().Client)
	c := newClient(t, messaging.ClientConfig{Servers: func() []string { return *list.Load() }})
	s := subscribe(t, c, "x", "")
	// An empty list says nothing.
	set()
	publish(t, c, "x", "1")
	expect(t, s, "x", "1")
	set(b.Addr().Client)
	eventually(t, "the listed one", func() bool { return messaging.Connected(c) == b.Addr().Client })
	publish(t, clientOf(t, b), "x", "2")
	expect(t, s, "x", "2")
}

// TestNotConnected: calls wait a moment for a connection, and say how it went.
func TestNotConnected(t *testing.T) {
	var list atomic.Pointer[[]string]
	list.Store(&[]string{})
	c := newClient(t, messaging.ClientConfig{Servers: func() []string { return *list.Load() }})
	began := time.Now()
	err := c.Publish(context.Background(), anyone, "x", nil)
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	if took := time.Since(began); took < 1900*time.Millisecond || took > patience {
		t.Errorf("gave up after %s", took)
	}
	_, err = c.Subscribe(context.Background(), anyone, "x", "")
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err = c.Publish(short, anyone, "x", nil)
	wantCode(t, err, wasmatrix.CodeTimeout)
	if o := wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome]; o != wasmatrix.OutcomeNone {
		t.Errorf("outcome is %q", o)
	}
	_, err = c.Subscribe(short, anyone, "x", "")
	wantCode(t, err, wasmatrix.CodeTimeout)
	if n := messaging.Held(c); n != 0 {
		t.Errorf("%d subscriptions are held", n)
	}
	// What waits when a server comes is carried out.
	done := make(chan error, 1)
	go func() { done <- c.Publish(context.Background(), anyone, "x", nil) }()
	list.Store(&[]string{openServer(t, messaging.ServerConfig{}).Addr().Client})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestNothingIsSentLate: what was published while no server could be reached, or was
// under way when the connection broke, does not come after the error.
func TestNothingIsSentLate(t *testing.T) {
	s := openServer(t, messaging.ServerConfig{})
	p := newProxy(t, s.Addr().Client)
	c := newClient(t, messaging.ClientConfig{Servers: func() []string { return []string{p.addr()} }})
	sub := subscribe(t, clientOf(t, s), "x", "")
	publish(t, c, "x", "before")
	expect(t, sub, "x", "before")
	p.hold()
	// The server does not get it, and so does not say that it has it.
	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := c.Publish(short, anyone, "x", []byte("held"))
	wantCode(t, err, wasmatrix.CodeTimeout)
	if o := wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome]; o != wasmatrix.OutcomeUnknown {
		t.Errorf("outcome is %q", o)
	}
	p.cut()
	eventually(t, "a new connection", func() bool {
		return c.Publish(ctx(t), anyone, "x", []byte("after")) == nil
	})
	expect(t, sub, "x", "after")
}

// TestServerHangs: one that takes nothing and says nothing is left for another, within
// seconds.
func TestServerHangs(t *testing.T) {
	proxies := map[string]*proxy{}
	var urls []string
	for range 2 {
		p := newProxy(t, strings.TrimPrefix(external(t), "nats://"))
		proxies[p.addr()] = p
		urls = append(urls, "nats://"+p.addr())
	}
	c := newClient(t, messaging.ClientConfig{Config: config(t, "url", strings.Join(urls, ", "))})
	publish(t, c, "x", "")
	was := messaging.Connected(c)
	proxies[was].hold()
	began := time.Now()
	eventually(t, "the other server", func() bool { return c.Publish(ctx(t), anyone, "x", nil) == nil })
	if is := messaging.Connected(c); is == was || is == "" {
		t.Errorf("connected with %q, with %q before", is, was)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestExternalRestarts: a server of one's own that is killed and comes back is found.
func TestExternalRestarts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	url, kill := startExternal(t, port, `authorization { users = [
		{ user: u, password: p, permissions: { publish: ["ok.>", "_INBOX.>"], subscribe: ["ok.>"] } } ] }`)
	url = strings.Replace(url, "nats://", "nats://u:p@", 1)
	c := newClient(t, messaging.ClientConfig{Config: config(t, "url", url)})
	s := subscribe(t, c, "ok.x", "")
	publish(t, c, "ok.x", "1")
	expect(t, s, "ok.x", "1")
	wantCode(t, c.Publish(ctx(t), anyone, "no.x", nil), wasmatrix.CodePermissionDenied)
	_, err = c.Subscribe(ctx(t), anyone, "no.>", "")
	wantCode(t, err, wasmatrix.CodePermissionDenied)
	publish(t, c, "ok.x", "2")
	expect(t, s, "ok.x", "2")
	kill()
	wantCode(t, c.Publish(ctx(t), anyone, "ok.x", nil), wasmatrix.CodeProviderUnavailable)
	startExternal(t, port, `authorization { users = [ { user: u, password: p } ] }`)
	eventually(t, "the server", func() bool { return c.Publish(ctx(t), anyone, "ok.x", []byte("3")) == nil })
	expect(t, s, "ok.x", "3")
	bad := newClient(t, messaging.ClientConfig{Config: config(t, "url", strings.Replace(url, "u:p@", "u:guess@", 1))})
	err = bad.Publish(ctx(t), anyone, "ok.x", nil)
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	if !strings.Contains(err.Error(), "uthorization") || strings.Contains(err.Error(), "guess") {
		t.Errorf("the error is %v", err)
	}
}
