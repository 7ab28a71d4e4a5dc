package kv_test

import (
	"context"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv"
	"github.com/wasmatrix/wasmatrix/capability/kv/kvtest"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loneGroup is a group of one server, in memory.
type loneGroup struct {
	mu    sync.Mutex
	index uint64
	store *store.Store
}

func (g *loneGroup) Propose(ctx context.Context, command []byte) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the request ended: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.index++
	answer := g.store.Apply(g.index, command)
	if err, ok := answer.(error); ok {
		return nil, err
	}
	return answer, nil
}

func (g *loneGroup) Read(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the request ended: %w", err)
	}
	return nil
}

// newLone returns a server over a group of its own, and clears up in it.
func newLone(tb testing.TB, conf wasmatrix.KVConfig, change ...func(*kv.ServerConfig)) *kv.Server {
	tb.Helper()
	s := store.New(store.Options{})
	c := kv.ServerConfig{
		Group: &loneGroup{store: s}, Store: s,
		Provider: func(wasmatrix.ProviderID) (wasmatrix.KVConfig, error) { return conf, nil },
	}
	for _, f := range change {
		f(&c)
	}
	server := kv.NewServer(c)
	run(tb, server.Run)
	return server
}

// run has a loop run until the test is over.
func run(tb testing.TB, loop func(context.Context)) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { loop(ctx) })
	tb.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func defaults(tb testing.TB) wasmatrix.KVConfig {
	tb.Helper()
	conf, err := wasmatrix.KVConfigOf(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return conf
}

func TestServerKeepsTheContract(t *testing.T) {
	kvtest.Run(t, func(t *testing.T, conf wasmatrix.KVConfig) capability.KV { return newLone(t, conf) })
}
