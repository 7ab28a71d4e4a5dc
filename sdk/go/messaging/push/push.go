// Package push has messages delivered to handlers of a reactor, in turn with its
// invocations. A guest that imports it exports wasmatrix_on_message; one that is a
// command cannot use it.
//
//	func init() {
//		if _, err := push.Handle("events", "orders.*", "", handle); err != nil {
//			panic(err)
//		}
//	}
//
// Handlers execute one at a time. One that panics ends the instance, and so
// does one that takes longer than the node allows (30 s by default).
package push

import (
	"sync"

	"github.com/wasmatrix/wasmatrix/sdk/go/internal/host"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging"
)

// Subscription is what messages are handled for, until Close.
type Subscription struct{ handle int32 }

var (
	mu       sync.Mutex
	handlers = map[int32]func(messaging.Message){}
)

// Handle has messages of a topic handled, as [messaging.Bus.Subscribe] describes
// topic and group. It is called in init of a reactor, or in one of its invocations.
func Handle(capability, topic, group string, handle func(messaging.Message)) (*Subscription, error) {
	n, err := host.Check(host.MsgSubscribe(capability, topic, group, 1))
	if err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	handlers[int32(n)] = handle
	return &Subscription{int32(n)}, nil
}

// Close ends the subscription: its handler is not called any more.
func (s *Subscription) Close() error {
	mu.Lock()
	delete(handlers, s.handle)
	mu.Unlock()
	_, err := host.Check(host.MsgUnsubscribe(s.handle))
	return err
}
