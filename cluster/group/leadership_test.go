package group

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// One at a time in the whole group, each under the term it leads in, and each
// returned from before the same server begins another.
func TestLeadRunsUnderTheTermAndIsJoined(t *testing.T) {
	c := newCluster(t, 3, nil)
	type run struct {
		server wasmatrix.ServerID
		term   uint64
	}
	started := make(chan run, 16)
	var mu sync.Mutex
	running := make(map[wasmatrix.ServerID]int)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range c.peers {
		g, id := p.Group, p.conf.ID
		wg.Go(func() {
			g.Lead(ctx, func(ctx context.Context, term uint64) {
				mu.Lock()
				if running[id]++; running[id] > 1 {
					t.Error("work was not joined before the next")
				}
				mu.Unlock()
				started <- run{id, term}
				<-ctx.Done()
				mu.Lock()
				running[id]--
				mu.Unlock()
			})
		})
	}
	next := func() run {
		t.Helper()
		select {
		case r := <-started:
			return r
		case <-within30(t).Done():
			t.Fatal("nobody leads")
			return run{}
		}
	}
	last := run{}
	for range 3 {
		r := next()
		if r.term <= last.term {
			t.Fatalf("term %d after term %d", r.term, last.term)
		}
		l := c.leader()
		if got := l.Leader(); got.Term != r.term || got.ID != r.server || !got.Self {
			t.Fatalf("%+v runs, %+v leads", r, got)
		}
		last = r
		if err := l.TransferLeadership(within30(t), ""); err != nil {
			t.Fatal(err)
		}
	}
	next()
	cancel()
	wg.Wait()
}

func TestLeadEndsWithTheGroup(t *testing.T) {
	c := newCluster(t, 1, nil)
	p := c.peers[0]
	entered, left := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		p.Lead(context.Background(), func(ctx context.Context, _ uint64) {
			close(entered)
			<-ctx.Done()
		})
	}()
	<-entered
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	<-left
}

func TestLeadIsNotRunAgainInATerm(t *testing.T) {
	c := newCluster(t, 1, nil)
	p := c.peers[0]
	ctx, cancel := context.WithCancel(t.Context())
	terms := make(chan uint64, 16)
	var wg sync.WaitGroup
	wg.Go(func() {
		p.Lead(ctx, func(_ context.Context, term uint64) { terms <- term })
	})
	<-terms
	c.must("x") // time passes
	c.must("y")
	cancel()
	wg.Wait()
	if len(terms) != 0 {
		t.Fatalf("work ran again, in term %d", <-terms)
	}
}

func TestLeadershipChanged(t *testing.T) {
	c := newCluster(t, 3, nil)
	l := c.leader()
	watcher := c.others(l)[0]
	changes, cancel := watcher.LeadershipChanged()
	defer cancel()
	slow, cancelSlow := watcher.LeadershipChanged() // nobody receives from it meanwhile
	defer cancelSlow()
	expect := func(id wasmatrix.ServerID) {
		t.Helper()
		for {
			select {
			case now := <-changes:
				if now.ID == id {
					return
				}
			case <-within30(t).Done():
				t.Fatalf("%s was never announced", id)
			}
		}
	}
	expect(l.conf.ID)
	if err := l.TransferLeadership(within30(t), watcher.conf.ID); err != nil {
		t.Fatal(err)
	}
	expect(watcher.conf.ID)
	if now := <-slow; now.ID == l.conf.ID {
		t.Fatalf("a slow receiver finds what is past: %+v", now)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	c := newCluster(t, 1, nil)
	p := c.peers[0]
	c.must("x")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for {
				_, _, err := p.Propose(t.Context(), []byte("y"))
				if err != nil {
					if code := wasmatrix.CodeOf(err); code != wasmatrix.CodeCommunication && code != wasmatrix.CodeNoLeader {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	eventually(t, "some y", func() bool { return slices.Contains(p.machine.all(), "y") })
	for range 2 {
		wg.Go(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := p.Read(t.Context())
	if err == nil {
		t.Fatal("a closed group reads")
	}
	if err := p.AddNonvoter(t.Context(), "z.00000000", "127.0.0.1:1", 0); err == nil {
		t.Fatal("a closed group changes its members")
	}
}
