package kv_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv"
	"github.com/wasmatrix/wasmatrix/capability/kv/kvtest"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
	"github.com/wasmatrix/wasmatrix/cluster/group"
	"github.com/wasmatrix/wasmatrix/cluster/stream"
)

// raftServer is one server of a real group. Its API address is its ID.
type raftServer struct {
	tb   testing.TB
	all  *raftServers
	id   wasmatrix.ServerID
	dir  string
	bind string

	mu     sync.RWMutex
	stream *stream.Listener
	group  *group.Group
	server *kv.Server
	ended  context.CancelFunc
	leads  sync.WaitGroup
}

// raftServers are three of them.
type raftServers struct {
	tb   testing.TB
	conf wasmatrix.KVConfig

	mu      sync.Mutex
	servers []*raftServer
	addrs   map[wasmatrix.ServerID]string
}

func newRaft(tb testing.TB, conf wasmatrix.KVConfig) *raftServers {
	tb.Helper()
	all := &raftServers{tb: tb, conf: conf, addrs: make(map[wasmatrix.ServerID]string)}
	var members []group.Server
	for i := range 3 {
		id := wasmatrix.ServerID(fmt.Sprintf("%c.%08x", 'a'+i, i))
		s := &raftServer{tb: tb, all: all, id: id, dir: filepath.Join(tb.TempDir(), string(id)), bind: "127.0.0.1:0"}
		s.open()
		tb.Cleanup(s.close)
		all.servers = append(all.servers, s)
		members = append(members, group.Server{ID: id, Addr: s.bind, Voter: true})
	}
	if err := all.servers[0].group.Bootstrap(members); err != nil {
		tb.Fatal(err)
	}
	return all
}

func (s *raftServer) open() {
	s.tb.Helper()
	l, err := stream.Listen(stream.Config{Bind: s.bind, Self: s.id, Logger: hclog.NewNullLogger()})
	if err != nil {
		s.tb.Fatal(err)
	}
	s.bind = l.Addr().String()
	s.all.mu.Lock()
	s.all.addrs[s.id] = s.bind
	s.all.mu.Unlock()
	st := store.New(store.Options{})
	g, err := group.Open(group.Config{
		Name: "kv", Dir: s.dir, ID: s.id, Stream: l, Machine: st, Verify: store.Verify,
		Timing:            group.Timing{Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, LeaderLease: 200 * time.Millisecond, Commit: 10 * time.Millisecond},
		SnapshotThreshold: 100, SnapshotInterval: 100 * time.Millisecond, TrailingLogs: 20, // so that snapshots are restored
		RPCTimeout: time.Second,
		Resolve: func(id wasmatrix.ServerID) (string, bool) {
			s.all.mu.Lock()
			defer s.all.mu.Unlock()
			addr, ok := s.all.addrs[id]
			return addr, ok
		},
		Fatal: func(err error) { s.tb.Errorf("server %s: %v", s.id, err) },
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := kv.NewServer(kv.ServerConfig{
		Group: hosted{g}, Store: st,
		Provider: func(wasmatrix.ProviderID) (wasmatrix.KVConfig, error) { return s.all.conf, nil },
	})
	s.leads.Go(func() { g.Lead(ctx, func(ctx context.Context, _ uint64) { server.Run(ctx) }) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream, s.group, s.server, s.ended = l, g, server, cancel
}

func (s *raftServer) close() {
	s.mu.Lock()
	g, l, ended := s.group, s.stream, s.ended
	s.group, s.server = nil, nil
	s.mu.Unlock()
	if g == nil {
		return
	}
	ended()
	_ = l.Close()
	_ = g.Close()
	s.leads.Wait()
}

// hosted names leaders by their API addresses.
type hosted struct{ *group.Group }

func (h hosted) named(err error) error {
	if err == nil {
		return nil
	}
	e := wasmatrix.AsError(err)
	if id := e.Details[group.DetailLeaderID]; id != "" {
		return e.With(wasmatrix.DetailLeader, id)
	}
	return err
}

func (h hosted) Propose(ctx context.Context, command []byte) (any, error) {
	answer, _, err := h.Group.Propose(ctx, command)
	return answer, h.named(err)
}

func (h hosted) Read(ctx context.Context) error {
	_, err := h.Group.Read(ctx)
	return h.named(err)
}

// Dial returns a server as it is at each call, or what is said of one that is down.
func (all *raftServers) Dial(addr string) capability.KV {
	for _, s := range all.servers {
		if string(s.id) == addr {
			return dialled{s}
		}
	}
	return dialled{}
}

type dialled struct{ s *raftServer }

func (d dialled) up() (*kv.Server, error) {
	if d.s != nil {
		d.s.mu.RLock()
		defer d.s.mu.RUnlock()
		if d.s.server != nil {
			return d.s.server, nil
		}
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeCommunication, "connection refused").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

func (d dialled) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	server, err := d.up()
	if err != nil {
		return capability.Entry{}, false, err
	}
	return server.Get(ctx, s, key)
}

func (d dialled) Set(ctx context.Context, s *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	server, err := d.up()
	if err != nil {
		return 0, err
	}
	return server.Set(ctx, s, key, value, o)
}

func (d dialled) Delete(ctx context.Context, s *capability.Scope, key string, id capability.WriteID) (bool, error) {
	server, err := d.up()
	if err != nil {
		return false, err
	}
	return server.Delete(ctx, s, key, id)
}

func (d dialled) List(ctx context.Context, s *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	server, err := d.up()
	if err != nil {
		return capability.Page{}, err
	}
	return server.List(ctx, s, q)
}

func (all *raftServers) client() *kv.Client {
	return kv.NewClient(kv.ClientConfig{
		Dialer: all, Attempt: 500 * time.Millisecond,
		Servers: func() []string {
			var ids []string
			for _, s := range all.servers {
				ids = append(ids, string(s.id))
			}
			return ids
		},
	})
}

// leader returns the one that leads at the moment, or nil.
func (all *raftServers) leader() *raftServer {
	for _, s := range all.servers {
		s.mu.RLock()
		leads := s.group != nil && s.group.Leader().Self
		s.mu.RUnlock()
		if leads {
			return s
		}
	}
	return nil
}

// settled waits until all servers have applied the same, and holds their states
// against each other.
func (all *raftServers) settled() {
	all.tb.Helper()
	end := time.Now().Add(kvtest.Patience)
	for {
		var stats []store.Stats
		for _, s := range all.servers {
			stats = append(stats, s.server.Store.Stats())
		}
		if stats[0] == stats[1] && stats[1] == stats[2] {
			break
		}
		if time.Now().After(end) {
			all.tb.Fatalf("the servers do not come to one state: %+v", stats)
		}
		time.Sleep(10 * time.Millisecond)
	}
	first := all.servers[0].server.Store.Hash()
	for _, s := range all.servers[1:] {
		if s.server.Store.Hash() != first {
			all.tb.Errorf("server %s has another state than the first", s.id)
		}
	}
}
