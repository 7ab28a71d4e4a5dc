package gossip

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick makes a cluster on loopback notice everything within a fraction of a second.
var quick = Timing{
	ProbeInterval: 100 * time.Millisecond, GossipInterval: 20 * time.Millisecond,
	PushPullInterval: 500 * time.Millisecond, ReclaimTime: 200 * time.Millisecond,
	RetryInterval: 50 * time.Millisecond, RetryMax: 200 * time.Millisecond,
	ReconnectInterval: 200 * time.Millisecond,
}

func open(t *testing.T, role Role, name string, change ...func(*Config)) *Gossip {
	t.Helper()
	cfg := Config{Role: role, Name: name, Bind: "127.0.0.1:0", Timing: quick, Logger: hclog.NewNullLogger()}
	for _, c := range change {
		c(&cfg)
	}
	g, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// await reads Members after every change until ok says yes.
func await(t *testing.T, g *Gossip, what string, ok func(map[string]Member) bool) {
	t.Helper()
	changed, stop := g.Subscribe()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		members := make(map[string]Member)
		for _, m := range g.Members() {
			members[m.memberName()] = m
		}
		if ok(members) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s never saw %s; it sees %+v", g.name, what, members)
		}
	}
}

func status(name string, s Status) func(map[string]Member) bool {
	return func(m map[string]Member) bool { return m[name].Status == s }
}

func join(t *testing.T, g, to *Gossip) {
	t.Helper()
	if n, err := g.Join(t.Context(), []string{to.Addr()}); n != 1 || err != nil {
		t.Fatalf("join: %d, %v", n, err)
	}
}

func TestMembersShowTagsAndTheirChanges(t *testing.T) {
	a := open(t, RoleServer, "a", func(c *Config) {
		c.Tags = Tags{Server: "a.00000001", RaftAddr: "127.0.0.1:1", APIAddr: "127.0.0.1:2", Version: "1", Expect: 3}
	})
	b := open(t, RoleNode, "a") // the same name in another role is no conflict
	join(t, b, a)
	await(t, b, "a's tags", func(m map[string]Member) bool {
		s := m["server/a"]
		return s.Server == "a.00000001" && s.RaftAddr == "127.0.0.1:1" && s.Expect == 3 && s.Status == StatusAlive && !s.Self && m["node/a"].Self
	})
	if err := a.SetTags(func(t *Tags) { t.Cluster, t.HasState, t.Name = "c1", true, "other" }); err != nil {
		t.Fatal(err)
	}
	await(t, b, "a's cluster", func(m map[string]Member) bool { return m["server/a"].Cluster == "c1" && m["server/a"].HasState })
	if got := a.Tags(); got.Name != "a" {
		t.Errorf("SetTags changed the name to %q", got.Name)
	}
	if ms := b.Members(); len(ms) != 2 || ms[0].Role != RoleServer {
		t.Errorf("members = %+v, want the server before the node", ms)
	}
}

func TestDeadAndLeftAreToldApart(t *testing.T) {
	a, b, c := open(t, RoleServer, "a"), open(t, RoleServer, "b"), open(t, RoleServer, "c")
	join(t, b, a)
	join(t, c, a)
	await(t, a, "both", func(m map[string]Member) bool { return len(m) == 3 })
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b left and c dead", func(m map[string]Member) bool {
		return m["server/b"].Status == StatusLeft && m["server/c"].Status == StatusDead
	})
}

func TestRetryJoinFindsAMemberThatComesLater(t *testing.T) {
	port := freePort(t)
	b := open(t, RoleServer, "b", func(c *Config) { c.RetryJoin = []string{port} })
	a := open(t, RoleServer, "a", func(c *Config) { c.Bind = port })
	await(t, b, "a", status("server/a", StatusAlive))
	await(t, a, "b", status("server/b", StatusAlive))
}

// TestNodesDoNotContentThemselvesWithNodes: two that have found each other go on
// to look for a server.
func TestNodesDoNotContentThemselvesWithNodes(t *testing.T) {
	port := freePort(t)
	patient := func(c *Config) { c.Timing.ReconnectInterval = time.Hour }
	a := open(t, RoleNode, "a", patient)
	b := open(t, RoleNode, "b", patient, func(c *Config) { c.RetryJoin = []string{a.Addr(), port} })
	await(t, b, "a", status("node/a", StatusAlive))
	open(t, RoleServer, "s", patient, func(c *Config) { c.Bind = port })
	await(t, a, "s", status("server/s", StatusAlive))
	await(t, b, "s", status("server/s", StatusAlive))
}

func TestPeersAreRememberedOverARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers")
	remember := func(c *Config) { c.PeersFile = file }
	a := open(t, RoleServer, "a")
	b := open(t, RoleServer, "b", remember)
	addr := b.Addr()
	join(t, b, a)
	await(t, b, "a", status("server/a", StatusAlive))
	for len(b.loadPeers()) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("nothing was remembered")
		}
		time.Sleep(10 * time.Millisecond) // a file has no event to wait for
	}
	b.Close()
	await(t, a, "b dead", status("server/b", StatusDead))
	b = open(t, RoleServer, "b", remember, func(c *Config) { c.Bind = addr })
	await(t, b, "a again", status("server/a", StatusAlive))
	await(t, a, "b again", status("server/b", StatusAlive))
}

func TestADeadMemberIsContactedAgain(t *testing.T) {
	a, b := open(t, RoleServer, "a"), open(t, RoleServer, "b")
	c := open(t, RoleServer, "c") // so that a is never alone
	join(t, b, a)
	join(t, c, a)
	await(t, a, "b", status("server/b", StatusAlive))
	addr := b.Addr()
	b.Close()
	await(t, a, "b dead", status("server/b", StatusDead))
	// b comes back and contacts nobody.
	open(t, RoleServer, "b", func(c *Config) { c.Bind = addr })
	await(t, a, "b again", status("server/b", StatusAlive))
}

func TestADeadNameMayMoveToAnotherAddress(t *testing.T) {
	a, b := open(t, RoleServer, "a"), open(t, RoleServer, "b")
	join(t, b, a)
	await(t, a, "b", status("server/b", StatusAlive))
	b.Close()
	await(t, a, "b dead", status("server/b", StatusDead))
	b = open(t, RoleServer, "b", func(c *Config) { c.RetryJoin = []string{a.Addr()} })
	await(t, a, "b at its new address", func(m map[string]Member) bool {
		return m["server/b"].Status == StatusAlive && m["server/b"].Addr == b.Addr()
	})
}

func TestAnotherClusterIsRefused(t *testing.T) {
	in := func(id wasmatrix.ClusterID) func(*Config) { return func(c *Config) { c.Tags.Cluster = id } }
	noConflict := func(c *Config) { c.OnConflict = func(err error) { t.Errorf("names conflict: %v", err) } }
	a := open(t, RoleServer, "a", in("one"), noConflict)
	for _, name := range []string{"b", "a"} { // names are given anew in each cluster
		b := open(t, RoleServer, name, in("two"), noConflict)
		_, err := a.Join(t.Context(), []string{b.Addr()})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeConflict || !strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), "two") {
			t.Fatalf("join %s = %v, want CONFLICT naming both clusters", name, err)
		}
		if len(a.Members()) != 1 || len(b.Members()) != 1 {
			t.Fatalf("they met: %+v, %+v", a.Members(), b.Members())
		}
	}
	// A newcomer without a cluster may join either.
	n := open(t, RoleNode, "n")
	join(t, n, a)
	await(t, a, "n", status("node/n", StatusAlive))
}

func TestAKnownMemberThatEntersAnotherClusterIsNoLongerShown(t *testing.T) {
	a, b := open(t, RoleServer, "a"), open(t, RoleServer, "b")
	join(t, a, b)
	await(t, b, "a", status("server/a", StatusAlive))
	if err := a.SetTags(func(t *Tags) { t.Cluster = "one" }); err != nil {
		t.Fatal(err)
	}
	await(t, b, "a's cluster", func(m map[string]Member) bool { return m["server/a"].Cluster == "one" })
	if err := b.SetTags(func(t *Tags) { t.Cluster = "two" }); err != nil {
		t.Fatal(err)
	}
	alone := func(m map[string]Member) bool { return len(m) == 1 }
	await(t, b, "nobody", alone)
	await(t, a, "nobody", alone)
}

func TestTwoLiveMembersWithOneName(t *testing.T) {
	var mu sync.Mutex
	conflicts := make(map[string]error)
	heard := make(chan struct{}, 2)
	watch := func(who string) func(*Config) {
		return func(c *Config) {
			c.OnConflict = func(err error) {
				mu.Lock()
				defer mu.Unlock()
				conflicts[who] = err
				heard <- struct{}{}
			}
		}
	}
	seed := open(t, RoleServer, "seed")
	first := open(t, RoleServer, "a", watch("first"))
	join(t, first, seed)
	await(t, seed, "a", status("server/a", StatusAlive))
	time.Sleep(2 * time.Millisecond) // so that the start times differ
	open(t, RoleServer, "a", watch("second"), func(c *Config) { c.RetryJoin = []string{seed.Addr()} })
	select {
	case <-heard:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody noticed")
	}
	mu.Lock()
	defer mu.Unlock()
	if conflicts["first"] != nil || wasmatrix.CodeOf(conflicts["second"]) != wasmatrix.CodeConflict || !strings.Contains(conflicts["second"].Error(), `"a"`) {
		t.Errorf("conflicts = %v, want the newcomer alone to be told", conflicts)
	}
}

