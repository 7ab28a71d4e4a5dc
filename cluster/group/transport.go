package group

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/stream"
)

// maxPool is how many idle connections to a peer are kept.
const maxPool = 3

// transport is raft's network transport with three changes: it has no short
// cut for heartbeats, its targets say which server is meant, and it remembers
// which peers confirmed our term when, which is what reads rest on.
type transport struct {
	*raft.NetworkTransport
	resolve func(wasmatrix.ServerID) (string, bool)
	hurry   time.Duration // what a request may take to be worth repeating
	// starting is called when raft has read its disk and is about to start its
	// goroutines.
	starting func()
	// timeoutNow replaces the request that hands leadership over, in tests.
	timeoutNow func() error

	mu    sync.Mutex
	clock uint64 // counts the append requests sent
	acks  map[raft.ServerID]ack
	acked chan struct{} // has a token when acks changed since it was last taken
}

// ack is the latest append request that a peer confirmed as being of its own
// term.
type ack struct {
	term uint64
	sent uint64 // its place in the order of all requests sent
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(layer raft.StreamLayer, timeout time.Duration, resolve func(wasmatrix.ServerID) (string, bool), log hclog.Logger) *transport {
	return &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:  layer,
			MaxPool: maxPool,
			// The pipeline can wedge (raft#612), and with batches of commands it
			// gains nothing.
			MaxRPCsInFlight:         1,
			Timeout:                 timeout,
			MsgpackUseNewTimeFormat: true,
			Logger:                  log,
		}),
		resolve: resolve,
		hurry:   timeout / 10,
		acks:    make(map[raft.ServerID]ack),
		acked:   make(chan struct{}, 1),
	}
}

// SetHeartbeatHandler ignores the handler, as a transport may: heartbeats then
// reach raft's main loop with all other requests. Handled on the transport's
// goroutine they race with it, and logs can diverge (raft#695). Raft sets it
// just before it starts, which is good to know.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {
	if t.starting != nil {
		t.starting()
	}
}

// address says which server is meant, and where it was last seen.
func (t *transport) address(id raft.ServerID, target raft.ServerAddress) raft.ServerAddress {
	addr := string(target)
	if now, ok := t.resolve(wasmatrix.ServerID(id)); ok {
		addr = now
	}
	return stream.RaftAddress(wasmatrix.ServerID(id), addr)
}

// EncodePeer implements [raft.Transport]: peers are told plain addresses.
func (t *transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// AppendEntries implements [raft.Transport].
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.mu.Lock()
	t.clock++
	sent := t.clock
	t.mu.Unlock()
	if err := t.NetworkTransport.AppendEntries(id, t.address(id, target), req, resp); err != nil {
		return err
	}
	// Success or not: a peer that answers with our term had none above it.
	if resp.Term == req.Term {
		t.confirm(id, ack{term: req.Term, sent: sent})
	}
	return nil
}

func (t *transport) confirm(id raft.ServerID, a ack) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.acks[id]
	if last.term > a.term || last.term == a.term && last.sent >= a.sent {
		return
	}
	t.acks[id] = a
	select {
	case t.acked <- struct{}{}:
	default:
	}
}

// now returns a mark: requests sent later come after it.
func (t *transport) now() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clock
}

// confirmed reports whether a peer confirmed term in answer to a request sent
// after the mark.
func (t *transport) confirmed(id raft.ServerID, term, mark uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.acks[id]
	return a.term == term && a.sent > mark
}

// AppendEntriesPipeline implements [raft.Transport].
func (t *transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// again repeats a request for a vote, which a peer answers the same each time,
// while it fails on a connection of before the peer's restart: an election
// should not be lost to that. Failing to dial is final.
func (t *transport) again(ask func() error) error {
	var err error
	for range maxPool + 1 {
		begin := time.Now()
		if err = ask(); err == nil || time.Since(begin) > t.hurry {
			return err
		}
		if _, ok := errors.AsType[*wasmatrix.Error](err); ok {
			return err
		}
	}
	return err
}

// RequestVote implements [raft.Transport].
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.again(func() error { return t.NetworkTransport.RequestVote(id, t.address(id, target), req, resp) })
}

// RequestPreVote implements [raft.WithPreVote].
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.again(func() error { return t.NetworkTransport.RequestPreVote(id, t.address(id, target), req, resp) })
}

// InstallSnapshot implements [raft.Transport].
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, t.address(id, target), req, resp, data)
}

// TimeoutNow implements [raft.Transport].
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if t.timeoutNow != nil {
		return t.timeoutNow()
	}
	return t.NetworkTransport.TimeoutNow(id, t.address(id, target), req, resp)
}
