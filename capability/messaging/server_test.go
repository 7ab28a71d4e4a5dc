package messaging_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
)

// TestServerListens: on the two ports that it names, and nowhere else.
func TestServerListens(t *testing.T) {
	before := listening(t)
	s := openServer(t, messaging.ServerConfig{})
	want := []string{s.Addr().Client, s.Addr().Route}
	slices.Sort(want)
	got := slices.DeleteFunc(listening(t), func(a string) bool { return slices.Contains(before, a) })
	if !slices.Equal(got, want) {
		t.Errorf("listens on %v, want %v", got, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := listening(t); !slices.Equal(got, before) {
		t.Errorf("listens on %v after Close, on %v before", got, before)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.SetPeers([]string{"127.0.0.1:1"}), wasmatrix.CodeProviderUnavailable)
	// The ports can be given, and taken again at once.
	ports := func(a string) int {
		_, p, _ := net.SplitHostPort(a)
		n, _ := strconv.Atoi(p)
		return n
	}
	again := openServer(t, messaging.ServerConfig{ClientPort: ports(s.Addr().Client), RoutePort: ports(s.Addr().Route)})
	if again.Addr() != s.Addr() {
		t.Errorf("listens on %v, want %v", again.Addr(), s.Addr())
	}
}

// listening lists the addresses on which this process listens for TCP.
func listening(t *testing.T) []string {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		t.Skip("needs /proc")
	}
	for _, fd := range fds {
		if l, err := os.Readlink(fd); err == nil && strings.HasPrefix(l, "socket:[") {
			own[strings.Trim(l, "socket:[]")] = true
		}
	}
	var addrs []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != "0A" || !own[fields[9]] {
				continue
			}
			ip, port, _ := strings.Cut(fields[1], ":")
			n, _ := strconv.ParseInt(port, 16, 32)
			if ip == "0100007F" {
				ip = "127.0.0.1"
			}
			addrs = append(addrs, fmt.Sprintf("%s:%d", ip, n))
		}
	}
	slices.Sort(addrs)
	return addrs
}

func TestServerRefusesConfig(t *testing.T) {
	taken := openServer(t, messaging.ServerConfig{})
	_, port, _ := net.SplitHostPort(taken.Addr().Client)
	n, _ := strconv.Atoi(port)
	for name, cfg := range map[string]messaging.ServerConfig{
		"no bind":             {},
		"nowhere to be found": {Bind: "0.0.0.0"},
		"not an address here": {Bind: "192.0.2.1"},
		"client port taken":   {Bind: "127.0.0.1", ClientPort: n},
		"route port taken":    {Bind: "127.0.0.1", RoutePort: n},
	} {
		before := listening(t)
		_, err := messaging.OpenServer(cfg)
		if wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
			t.Errorf("%s: error is %v", name, err)
		}
		if after := listening(t); !slices.Equal(before, after) {
			t.Errorf("%s: still listens on %v", name, after)
		}
	}
	wantCode(t, taken.SetPeers([]string{"nowhere"}), wasmatrix.CodeInvalidRequest)
	wantCode(t, taken.SetCluster(""), wasmatrix.CodeInvalidRequest)
	wantCode(t, taken.SetCluster("other"), wasmatrix.CodeConflict)
	if err := taken.SetCluster("test"); err != nil {
		t.Error(err)
	}
}

// TestServersFollowMembers: a server that comes is routed to, one that goes is
// dialled no more, and one that comes back at another port is found.
func TestServersFollowMembers(t *testing.T) {
	cl := newCluster(t, 2)
	pass := func() {
		t.Helper()
		live := cl.servers()
		for i, to := range live {
			from := clientOf(t, live[(i+1)%len(live)])
			s := subscribe(t, clientOf(t, to), "news", "")
			// The client has one server: so that other servers know takes a moment.
			eventually(t, "a message over the route", func() bool {
				publish(t, from, "news", "x")
				_, err := s.Receive(past)
				return err == nil
			})
			from.Close()
		}
	}
	pass()
	third := cl.add(messaging.ServerConfig{})
	cl.routed()
	pass()
	gone := third.Addr().Route
	cl.kill(third)
	cl.routed()
	// Nobody dials it any more.
	_, port, _ := net.SplitHostPort(gone)
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(2500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("a server that has left is dialled")
	}
	pass()
	cl.add(messaging.ServerConfig{})
	cl.routed()
	pass()
}

