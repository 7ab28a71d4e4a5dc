package nodetest

import (
	"context"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Publish sends a message to who has subscribed to its topic.
func (w *World) Publish(ctx context.Context, id wasmatrix.CapabilityID, topic string, data []byte) error {
	if err := w.call(ctx, "publish "+string(id)); err != nil {
		return err
	}
	w.mu.Lock()
	w.sent = append(w.sent, data)
	w.mu.Unlock()
	w.Message(topic, capability.Message{Topic: topic, Data: data})
	return nil
}

// Message sends any message to who has subscribed to topic. One of the topic
// "over" ends the subscriptions instead.
func (w *World) Message(topic string, m capability.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, to := range w.topics[topic] {
		select {
		case to <- m:
		default: // nobody takes them
		}
	}
}

// Listen has messages of a topic come to the test.
func (w *World) Listen(topic string) <-chan capability.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan capability.Message, 1000)
	w.topics[topic] = append(w.topics[topic], c)
	return c
}

// Subscribe has messages of a topic come.
func (w *World) Subscribe(ctx context.Context, id wasmatrix.CapabilityID, topic, group string) (capability.Subscription, error) {
	if err := w.call(ctx, "subscribe "+string(id)+" "+group); err != nil {
		return nil, err
	}
	c := w.Listen(topic)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened++
	return &subscription{w: w, ctx: ctx, messages: c}, nil
}

type subscription struct {
	w        *World
	ctx      context.Context //nolint:containedctx // it bounds the subscription
	once     sync.Once
	messages <-chan capability.Message
}

var errOver = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "no more will come")

func (s *subscription) Receive(ctx context.Context) (capability.Message, error) {
	if err := s.w.call(ctx, "receive"); err != nil {
		return capability.Message{}, err
	}
	got := func(m capability.Message) (capability.Message, error) {
		if m.Topic == "over" {
			return m, errOver
		}
		return m, nil
	}
	select {
	case m := <-s.messages:
		return got(m)
	default:
	}
	select {
	case m := <-s.messages:
		return got(m)
	case <-s.ctx.Done():
		return capability.Message{}, errOver
	case <-ctx.Done():
		return capability.Message{}, ctx.Err()
	}
}

func (s *subscription) Close() error {
	s.once.Do(func() { s.w.close() })
	return nil
}
