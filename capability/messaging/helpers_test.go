package messaging_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
)

func TestMain(m *testing.M) {
	runChild()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeExternal()
		os.Exit(code)
	}))
}

// patience bounds what must happen soon on a machine that is busy.
const patience = 30 * time.Second

var anyone = &capability.Scope{Instance: "i-test"}

func logger(tb testing.TB) hclog.Logger {
	if testing.Verbose() {
		return hclog.New(&hclog.LoggerOptions{Name: tb.Name(), Level: hclog.Debug, Output: testWriter{tb}})
	}
	return nil
}

type testWriter struct{ tb testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.tb.Log(string(p))
	return len(p), nil
}

var names atomic.Int64

// cluster is embedded servers and the list of those that are alive.
type cluster struct {
	tb   testing.TB
	mu   sync.Mutex
	live []*messaging.Server
}

func openServer(tb testing.TB, cfg messaging.ServerConfig) *messaging.Server {
	tb.Helper()
	if cfg.Name == "" {
		cfg.Name = fmt.Sprintf("s%d", names.Add(1))
	}
	if cfg.Cluster == "" {
		cfg.Cluster = "test"
	}
	cfg.Bind = "127.0.0.1"
	s, err := messaging.OpenServer(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

// newCluster opens n servers that are routed to one another.
func newCluster(tb testing.TB, n int) *cluster {
	tb.Helper()
	c := &cluster{tb: tb}
	for range n {
		c.add(messaging.ServerConfig{})
	}
	c.routed()
	return c
}

// add opens one more server, and tells all.
func (c *cluster) add(cfg messaging.ServerConfig) *messaging.Server {
	c.tb.Helper()
	s := openServer(c.tb, cfg)
	c.mu.Lock()
	c.live = append(c.live, s)
	c.mu.Unlock()
	c.tell()
	return s
}

// kill closes a server, and tells the others.
func (c *cluster) kill(s *messaging.Server) {
	c.tb.Helper()
	s.Close()
	c.mu.Lock()
	c.live = slices.DeleteFunc(c.live, func(l *messaging.Server) bool { return l == s })
	c.mu.Unlock()
	c.tell()
}

func (c *cluster) servers() []*messaging.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.live)
}

func (c *cluster) tell() {
	c.tb.Helper()
	var routes []string
	for _, s := range c.servers() {
		routes = append(routes, s.Addr().Route)
	}
	for _, s := range c.servers() {
		if err := s.SetPeers(routes); err != nil {
			c.tb.Fatal(err)
		}
	}
}

// addrs is what clients are told.
func (c *cluster) addrs() []string {
	var a []string
	for _, s := range c.servers() {
		a = append(a, s.Addr().Client)
	}
	return a
}

// routed waits until all servers are connected with one another.
func (c *cluster) routed() {
	c.tb.Helper()
	live := c.servers()
	eventually(c.tb, "routes", func() bool {
		return !slices.ContainsFunc(live, func(s *messaging.Server) bool { return s.Routes() != len(live)-1 })
	})
}

func config(tb testing.TB, kv ...string) wasmatrix.MessagingConfig {
	tb.Helper()
	m := make(map[string]string)
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	c, err := wasmatrix.MessagingConfigOf(m)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func newClient(tb testing.TB, cfg messaging.ClientConfig) *messaging.Client {
	tb.Helper()
	if cfg.Name == "" {
		cfg.Name = tb.Name()
	}
	if cfg.Config.MaxMessage == 0 {
		cfg.Config = config(tb)
	}
	if cfg.Logger == nil {
		cfg.Logger = logger(tb)
	}
	c, err := messaging.NewClient(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// client makes one of all live servers.
func (c *cluster) client(cfg messaging.ClientConfig) *messaging.Client {
	c.tb.Helper()
	cfg.Servers = c.addrs
	return newClient(c.tb, cfg)
}

// clientOf makes one of a single server.
func clientOf(tb testing.TB, s *messaging.Server) *messaging.Client {
	tb.Helper()
	return newClient(tb, messaging.ClientConfig{Servers: func() []string { return []string{s.Addr().Client} }})
}

func subscribe(tb testing.TB, c capability.Messaging, topic, group string) capability.Subscription {
	tb.Helper()
	s, err := c.Subscribe(ctx(tb), anyone, topic, group)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func publish(tb testing.TB, c capability.Messaging, topic, data string) {
	tb.Helper()
	if err := c.Publish(ctx(tb), anyone, topic, []byte(data)); err != nil {
		tb.Fatal(err)
	}
}

func receive(tb testing.TB, s capability.Subscription) capability.Message {
	tb.Helper()
	m, err := s.Receive(ctx(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// none fails the test if a message is there, or comes before one that is published
// afterwards under mark, which s must be subscribed to.
func expect(tb testing.TB, s capability.Subscription, topic, data string) {
	tb.Helper()
	m := receive(tb, s)
	if m.Topic != topic || string(m.Data) != data || m.Dropped != 0 {
		tb.Fatalf("received %q on %s after %d dropped, want %q on %s", m.Data, m.Topic, m.Dropped, data, topic)
	}
}

func ctx(tb testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return c
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func wantCode(tb testing.TB, err error, code wasmatrix.Code) {
	tb.Helper()
	if wasmatrix.CodeOf(err) != code {
		tb.Fatalf("error is %v, want %s", err, code)
	}
}
