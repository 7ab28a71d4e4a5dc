package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; nothing is expected to take that long.
const patience = 60 * time.Second

// words is a state machine that keeps every command. The command "cluster:X"
// gives the cluster its identity, the first one counts.
type words struct {
	mu      sync.Mutex
	all     []string
	cluster wasmatrix.ClusterID
	named   chan wasmatrix.ClusterID // holds the identity once it is known
}

func newWords() *words { return &words{named: make(chan wasmatrix.ClusterID, 1)} }

func (w *words) Apply(_ uint64, cmd []byte) any {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id, ok := strings.CutPrefix(string(cmd), "cluster:"); ok {
		w.name(wasmatrix.ClusterID(id))
		return w.cluster
	}
	if string(cmd) == "panic" {
		panic("as asked")
	}
	if string(cmd) == "refuse" {
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "refused")
	}
	w.all = append(w.all, string(cmd))
	return len(w.all)
}

func (w *words) name(id wasmatrix.ClusterID) {
	if w.cluster == "" && id != "" {
		w.cluster = id
		w.named <- id
	}
}

type image struct {
	Words   []string
	Cluster wasmatrix.ClusterID
}

func (w *words) Snapshot() func(io.Writer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	img := image{slices.Clone(w.all), w.cluster}
	return func(to io.Writer) error { return json.NewEncoder(to).Encode(img) }
}

func (w *words) Restore(from io.Reader) error {
	var img image
	if err := json.NewDecoder(from).Decode(&img); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = img.Words
	w.name(img.Cluster)
	return nil
}

func (w *words) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

// testServer is a running server and what starts it again.
type testServer struct {
	*Cluster
	t       *testing.T
	cfg     Config
	words   *words
	kv      *words // of the hosted group, where there is one
	fatal   chan error
	removed chan struct{}
	wired   sync.WaitGroup
	stop    context.CancelFunc
}

// start opens a server on loopback, with real disks and small timings. It does
// for the cluster's identity what the wiring of the product does.
func start(t *testing.T, name string, expect int, change ...func(*Config)) *testServer {
	t.Helper()
	cfg := Config{
		Name: name, DataDir: filepath.Join(t.TempDir(), name), BindAddr: "127.0.0.1", APIAddr: "api-of-" + name,
		BootstrapExpect: expect, Version: "test",
		Timing: group.Timing{
			Heartbeat: 600 * time.Millisecond, Election: 600 * time.Millisecond,
			LeaderLease: 500 * time.Millisecond, Commit: 10 * time.Millisecond,
		},
		GossipTiming: gossip.Timing{
			ProbeInterval: 100 * time.Millisecond, GossipInterval: 20 * time.Millisecond,
			PushPullInterval: 500 * time.Millisecond, ReclaimTime: 200 * time.Millisecond,
			RetryInterval: 50 * time.Millisecond, RetryMax: 200 * time.Millisecond,
			ReconnectInterval: 200 * time.Millisecond,
		},
		Autopilot: Autopilot{
			UpdateInterval: 100 * time.Millisecond, ReconcileInterval: 100 * time.Millisecond,
			StabilizationTime: 200 * time.Millisecond, LastContactThreshold: 2 * time.Second,
			DeadServerGrace: time.Hour, AdmissionInterval: 100 * time.Millisecond,
		},
		Verify: func(r io.Reader) error { return json.NewDecoder(r).Decode(new(image)) },
		Logger: hclog.NewNullLogger(),
	}
	if os.Getenv("CLUSTER_TEST_LOG") != "" {
		cfg.Logger = hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Debug, Output: os.Stderr})
	}
	for _, c := range change {
		c(&cfg)
	}
	s := &testServer{t: t, cfg: cfg}
	s.open()
	t.Cleanup(s.kill)
	return s
}

func joining(others ...*testServer) func(*Config) {
	return func(c *Config) {
		for _, o := range others {
			c.RetryJoin = append(c.RetryJoin, o.Addrs().Gossip)
		}
	}
}