// TestServerRestartsInPlace: with the same ports, before the list knows.
func TestServerRestartsInPlace(t *testing.T) {
	cl := newCluster(t, 2)
	old := cl.servers()[1]
	port := func(a string) int {
		_, p, _ := net.SplitHostPort(a)
		n, _ := strconv.Atoi(p)
		return n
	}
	old.Close()
	eventually(t, "end of the route", func() bool { return cl.servers()[0].Routes() == 0 })
	again := openServer(t, messaging.ServerConfig{ClientPort: port(old.Addr().Client), RoutePort: port(old.Addr().Route)})
	eventually(t, "the route", func() bool { return cl.servers()[0].Routes() == 1 && again.Routes() == 1 })
}

// TestRemovedRouteEnds: when both ends have removed it; while one end still wants it,
// it comes back.
func TestRemovedRouteEnds(t *testing.T) {
	cl := newCluster(t, 2)
	a, b := cl.servers()[0], cl.servers()[1]
	if err := b.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the route that a wants", func() bool { return a.Routes() == 1 && b.Routes() == 1 })
	if err := a.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the route", func() bool { return a.Routes() == 0 && b.Routes() == 0 })
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if a.Routes()+b.Routes() != 0 {
			t.Fatal("the route is back")
		}
	}
}

// TestClustersApart: servers of different clusters, or of none yet, do not route to
// one another, though they are told to.
func TestClustersApart(t *testing.T) {
	open := func(cluster string) *messaging.Server {
		s, err := messaging.OpenServer(messaging.ServerConfig{Name: "s", Bind: "127.0.0.1", Cluster: cluster})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	a, other, late, later := open("a"), open("other"), open(""), open("")
	all := []*messaging.Server{a, other, late, later}
	var routes []string
	for _, s := range all {
		routes = append(routes, s.Addr().Route)
	}
	for _, s := range all {
		if err := s.SetPeers(routes); err != nil {
			t.Fatal(err)
		}
	}
	check := func(d time.Duration, want ...int) {
		t.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			for i, s := range all {
				if n := s.Routes(); n > want[i] {
					t.Fatalf("server %d has %d routes, want %v", i, n, want)
				}
			}
		}
	}
	check(1500*time.Millisecond, 0, 0, 0, 0)
	// One of no cluster does not even dial.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled := make(chan struct{})
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Close()
			close(dialled)
		}
	}()
	if err := later.SetPeers(append(routes, l.Addr().String())); err != nil {
		t.Fatal(err)
	}
	select {
	case <-dialled:
		t.Error("a server of no cluster dials")
	case <-time.After(500 * time.Millisecond):
	}
	if err := late.SetCluster("a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a route", func() bool { return a.Routes() == 1 && late.Routes() == 1 })
	check(1500*time.Millisecond, 1, 0, 1, 0)
	if err := later.SetCluster("a"); err != nil {
		t.Fatal(err)
	}
	<-dialled
	eventually(t, "routes", func() bool { return a.Routes() == 2 && late.Routes() == 2 && later.Routes() == 2 })
	check(1500*time.Millisecond, 2, 0, 2, 2)
}

// TestServerAuthenticates: with a token clients need it, with a password servers do.
func TestServerAuthenticates(t *testing.T) {
	cl := &cluster{tb: t}
	cfg := messaging.ServerConfig{Token: "s3cret", RouteUser: "route", RoutePassword: "pass"}
	cl.add(cfg)
	cl.add(cfg)
	cl.routed()
	stranger := openServer(t, messaging.ServerConfig{RouteUser: "route", RoutePassword: "guess"})
	if err := stranger.SetPeers([]string{cl.servers()[0].Addr().Route}); err != nil {
		t.Fatal(err)
	}
	from, to := cl.client(messaging.ClientConfig{Token: "s3cret"}), cl.client(messaging.ClientConfig{Token: "s3cret"})
	s := subscribe(t, to, "x", "")
	publish(t, from, "x", "1")
	expect(t, s, "x", "1")
	for _, token := range []string{"", "guess"} {
		c := cl.client(messaging.ClientConfig{Token: token})
		wantCode(t, c.Publish(ctx(t), anyone, "x", nil), wasmatrix.CodeProviderUnavailable)
	}
	// A change of members leaves clients alone.
	was := messaging.Connected(from)
	cl.add(cfg)
	cl.routed()
	publish(t, from, "x", "2")
	expect(t, s, "x", "2")
	if is := messaging.Connected(from); is != was || was == "" {
		t.Errorf("connected with %q, with %q before", is, was)
	}
	if stranger.Routes() != 0 {
		t.Error("a server with another password is routed to")
	}
}
