package group

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/stream"
)

func TestConcurrentReadsShareRounds(t *testing.T) {
	c := newCluster(t, 3, nil)
	l := c.leader()
	before, last := l.transport.now(), l.Stats().LastIndex
	const n = 500
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := l.Read(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if sent := l.transport.now() - before; sent > n {
		t.Fatalf("%d requests to peers for %d reads", sent, n)
	}
	if now := l.Stats().LastIndex; now != last {
		t.Fatalf("reads wrote %d entries", now-last)
	}
}

// The property behind I2: whoever reads through Read finds everything that was
// acknowledged before, wherever the leadership is going meanwhile.
func TestI2_ReadsAreNeverStale(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.leader()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	var mu sync.Mutex
	var acknowledged []string
	reads, writes := 0, 0
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, p := range c.peers {
		g := p.Group
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				command := strconv.Itoa(i) + "-" + strconv.Itoa(n)
				try, done := context.WithTimeout(ctx, 500*time.Millisecond)
				_, _, err := g.Propose(try, []byte(command))
				done()
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, command)
					writes++
					mu.Unlock()
				}
				time.Sleep(time.Millisecond)
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				must := slices.Clone(acknowledged[max(0, len(acknowledged)-20):])
				mu.Unlock()
				try, done := context.WithTimeout(ctx, 500*time.Millisecond)
				_, err := g.Read(try)
				done()
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				is := p.machine.all()
				for _, command := range must {
					if !slices.Contains(is, command) {
						t.Errorf("server %s read without %s, acknowledged before", p.conf.ID, command)
						cancel()
						return
					}
				}
				mu.Lock()
				reads++
				mu.Unlock()
			}
		})
	}
	for range 12 {
		p := c.peers[random.IntN(3)]
		for _, q := range c.peers {
			if q.Leader().Self && random.IntN(3) > 0 {
				p = q // rather the leader
			}
		}
		if random.IntN(3) == 0 {
			try, done := context.WithTimeout(ctx, time.Second)
			_ = p.TransferLeadership(try, "") // also by servers that cannot
			done()
		} else {
			p.valve.close()
			time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
			p.valve.open()
		}
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
	}
	eventually(t, "reads and writes in number", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return t.Failed() || reads > 50 && writes > 50
	})
	cancel()
	wg.Wait()
	t.Logf("%d reads and %d writes", reads, writes)
}

func transports(t *testing.T) (from, to *transport) {
	t.Helper()
	var all []*transport
	var addrs []string
	for _, id := range []wasmatrix.ServerID{"a.00000000", "b.00000000"} {
		l, err := stream.Listen(stream.Config{Bind: "127.0.0.1:0", Self: id})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		layer, err := l.Layer("test")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		resolve := func(id wasmatrix.ServerID) (string, bool) { return addrs[id[0]-'a'], true }
		tr := newTransport(layer, 5*time.Second, resolve, hclog.NewNullLogger())
		t.Cleanup(func() { _ = tr.Close() })
		all = append(all, tr)
	}
	return all[0], all[1]
}

func heartbeat(term uint64) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("a.00000000"), Addr: []byte("a:1")},
		Term:      term,
	}
}

