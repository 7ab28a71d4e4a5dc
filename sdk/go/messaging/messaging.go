// Package messaging publishes and receives messages, each of which is delivered at
// most once. A command receives by [Bus.Subscribe]; a reactor may have messages
// pushed to it, by package push.
package messaging

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"
	"unsafe"

	"github.com/wasmatrix/wasmatrix/sdk/go/internal/host"
)

// Bus is what a capability of type messaging gives access to.
type Bus struct{ id string }

// Open returns the bus of a capability. Nothing is checked before it is used.
func Open(capability string) Bus { return Bus{capability} }

// Publish returns when the message is with the messaging system.
func (b Bus) Publish(topic string, data []byte) error {
	ptr, size := host.Bytes(data)
	_, err := host.Check(host.MsgPublish(b.id, topic, ptr, size))
	return err
}

// Message is one that was delivered.
type Message struct {
	Topic string
	Data  []byte
	// Dropped counts messages that were lost before this one, because the guest was
	// slow.
	Dropped uint32
}

// Subscription is where messages wait, until Close.
type Subscription struct {
	handle int32
}

// Subscribe has messages of a topic wait for Receive. Tokens of the topic are
// parted by dots; "*" is any one, and a last ">" any others. Of the
// subscriptions with the same group, if it is not "", one gets each message.
func (b Bus) Subscribe(topic, group string) (*Subscription, error) {
	n, err := host.Check(host.MsgSubscribe(b.id, topic, group, 0))
	if err != nil {
		return nil, err
	}
	return &Subscription{handle: int32(n)}, nil
}

// Receive waits for a message, for timeout or, below 0, for as long as it takes,
// or fails with wasmatrix.ErrTimeout. 0 takes one that has come already. While it
// waits none of the guest's goroutines executes.
func (s *Subscription) Receive(timeout time.Duration) (Message, error) {
	ms := int64(-1)
	if timeout >= 0 {
		ms = host.Millis(timeout)
	}
	b, err := host.Result(4<<10, func(buf unsafe.Pointer, size uint32) int32 {
		return host.MsgReceive(s.handle, ms, buf, size)
	})
	if err != nil {
		return Message{}, err
	}
	m, _, err := Parse(b)
	return m, err
}

// Messages yields messages as they come, without end, or the error that ends it.
func (s *Subscription) Messages() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := s.Receive(-1)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() error {
	_, err := host.Check(host.MsgUnsubscribe(s.handle))
	return err
}

var errShort = errors.New("a message is shorter than it says")

// Parse reads a message as the host gives it, and the handle of the subscription
// that it is of. The message keeps b.
func Parse(b []byte) (m Message, handle int32, err error) {
	const fixed = 12
	if len(b) < fixed {
		return m, 0, errShort
	}
	topic := binary.LittleEndian.Uint32(b[8:])
	if uint64(topic) > uint64(len(b)-fixed) {
		return m, 0, errShort
	}
	return Message{
		Topic: string(b[fixed : fixed+topic]), Data: b[fixed+topic:], Dropped: binary.LittleEndian.Uint32(b[4:]),
	}, int32(binary.LittleEndian.Uint32(b)), nil
}
