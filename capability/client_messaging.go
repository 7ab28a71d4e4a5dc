package capability

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Publish sends a message.
func (c *Client) Publish(ctx context.Context, id wasmatrix.CapabilityID, topic string, data []byte) error {
	if err := wasmatrix.ValidateTopic(topic, false); err != nil {
		return err
	}
	p, err := c.admit(ctx, id, &opPublish, topic, len(data))
	if err != nil {
		return err
	}
	defer p.done()
	m, err := c.gate.providers.Messaging(p, p.grant.scope)
	if err == nil {
		err = m.Publish(p, p.grant.scope, topic, data)
	}
	return p.verdict(err)
}

// Subscribe has messages come, until Close. It goes on by itself after the
// provider was out of reach, or this node out of touch with the cluster; what was
// published meanwhile is lost. ctx bounds the subscription.
func (c *Client) Subscribe(ctx context.Context, id wasmatrix.CapabilityID, topic, group string) (Subscription, error) {
	if err := wasmatrix.ValidateTopic(topic, true); err != nil {
		return nil, err
	}
	if group != "" {
		if err := wasmatrix.ValidateName("group", group); err != nil {
			return nil, err
		}
	}
	s := &subscription{client: c, id: id, topic: topic, group: group}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if err := s.open(s.ctx); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// subscription is one that the gate can end, and that is made again after its
// provider has failed.
type subscription struct {
	client       *Client
	id           wasmatrix.CapabilityID
	topic, group string
	ctx          context.Context //nolint:containedctx // of the subscription
	cancel       context.CancelFunc

	mu    sync.Mutex
	inner Subscription // nil while there is none
	pass  *pass
}

// open makes the provider's subscription.
func (s *subscription) open(ctx context.Context) error {
	p, err := s.client.admit(s.ctx, s.id, &opSubscribe, s.topic, 0)
	if err != nil {
		return err
	}
	begin, cancel := context.WithTimeout(ctx, s.client.gate.limits.Deadline)
	defer cancel()
	defer context.AfterFunc(p, cancel)()
	m, err := s.client.gate.providers.Messaging(begin, p.grant.scope)
	var inner Subscription
	if err == nil {
		inner, err = m.Subscribe(begin, p.grant.scope, s.topic, s.group)
	}
	if err = p.verdict(err); err != nil {
		if inner != nil {
			_ = inner.Close()
		}
		p.done()
		return err
	}
	s.mu.Lock()
	s.inner, s.pass = inner, p
	s.mu.Unlock()
	// Revoked or lapsed it ends at once, whether or not anybody receives.
	context.AfterFunc(p, func() {
		_ = inner.Close()
		s.mu.Lock()
		if s.inner == inner {
			s.inner = nil
		}
		s.mu.Unlock()
		p.done()
	})
	return nil
}

// How long Receive waits before it makes a subscription again that has failed.
const (
	resubscribeFirst = 50 * time.Millisecond
	resubscribeLimit = 2 * time.Second
)

// Receive implements [Subscription].
func (s *subscription) Receive(ctx context.Context) (Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	wait := resubscribeFirst
	for {
		s.mu.Lock()
		inner, p := s.inner, s.pass
		s.mu.Unlock()
		if inner == nil {
			err := s.open(ctx)
			switch {
			case err == nil:
				wait = resubscribeFirst
				continue
			case wasmatrix.CodeOf(err) != wasmatrix.CodeProviderUnavailable || !s.pause(ctx, wait):
				return Message{}, s.ended(ctx, err)
			}
			wait = min(2*wait, resubscribeLimit)
			continue
		}
		m, err := inner.Receive(ctx)
		if err == nil {
			if err = p.verdict(nil); err == nil {
				if err = p.take(len(m.Data)); err == nil {
					return m, nil
				}
			}
		}
		switch {
		case ctx.Err() != nil:
			return Message{}, s.ended(ctx, err)
		case p.Err() != nil:
			// Ended from outside. What is revoked is refused when it is opened again.
		case wasmatrix.CodeOf(err) != wasmatrix.CodeProviderUnavailable:
			return Message{}, p.verdict(err)
		}
		p.cancel()
		s.mu.Lock()
		if s.inner == inner {
			s.inner = nil
		}
		s.mu.Unlock()
	}
}

// pause waits, and no longer than until the lease is valid again. It reports
// false when ctx has ended.
func (s *subscription) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.client.gate.resumption():
	case <-ctx.Done():
		return false
	}
	return true
}

// ended is why Receive gives up: the context's own error where that has ended.
func (s *subscription) ended(ctx context.Context, err error) error {
	if s.ctx.Err() != nil {
		return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the subscription was closed")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Close implements [Subscription]. What the provider keeps of it has ended soon
// after.
func (s *subscription) Close() error {
	s.cancel()
	return nil
}