// raft#695: a heartbeat must reach the main loop, through Consumer, although
// raft sets a handler that would take it on the transport's goroutine.
func TestHeartbeatsTakeTheMainLoop(t *testing.T) {
	from, to := transports(t)
	to.SetHeartbeatHandler(func(rpc raft.RPC) {
		t.Error("a heartbeat took the short cut")
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	done := make(chan error, 1)
	var resp raft.AppendEntriesResponse
	go func() { done <- from.AppendEntries("b.00000000", "", heartbeat(7), &resp) }()
	select {
	case rpc := <-to.Consumer():
		if req, ok := rpc.Command.(*raft.AppendEntriesRequest); !ok || req.Term != 7 {
			t.Errorf("the main loop got %#v", rpc.Command)
		}
		rpc.Respond(&raft.AppendEntriesResponse{Term: 7, Success: true}, nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	case err := <-done:
		t.Fatalf("answered beside the main loop: %v", err)
	}
}

func TestNoPipeline(t *testing.T) {
	from, _ := transports(t)
	if _, err := from.AppendEntriesPipeline("b.00000000", ""); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Fatalf("a pipeline: %v", err)
	}
}

// What a follower said before a read began says nothing about the time of the
// read, however late it arrives: raft's VerifyLeader would count it.
func TestLateAnswersConfirmNothing(t *testing.T) {
	from, to := transports(t)
	const peer = raft.ServerID("b.00000000")
	ask := func(term uint64) (raft.RPC, chan error) {
		done := make(chan error, 1)
		go func() {
			var resp raft.AppendEntriesResponse
			done <- from.AppendEntries(peer, "", heartbeat(term), &resp)
		}()
		return <-to.Consumer(), done
	}
	answer := func(rpc raft.RPC, done chan error, term uint64, success bool) {
		t.Helper()
		rpc.Respond(&raft.AppendEntriesResponse{Term: term, Success: success}, nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}

	early, earlyDone := ask(7)
	mark := from.now()
	answer(early, earlyDone, 7, true)
	if from.confirmed(peer, 7, mark) {
		t.Fatal("an answer to an earlier request confirms the read")
	}
	late, lateDone := ask(7)
	answer(late, lateDone, 7, false) // of our term, though it cannot append
	if !from.confirmed(peer, 7, mark) {
		t.Fatal("an answer to a later request does not confirm the read")
	}
	if from.confirmed(peer, 8, mark) || from.confirmed("c.00000000", 7, mark) {
		t.Fatal("an answer confirms another term, or another peer")
	}
	mark = from.now()
	newer, newerDone := ask(7)
	answer(newer, newerDone, 9, false)
	if from.confirmed(peer, 7, mark) || from.confirmed(peer, 9, mark) {
		t.Fatal("a peer of a later term confirms ours")
	}
}

// An election must not be lost because a peer has restarted since the last one.
func TestVotesSurviveARestartOfThePeer(t *testing.T) {
	c := newPeers(t, 2, nil)
	a, b := c.peers[0], c.peers[1]
	ask := func() error {
		var resp raft.RequestVoteResponse
		return a.transport.RequestVote(raft.ServerID(b.conf.ID), "", &raft.RequestVoteRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(a.conf.ID), Addr: []byte("a:1")},
		}, &resp)
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.open()
	if err := ask(); err != nil {
		t.Fatal(err)
	}
}

// A leader that is stopped in its tracks, as by SIGSTOP or a hanging disk, does
// not notice that its lease has run out and another leads. Its reads must wait
// for the others' word, and not take for it what they said before.
func TestI2_StoppedLeaderReadsNothingStale(t *testing.T) {
	c, faults := faulty(t, func(conf *Config) { conf.StallAfter = time.Hour })
	c.must("old")
	l := c.leader()
	release, hung := make(chan struct{}), make(chan struct{}, 64)
	faults[l].befall(func() error { hung <- struct{}{}; <-release; return nil })
	go func() { _, _, _ = l.Propose(within30(t), []byte("hung")) }()
	<-hung
	l.valve.close()
	next := c.leader(c.others(l)...)
	if _, _, err := next.Propose(within30(t), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if !l.Leader().Self {
		t.Fatal("the stopped leader has noticed: this test has lost its ground")
	}
	read := make(chan error, 1)
	go func() { _, err := l.Read(within30(t)); read <- err }()
	select {
	case err := <-read:
		t.Fatalf("a leader that is cut off confirmed its read: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.valve.open()
	close(release)
	if err := <-read; err == nil && !slices.Contains(l.machine.all(), "new") {
		t.Fatal("a stale read")
	}
}
