package messaging

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// subscription is one of a guest. It outlives connections.
type subscription struct {
	client       *Client
	topic, group string
	session      *session           // that has it, or had it last; guarded by client.mu
	nats         *nats.Subscription // there; likewise

	mu     sync.Mutex
	queue  queue
	closed bool
	wake   chan struct{} // has one when there are messages
	gone   chan struct{} // closed with the subscription
}

func (c *Client) newSubscription(topic, group string) *subscription {
	return &subscription{
		client: c, topic: topic, group: group,
		queue: queue{maxMessages: int(c.cfg.Config.MaxPending), maxBytes: c.cfg.Config.MaxBytes},
		wake:  make(chan struct{}, 1), gone: make(chan struct{}),
	}
}

// deliver queues a message. It does not block.
func (s *subscription) deliver(m *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.queue.push(m.Subject, m.Data)
	s.signal()
}

func (s *subscription) signal() {
	if s.queue.len() > 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Receive implements [capability.Subscription]. A message that is there is
// returned even if ctx has ended.
func (s *subscription) Receive(ctx context.Context) (capability.Message, error) {
	for {
		s.mu.Lock()
		m, ok := s.queue.pop()
		closed := s.closed
		if ok {
			s.signal() // for another that waits
		}
		s.mu.Unlock()
		switch {
		case ok:
			return m, nil
		case closed:
			return capability.Message{}, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the subscription has ended")
		}
		select {
		case <-s.wake:
		case <-s.gone:
		case <-ctx.Done():
			return capability.Message{}, ctx.Err()
		}
	}
}

// Close implements [capability.Subscription]. Messages that wait are gone with it.
func (s *subscription) Close() error {
	s.end()
	s.client.forget(s)
	return nil
}

func (s *subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.queue = queue{}
		close(s.gone)
	}
}