func (s *testServer) open() {
	s.t.Helper()
	if err := s.tryOpen(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *testServer) tryOpen() error {
	s.words, s.fatal, s.removed = newWords(), make(chan error, 1), make(chan struct{}, 1)
	words, fatal, removed := s.words, s.fatal, s.removed
	cfg := s.cfg
	cfg.Machine = words
	cfg.Groups = slices.Clone(cfg.Groups)
	for i := range cfg.Groups {
		s.kv = newWords()
		cfg.Groups[i].Machine = s.kv
	}
	cfg.OnFatal = func(err error) { fatal <- err }
	cfg.OnRemoved = func() { removed <- struct{}{} }
	c, err := Open(s.t.Context(), cfg)
	if err != nil {
		return err
	}
	s.Cluster = c
	// A restart finds the server where it was.
	s.cfg.RaftPort, s.cfg.GossipPort = port(s.t, c.Addrs().Raft), port(s.t, c.Addrs().Gossip)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.wired.Go(func() {
		c.Lead(ctx, func(ctx context.Context, term uint64) {
			_, _ = c.Propose(ctx, fmt.Appendf(nil, "cluster:cluster-of-%s-%d", cfg.Name, term))
		})
	})
	s.wired.Go(func() {
		select {
		case id := <-words.named:
			if err := c.SetClusterID(id); err != nil {
				fatal <- err
			}
		case <-ctx.Done():
		}
	})
	return nil
}

func port(t *testing.T, addr string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// kill stops the server without a word to the others.
func (s *testServer) kill() {
	s.stop()
	if err := s.Close(); err != nil {
		s.t.Error(err)
	}
	s.wired.Wait()
}

func (s *testServer) wipe() {
	s.t.Helper()
	if err := os.RemoveAll(s.cfg.DataDir); err != nil {
		s.t.Fatal(err)
	}
}

// eventually looks until ok says yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// leaderOf waits until all servers know one leader, which is one of them.
func leaderOf(t *testing.T, servers ...*testServer) *testServer {
	t.Helper()
	var leader *testServer
	eventually(t, "one leader that all know", func() bool {
		leader = nil
		id := servers[0].Leader().ID
		for _, s := range servers {
			l := s.Leader()
			if !l.Known || l.ID != id {
				return false
			}
			if l.Self {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

// asLeader runs f on whoever leads, again where leadership was lost meanwhile,
// and returns its last error.
func asLeader(t *testing.T, servers []*testServer, f func(*testServer) error) error {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := f(leaderOf(t, servers...))
		switch wasmatrix.CodeOf(err) {
		case wasmatrix.CodeNotLeader, wasmatrix.CodeNoLeader, wasmatrix.CodeCommunication:
			if time.Now().Before(deadline) {
				continue
			}
		default:
		}
		return err
	}
}

// write proposes a word to whoever leads until it is acknowledged.
func write(t *testing.T, word string, servers ...*testServer) {
	t.Helper()
	var last error
	eventually(t, "an acknowledged write", func() bool {
		for _, s := range servers {
			if !s.Leader().Self {
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, last = s.Propose(ctx, []byte(word))
			cancel()
			return last == nil
		}
		return false
	})
}

// holds waits until each server has applied the word.
func holds(t *testing.T, word string, servers ...*testServer) {
	t.Helper()
	for _, s := range servers {
		eventually(t, s.cfg.Name+" has "+word, func() bool { return slices.Contains(s.words.list(), word) })
	}
}

// configuration waits until a server's peers are these: a name with "*" is a
// non-voter.
func configuration(t *testing.T, s *testServer, want string) {
	t.Helper()
	configurationOf(t, s, s.control, want)
}

// configurationOf is configuration of one of the server's groups.
func configurationOf(t *testing.T, s *testServer, h *HostedGroup, want string) {
	t.Helper()
	got := ""
	defer func() {
		if t.Failed() {
			t.Logf("%s sees %q in group %s", s.cfg.Name, got, h.conf.Name)
		}
	}()
	eventually(t, s.cfg.Name+" sees the configuration "+want+" of group "+h.conf.Name, func() bool {
		var names []string
		for _, p := range h.Servers() {
			name := nameOf(p.ID)
			if !p.Voter {
				name += "*"
			}
			names = append(names, name)
		}
		slices.Sort(names)
		got = strings.Join(names, " ")
		return got == want
	})
}

// three starts servers a, b and c of one new cluster.
func three(t *testing.T, change ...func(*Config)) []*testServer {
	t.Helper()
	a := start(t, "a", 3, change...)
	b := start(t, "b", 3, append(change, joining(a))...)
	c := start(t, "c", 3, append(change, joining(a, b))...)
	all := []*testServer{a, b, c}
	write(t, "first", all...)
	holds(t, "first", all...)
	eventually(t, "all know the cluster's identity", func() bool {
		return !slices.ContainsFunc(all, func(s *testServer) bool { return s.Identity().Cluster == "" })
	})
	return all
}

func others(all []*testServer, but *testServer) []*testServer {
	return slices.DeleteFunc(slices.Clone(all), func(s *testServer) bool { return s == but })
}