func TestTagsMustFit(t *testing.T) {
	_, err := Open(Config{Role: RoleServer, Name: "a", Bind: "127.0.0.1:0", Tags: Tags{Version: strings.Repeat("v", 500)}})
	if wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
		t.Errorf("open = %v, want VALIDATION_ERROR", err)
	}
	g := open(t, RoleServer, "a")
	if err := g.SetTags(func(t *Tags) { t.APIAddr = strings.Repeat("a", 500) }); wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
		t.Errorf("SetTags = %v, want VALIDATION_ERROR", err)
	}
	if g.Tags().APIAddr != "" {
		t.Error("tags that do not fit were kept")
	}
}

func TestTheLongestTagsFit(t *testing.T) {
	name := strings.Repeat("n", 64)
	_, err := encodeTags(Tags{
		Role: RoleServer, Name: name, Started: time.Now().UnixMilli(), Server: wasmatrix.ServerID(name + ".01234567"),
		Cluster: wasmatrix.ClusterID(strings.Repeat("c", 36)), APIAddr: "[2001:0db8:85a3:0000:0000:8a2e:0370:7334]:65535",
		RaftAddr: "[2001:0db8:85a3:0000:0000:8a2e:0370:7334]:65535", Version: "100.100.100-rc.1+0123456789ab", Expect: 1000, HasState: true, Leaving: true,
	})
	if err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	taken := open(t, RoleServer, "taken")
	for what, c := range map[string]struct {
		cfg  Config
		code wasmatrix.Code
		says string
	}{
		"a bad name":      {Config{Role: RoleServer, Name: "a/b", Bind: "127.0.0.1:0"}, wasmatrix.CodeInvalidRequest, "agent name"},
		"no role":         {Config{Name: "a", Bind: "127.0.0.1:0"}, wasmatrix.CodeInvalidRequest, "role"},
		"a host to bind":  {Config{Role: RoleNode, Name: "a", Bind: "localhost:0"}, wasmatrix.CodeInvalidRequest, "localhost:0"},
		"no port to bind": {Config{Role: RoleNode, Name: "a", Bind: "127.0.0.1"}, wasmatrix.CodeInvalidRequest, "127.0.0.1"},
		"a port in use":   {Config{Role: RoleNode, Name: "a", Bind: taken.Addr()}, wasmatrix.CodeConflict, "already in use"},
	} {
		g, err := Open(c.cfg)
		if err == nil {
			g.Close()
		}
		if wasmatrix.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s about %q", what, err, c.code, c.says)
		}
	}
}

func TestCloseIsIdempotentAndEndsEverything(t *testing.T) {
	g := open(t, RoleServer, "a", func(c *Config) { c.RetryJoin = []string{"127.0.0.1:1"} })
	for range 2 {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.Join(t.Context(), []string{"127.0.0.1:1"}); err == nil {
		t.Error("a closed member joined")
	}
	if err := g.SetTags(func(t *Tags) { t.Expect = 1 }); err == nil {
		t.Error("a closed member took tags")
	}
	if err := g.Leave(t.Context()); err == nil {
		t.Error("a closed member left")
	}
}

func TestLoggerMapsLevels(t *testing.T) {
	var out strings.Builder
	l := newLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: io.Writer(&out), DisableTime: true}))
	l.Print("[ERR] memberlist: Conflicting address for a")
	l.Print("[ERR] memberlist: Failed fallback TCP ping: timeout")
	l.Print("[INFO] memberlist: Suspect a has failed")
	if got, want := out.String(), "[WARN]  Conflicting address for a\n"; got != want {
		t.Errorf("log = %q, want %q", got, want)
	}
}

func FuzzDecodeTags(f *testing.F) {
	b, err := encodeTags(Tags{Role: RoleServer, Name: "a", Server: "a.00000000", Cluster: "c"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("server/a", b)
	f.Add("node/a", []byte(`{"r":"node","n":"a","future":[1,2]}`))
	f.Add("a", []byte(`{}`))
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		tags, err := decodeTags(name, meta)
		if err != nil {
			return
		}
		if tags.memberName() != name {
			t.Fatalf("tags of %q accepted for %q", tags.memberName(), name)
		}
		again, err := encodeTags(tags)
		if err != nil {
			return // escapes may make it longer than it was
		}
		if back, err := decodeTags(name, again); err != nil || back != tags {
			t.Fatalf("%+v came back as %+v, %v", tags, back, err)
		}
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "127.0.0.1:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
