package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

func msgPublish(x *execution, a *args) (int32, error) {
	id, topic, data := a.capability(x), a.topic(false), a.bytes(abi.MaxMessage, errTooLarge)
	if a.err != nil {
		return 0, a.err
	}
	data = bytes.Clone(data) // a provider that is not waited for any more may still have it
	x.leave()
	err := x.caps.Publish(x.Context, id, topic, data)
	x.back()
	return 0, err
}

func (a *args) topic(wildcards bool) string {
	s := a.text("the topic", 1, abi.MaxTopic)
	if a.err == nil {
		a.err = wasmatrix.ValidateTopic(s, wildcards)
	}
	return s
}

// subscription is one whose messages the guest takes by itself.
type subscription struct {
	capability.Subscription
	cancel context.CancelFunc
	lost   uint64 // messages that were taken, and could not be given to the guest
}

func (s *subscription) close() {
	s.cancel()
	_ = s.Close() // nobody is left who could do something about it
}

func msgSubscribe(x *execution, a *args) (int32, error) {
	id, topic, group, mode := a.capability(x), a.topic(true), a.text("the group", 0, abi.MaxGroup), a.u32()
	if a.err == nil && group != "" {
		a.err = wasmatrix.ValidateName("group", group)
	}
	switch {
	case a.err != nil:
		return 0, a.err
	case mode > abi.SubscribePush:
		return 0, errMode
	case mode == abi.SubscribePush && !takesMessages(x, a.mod):
		return 0, errOnMessage
	}
	if err := x.room(); err != nil {
		return 0, err
	}
	ctx, cancel, settled := x.lasting()
	x.leave()
	inner, err := x.caps.Subscribe(ctx, id, topic, group)
	settled()
	if err != nil {
		cancel()
		x.back()
		return 0, err
	}
	s := &subscription{Subscription: inner, cancel: cancel}
	var n int32 // kept before what may end the guest
	if mode == abi.SubscribePush {
		p := &pump{cancel: cancel, ended: make(chan struct{})}
		n = x.keep(p)
		p.handle = n
		x.held.begin(ctx, p, s)
	} else {
		n = x.keep(s)
	}
	x.back()
	return n, nil
}

var (
	errMode      = &refusal{abi.ErrInvalid, "no such mode of a subscription"}
	errOnMessage = &refusal{abi.ErrInvalid, "messages are pushed to reactors that export " + abi.OnMessage + " as () -> i32"}
)

func msgReceive(x *execution, a *args) (int32, error) {
	s, n := opened[*subscription](x, a)
	timeout, buf := a.duration("the timeout", true), a.buffer()
	if a.err != nil {
		return 0, a.err
	}
	ctx := x.Context
	if timeout >= 0 {
		var cancel context.CancelFunc
		// A context that has ended says nothing of a message that is there.
		ctx, cancel = context.WithTimeout(ctx, max(timeout, minReceive))
		defer cancel()
	}
	x.leave()
	m, err := s.Receive(ctx)
	for err == nil && len(m.Data) > abi.MaxMessage {
		s.lost += m.Dropped + 1
		m, err = s.Receive(ctx)
	}
	x.back()
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
			err = errNoMessage
		}
		return 0, err
	}
	m.Dropped += s.lost
	s.lost = 0
	return x.give(buf, encodeMessage(n, m)), nil
}

// minReceive is how long msg_receive waits at least, so that a message that has
// come is found.
const minReceive = time.Millisecond

var errNoMessage = &refusal{abi.ErrTimeout, "no message came in time"}

// encodeMessage writes a message as guests read it.
func encodeMessage(handle int32, m capability.Message) []byte {
	b := make([]byte, 0, 12+len(m.Topic)+len(m.Data))
	b = binary.LittleEndian.AppendUint32(b, uint32(handle))
	b = binary.LittleEndian.AppendUint32(b, uint32(min(m.Dropped, math.MaxUint32)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Topic)))
	b = append(b, m.Topic...)
	return append(b, m.Data...)
}

func msgUnsubscribe(x *execution, a *args) (int32, error) {
	o, n := opened[handle](x, a)
	switch o.(type) {
	case *subscription, *pump:
	default:
		a.fail(errHandle)
	}
	if a.err != nil {
		return 0, a.err
	}
	x.shut(o, n)
	return 0, nil
}
