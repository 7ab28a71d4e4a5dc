package stream

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// acceptQueue is how many connections may wait for a layer's Accept. Raft
// accepts at once; beyond that something is wrong.
const acceptQueue = 64

// RaftKind is the kind of a Raft group's connections.
func RaftKind(group string) string { return "raft/" + group }

// RaftAddress is the form of a target that a layer's Dial takes: it says which
// server is meant, not only where.
func RaftAddress(id wasmatrix.ServerID, addr string) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + addr)
}

// layer is one Raft group's share of the listener.
type layer struct {
	listener *Listener
	kind     string
	accepted chan net.Conn
	done     chan struct{}
	once     sync.Once
}

var _ raft.StreamLayer = (*layer)(nil)

// Layer claims the connections of a Raft group. Dial takes what [RaftAddress]
// makes. Closing it closes the group's connections, accepted and dialled, and
// leaves the listener alone.
//
// Errors: CONFLICT where the group has a layer already, COMMUNICATION_FAILURE
// where the listener is closed.
func (l *Listener) Layer(group string) (raft.StreamLayer, error) {
	s := &layer{
		listener: l,
		kind:     RaftKind(group),
		accepted: make(chan net.Conn, acceptQueue),
		done:     make(chan struct{}),
	}
	if err := l.claim(s.kind, s.take); err != nil {
		if errors.Is(err, net.ErrClosed) {
			return nil, wasmatrix.Errorf(wasmatrix.CodeCommunication, "the listener for server traffic is closed")
		}
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "Raft group %q: %w", group, err)
	}
	return s, nil
}

func (s *layer) take(c *conn) {
	select {
	case s.accepted <- c:
	default:
		s.listener.log.Warn("too many connections wait to be accepted", "kind", s.kind, "from", c.peer)
		s.listener.wg.Go(func() { _ = c.Close() }) // Close takes the lock that our caller holds
	}
}

// Accept returns the next connection of the group.
func (s *layer) Accept() (net.Conn, error) {
	select {
	case <-s.done:
		return nil, net.ErrClosed
	case <-s.listener.ctx.Done():
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	case <-s.listener.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr returns the address that peers dial.
func (s *layer) Addr() net.Addr { return s.listener.Addr() }

// Close gives the group up.
func (s *layer) Close() error {
	s.once.Do(func() {
		s.listener.disclaim(s.kind)
		close(s.done)
		s.listener.closeKind(s.kind)
	})
	return nil
}

// Dial connects to the server "id@host:port".
func (s *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, ok := strings.Cut(string(address), "@")
	if !ok {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "Raft dials %q, which does not say which server is meant", address)
	}
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	c, err := s.listener.dial(ctx, s.kind, wasmatrix.ServerID(id), addr)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.done: // closeKind may have passed before the connection was there
		_ = c.Close()
		return nil, net.ErrClosed
	default:
		return c, nil
	}
}
