package messaging

import "github.com/nats-io/nats.go"

// inflowRoom is more than the messages that one read of a socket can hold: NATS
// reads 32 KiB, of which a message takes 13 bytes at least.
const inflowRoom = 8 << 10

// inflow carries messages from the goroutine that reads the socket to the one that
// deals them out to subscriptions, one each. It never overflows, since nothing is read
// before it is empty; see [conn.Read].
type inflow struct {
	messages chan *nats.Msg
	drained  chan struct{} // has one after messages became empty
}

func newInflow() *inflow {
	return &inflow{make(chan *nats.Msg, inflowRoom), make(chan struct{}, 1)}
}

// dealt is called after each message.
func (f *inflow) dealt() {
	if len(f.messages) == 0 {
		select {
		case f.drained <- struct{}{}:
		default:
		}
	}
}

// empty waits until there are no messages. It reports false when gone is closed.
func (f *inflow) empty(gone <-chan struct{}) bool {
	for len(f.messages) > 0 {
		select {
		case <-f.drained:
		case <-gone:
			return false
		}
	}
	return true
}
