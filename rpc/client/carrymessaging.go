package client

import (
	"context"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carriedMessaging is a messaging of another process.
type carriedMessaging struct{ carrier *Carrier }

func (m carriedMessaging) Publish(ctx context.Context, s *capability.Scope, topic string, data []byte) error {
	_, err := m.carrier.unary(ctx, &api.CarryRequest{Part: &api.CarryRequest_Publish{Publish: &api.Publish{Topic: topic, Data: data}}}, s)
	return err
}

func (m carriedMessaging) Subscribe(ctx context.Context, s *capability.Scope, topic, group string) (capability.Subscription, error) {
	req := &api.CarryRequest{Part: &api.CarryRequest_Subscribe{Subscribe: &api.Subscribe{Topic: topic, Group: group}}}
	call, err := m.carrier.open(ctx, req, s, wire.DeliveryWindow+1)
	if err != nil {
		return nil, err
	}
	sub := &carriedSubscription{call: call, closed: make(chan struct{})}
	sub.close = sync.OnceValue(sub.end)
	return sub, nil
}

// carriedSubscription is a subscription of another process, which sends no more
// than a window ahead.
type carriedSubscription struct {
	call   *openCall
	closed chan struct{} // closed by Close
	close  func() error

	mu    sync.Mutex
	taken uint32 // guarded by mu; not told yet
}

func (s *carriedSubscription) Receive(ctx context.Context) (capability.Message, error) {
	select {
	case <-s.closed:
		return capability.Message{}, s.over()
	default:
	}
	select {
	case m := <-s.call.answers:
		return s.take(m), nil
	default:
	}
	select {
	case m := <-s.call.answers:
		return s.take(m), nil
	case <-s.call.ended:
		select { // what came before the end
		case m := <-s.call.answers:
			return s.take(m), nil
		default:
			return capability.Message{}, s.over()
		}
	case <-s.closed:
		return capability.Message{}, s.over()
	case <-ctx.Done():
		return capability.Message{}, ctx.Err()
	}
}

// take lets the other side send more when half of the window was taken.
func (s *carriedSubscription) take(m *api.CarryResponse) capability.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken++; s.taken >= wire.DeliveryWindow/2 {
		s.call.stream.link.SendNow(&api.CarryRequest{Call: s.call.number, Part: &api.CarryRequest_Taken{Taken: &api.Taken{Messages: s.taken}}})
		s.taken = 0
	}
	return wire.DeliveryFrom(m.GetDelivery())
}

// over is why no more messages come.
func (s *carriedSubscription) over() error {
	select {
	case <-s.call.ended:
		if err := s.call.failure(); err != nil {
			return err
		}
	default:
	}
	return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the subscription has ended")
}

// Close ends the subscription at the other side.
func (s *carriedSubscription) Close() error { return s.close() }

func (s *carriedSubscription) end() error {
	close(s.closed)
	return s.call.close()
}
