package messaging_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
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
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		publish(t, c, "x", "1")
		expect(t, s, "x", "1")
	}
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
	p.hold(everything)
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

// TestServerHangs: one that says nothing any more, on either connection, is left for
// another, within seconds.
func TestServerHangs(t *testing.T) {
	target := strings.TrimPrefix(external(t), "nats://")
	for connection := range 3 { // 0 is both
		t.Run(fmt.Sprint(connection), func(t *testing.T) {
			t.Parallel()
			proxies := map[string]*proxy{}
			var urls []string
			for range 2 {
				p := newProxy(t, target)
				proxies[p.addr()] = p
				urls = append(urls, "nats://"+p.addr())
			}
			c := newClient(t, messaging.ClientConfig{Config: config(t, "url", strings.Join(urls, ", "))})
			publish(t, c, "x", "")
			was := messaging.Connected(c)
			began := time.Now()
			proxies[was].hold(func(n int, _ []byte) bool { return connection == 0 || n == connection })
			eventually(t, "the other server", func() bool {
				is := messaging.Connected(c)
				return is != "" && is != was
			})
			if took := time.Since(began); took < time.Second || took > 15*time.Second {
				t.Errorf("took %s", took)
			}
			publish(t, c, "x", "")
		})
	}
}

// TestReconnectSubscribesFirst: while the server does not know of the subscriptions, a
// connection is not used.
func TestReconnectSubscribesFirst(t *testing.T) {
	s := openServer(t, messaging.ServerConfig{})
	p := newProxy(t, s.Addr().Client)
	c := newClient(t, messaging.ClientConfig{Servers: func() []string { return []string{p.addr()} }})
	sub := subscribe(t, c, "x", "")
	p.cut()
	seen := make(chan struct{})
	var once sync.Once
	p.hold(func(_ int, data []byte) bool {
		if strings.Contains(string(data), "SUB x") {
			once.Do(func() { close(seen) })
			return true
		}
		return false
	})
	done := make(chan error, 1)
	go func() {
		for {
			err := c.Publish(ctx(t), anyone, "x", []byte("1"))
			if wasmatrix.CodeOf(err) != wasmatrix.CodeProviderUnavailable { // of the one that was cut
				done <- err
				return
			}
		}
	}()
	<-seen
	select {
	case err := <-done:
		t.Fatal("a message was published before the subscription: ", err)
	case <-time.After(200 * time.Millisecond):
	}
	p.release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	expect(t, sub, "x", "1")
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

// TestSubscribeWhileServersChange: what Subscribe has returned for comes, whatever
// happened meanwhile.
func TestSubscribeWhileServersChange(t *testing.T) {
	cl := newCluster(t, 3)
	to := cl.client(messaging.ClientConfig{})
	stop := make(chan struct{})
	var mu sync.Mutex
	subs := map[string]capability.Subscription{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				topic := fmt.Sprintf("t.%d.%d", g, i)
				s, err := to.Subscribe(ctx(t), anyone, topic, "")
				if err != nil {
					wantCode(t, err, wasmatrix.CodeProviderUnavailable)
					continue
				}
				mu.Lock()
				if old := subs[topic]; len(subs) < 2000 {
					subs[topic] = s
				} else if s.Close(); old != nil {
					old.Close()
				}
				mu.Unlock()
			}
		})
	}
	for range 5 {
		eventually(t, "a connection", func() bool { return slices.Contains(cl.addrs(), messaging.Connected(to)) })
		was := messaging.Connected(to)
		for _, s := range cl.servers() {
			if s.Addr().Client == was {
				cl.kill(s)
			}
		}
		cl.add(messaging.ServerConfig{})
	}
	cl.routed()
	close(stop)
	wg.Wait()
	eventually(t, "a connection", func() bool { return slices.Contains(cl.addrs(), messaging.Connected(to)) })
	subscribe(t, to, "later", "").Close()
	from := cl.client(messaging.ClientConfig{})
	for topic, s := range subs {
		publish(t, from, topic, topic)
		expect(t, s, topic, topic)
	}
	t.Logf("%d subscriptions", len(subs))
	if n := messaging.Held(to); n != len(subs) {
		t.Errorf("%d subscriptions are held, want %d", n, len(subs))
	}
}

// TestDeafNode: a node that takes nothing any more keeps neither publishers nor other
// nodes from anything, and is cut off.
func TestDeafNode(t *testing.T) {
	s := openServer(t, messaging.ServerConfig{})
	p := newProxy(t, s.Addr().Client)
	deaf := newClient(t, messaging.ClientConfig{Servers: func() []string { return []string{p.addr()} }})
	lost := subscribe(t, deaf, "flood", "")
	sub := subscribe(t, clientOf(t, s), "flood", "")
	from := clientOf(t, s)
	p.deafen()
	data := strings.Repeat("x", messaging.MaxMessage)
	began := time.Now()
	for range 150 { // more than waits for one connection
		publish(t, from, "flood", data)
		if m := receive(t, sub); m.Dropped > 0 {
			t.Errorf("%d dropped", m.Dropped)
		}
	}
	t.Logf("150 MiB in %s", time.Since(began))
	p.release()
	n := uint64(0)
	eventually(t, "delivery again", func() bool {
		publish(t, from, "flood", "again")
		for {
			m, err := lost.Receive(past)
			if err != nil {
				return false
			}
			n += 1 + m.Dropped
			if string(m.Data) == "again" {
				return true
			}
		}
	})
	if n > 120 {
		t.Errorf("%d messages of 1 MiB were kept for a node that took none", n)
	}
}

// TestExternalTLS: over TLS, and only with a server whose certificate is trusted.
func TestExternalTLS(t *testing.T) {
	cert, key := certificate(t)
	url, _ := startExternal(t, -1, fmt.Sprintf("tls { cert_file: %q, key_file: %q }", cert, key))
	url = strings.Replace(url, "nats://", "tls://", 1)
	c := newClient(t, messaging.ClientConfig{Config: config(t, "url", url)})
	s := subscribe(t, c, "x", "")
	large := strings.Repeat("x", messaging.MaxMessage)
	publish(t, c, "x", large)
	expect(t, s, "x", large)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "tls://"))
	other := newClient(t, messaging.ClientConfig{Config: config(t, "url", "tls://localhost:"+port)})
	wantCode(t, other.Publish(ctx(t), anyone, "x", nil), wasmatrix.CodeProviderUnavailable)
	plain := newClient(t, messaging.ClientConfig{Config: config(t, "url", "tls://"+strings.TrimPrefix(external(t), "nats://"))})
	wantCode(t, plain.Publish(ctx(t), anyone, "x", nil), wasmatrix.CodeProviderUnavailable)
}
