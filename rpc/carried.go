package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carried is one call on a goroutine of its own.
type carried struct {
	*carriage
	number  uint64
	claimed *capability.Scope
	first   *api.CarryRequest
	timeout time.Duration // 0 is none

	ctx    context.Context //nolint:containedctx // of the call
	cancel context.CancelFunc

	// Of calls that stay open; nil of those of one message.
	parts    chan *api.CarryRequest // has the one that is to be done next
	credited chan struct{}          // has a token when credits came
	credits  atomic.Int64           // deliveries that may be sent
	why      atomic.Pointer[wasmatrix.Error]
}

// part is a kind of message.
type part uint8

const (
	partNone part = iota
	partKVGet
	partKVSet
	partKVDelete
	partKVList
	partHTTPOpen
	partPublish
	partSubscribe
	partHTTP // what follows partHTTPOpen
	partTaken
	partCancel
	parts = iota
)

func partOf(m *api.CarryRequest) part {
	switch m.GetPart().(type) {
	case *api.CarryRequest_KvGet:
		return partKVGet
	case *api.CarryRequest_KvSet:
		return partKVSet
	case *api.CarryRequest_KvDelete:
		return partKVDelete
	case *api.CarryRequest_KvList:
		return partKVList
	case *api.CarryRequest_HttpOpen:
		return partHTTPOpen
	case *api.CarryRequest_Publish:
		return partPublish
	case *api.CarryRequest_Subscribe:
		return partSubscribe
	case *api.CarryRequest_HttpWrite, *api.CarryRequest_HttpSend, *api.CarryRequest_HttpRead:
		return partHTTP
	case *api.CarryRequest_Taken:
		return partTaken
	case *api.CarryRequest_Cancel:
		return partCancel
	default:
		return partNone
	}
}

// beginning is how a call is executed that begins with a kind of message.
type beginning struct {
	open    bool // it has more messages
	bounded bool // its timeout is for all of it
	serve   func(*carried, *capability.Scope) (*api.CarryResponse, error)
}

// beginnings has those that begin a call.
var beginnings = [parts]*beginning{
	partKVGet:     {bounded: true, serve: (*carried).kvGet},
	partKVSet:     {bounded: true, serve: (*carried).kvSet},
	partKVDelete:  {bounded: true, serve: (*carried).kvDelete},
	partKVList:    {bounded: true, serve: (*carried).kvList},
	partPublish:   {bounded: true, serve: (*carried).publish},
	partHTTPOpen:  {open: true, bounded: true, serve: (*carried).exchangeHTTP},
	partSubscribe: {open: true, serve: (*carried).subscribe},
}

// run executes the call and sends its last message.
func (c *carried) run(how *beginning) {
	defer c.work.Done()
	last, err := c.serve(how)
	c.cancel()
	if why := c.why.Load(); why != nil {
		err = why
	}
	if last == nil {
		last = &api.CarryResponse{}
	}
	if err != nil {
		last.Error, last.Part = wire.ErrorTo(wire.Coded(err)), nil
	}
	c.ended(c, last)
}

// noTime has ended: a call under it does not wait for anything.
var noTime = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// promptly executes the call at once, on the goroutine that reads the link, which is
// cheaper than to begin one. It reports false where the call has not succeeded: then
// it is to be executed as others are, which may take its time or fail for good.
func (c *carried) promptly(how *beginning) bool {
	c.ctx = noTime
	last, err := c.serve(how)
	if err != nil {
		return false
	}
	last.Call, last.End = c.number, true
	c.send(last)
	return true
}

// serve has the host admit and execute the call. A panic is an error of this call
// alone; what it was stays in the log.
func (c *carried) serve(how *beginning) (last *api.CarryResponse, err error) {
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("a carried call panicked", "instance", c.claimed.Instance, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			last, err = nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the call failed: the log of the process that carried it out says why").
				With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
		}
	}()
	scope, err := c.host.Admit(c.ctx, c.claimed)
	if err != nil {
		return nil, err
	}
	return how.serve(c, scope)
}

// take is given a further message of the call. Call it with the carriage's mu held.
func (c *carried) take(m *api.CarryRequest) {
	switch p := partOf(m); {
	case p == partCancel:
		c.cancel()
	case p == partTaken && c.parts != nil:
		c.credit(int64(m.GetTaken().GetMessages()))
	case p == partHTTP && c.parts != nil:
		select {
		case c.parts <- m:
		default:
			c.refuse(wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a part of call %d came before the one before it was answered", c.number).
				With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown))
		}
	default:
		c.refuse(wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "call %d is under way, and cannot take such a message", c.number).
			With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown))
	}
}

// refuse ends the call with an error, unless it has another already.
func (c *carried) refuse(err error) {
	c.why.CompareAndSwap(nil, wasmatrix.AsError(err))
	c.cancel()
}

// credit allows n more deliveries. More than the window are never on their way.
func (c *carried) credit(n int64) {
	for {
		old := c.credits.Load()
		if c.credits.CompareAndSwap(old, min(old+n, wire.DeliveryWindow)) {
			break
		}
	}
	select {
	case c.credited <- struct{}{}:
	default:
	}
}

func (c *carried) kvGet(s *capability.Scope) (*api.CarryResponse, error) {
	kv, err := c.host.KV(c.ctx, s)
	if err != nil {
		return nil, err
	}
	e, found, err := kv.Get(c.ctx, s, c.first.GetKvGet().GetKey())
	if err != nil {
		return nil, err
	}
	return &api.CarryResponse{Part: &api.CarryResponse_KvEntry{KvEntry: &api.KVEntry{Found: found, Value: e.Value, Revision: e.Revision}}}, nil
}

func (c *carried) kvSet(s *capability.Scope) (*api.CarryResponse, error) {
	key, value, o, err := wire.KVSetFrom(c.first.GetKvSet())
	if err != nil {
		return nil, err
	}
	kv, err := c.host.KV(c.ctx, s)
	if err != nil {
		return nil, err
	}
	revision, err := kv.Set(c.ctx, s, key, value, o)
	if err != nil {
		return nil, err
	}
	return &api.CarryResponse{Part: &api.CarryResponse_KvWritten{KvWritten: &api.KVWritten{Revision: revision}}}, nil
}

func (c *carried) kvDelete(s *capability.Scope) (*api.CarryResponse, error) {
	key, id, err := wire.KVDeleteFrom(c.first.GetKvDelete())
	if err != nil {
		return nil, err
	}
	kv, err := c.host.KV(c.ctx, s)
	if err != nil {
		return nil, err
	}
	existed, err := kv.Delete(c.ctx, s, key, id)
	if err != nil {
		return nil, err
	}
	return &api.CarryResponse{Part: &api.CarryResponse_KvDeleted{KvDeleted: &api.KVDeleted{Existed: existed}}}, nil
}

// maxPageBytes bounds the keys of one page, in bytes with what the encoding adds:
// a page may have fewer than were asked for.
const maxPageBytes = 1 << 20

func (c *carried) kvList(s *capability.Scope) (*api.CarryResponse, error) {
	q := c.first.GetKvList()
	kv, err := c.host.KV(c.ctx, s)
	if err != nil {
		return nil, err
	}
	page, err := kv.List(c.ctx, s, capability.ListQuery{Prefix: q.GetPrefix(), After: q.GetAfter(), Limit: int(q.GetLimit())})
	if err != nil {
		return nil, err
	}
	size := 0
	for i, key := range page.Keys {
		if size += len(key) + 8; size > maxPageBytes && i > 0 {
			page.Keys, page.More = page.Keys[:i], true
			break
		}
	}
	return &api.CarryResponse{Part: &api.CarryResponse_KvPage{KvPage: &api.KVPage{Keys: page.Keys, More: page.More}}}, nil
}

func (c *carried) publish(s *capability.Scope) (*api.CarryResponse, error) {
	m, err := c.host.Messaging(c.ctx, s)
	if err != nil {
		return nil, err
	}
	p := c.first.GetPublish()
	return nil, m.Publish(c.ctx, s, p.GetTopic(), p.GetData())
}

// subscribe sends the messages of a subscription, as many as the subscriber takes.
func (c *carried) subscribe(s *capability.Scope) (*api.CarryResponse, error) {
	m, err := c.host.Messaging(c.ctx, s)
	if err != nil {
		return nil, err
	}
	timeout := c.timeout
	if timeout == 0 {
		timeout = c.carriage.timeout
	}
	// The time is for this call; the subscription goes on.
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	q := c.first.GetSubscribe()
	sub, err := m.Subscribe(ctx, s, q.GetTopic(), q.GetGroup())
	cancel()
	if err != nil {
		return nil, err
	}
	c.credits.Store(wire.DeliveryWindow)
	c.answer(&api.CarryResponse{Part: &api.CarryResponse_Subscribed{Subscribed: &api.Subscribed{}}})
	closing := sync.OnceValue(sub.Close)
	defer func() { _ = closing() }()
	if err := c.deliver(sub); err != nil {
		return nil, err
	}
	return nil, closing()
}

// deliver returns nil when the subscriber wants no more.
func (c *carried) deliver(sub capability.Subscription) error {
	for {
		for c.credits.Load() == 0 {
			select {
			case <-c.credited:
			case <-c.ctx.Done():
				return nil
			}
		}
		m, err := sub.Receive(c.ctx)
		if c.ctx.Err() != nil {
			return nil //nolint:nilerr // this is how a subscription ends
		}
		if err != nil {
			return err
		}
		if len(m.Data) > abi.MaxMessage {
			return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "a message of %d bytes came, at most %d can be delivered", len(m.Data), abi.MaxMessage)
		}
		c.credits.Add(-1)
		c.answer(&api.CarryResponse{Part: &api.CarryResponse_Delivery{Delivery: wire.DeliveryTo(m)}})
	}
}

// answer sends a message that is not the last.
func (c *carried) answer(m *api.CarryResponse) {
	m.Call = c.number
	c.send(m)
}

// timedOut is the end of an exchange whose time has passed, nil of one that was
// ended otherwise.
func (c *carried) timedOut() error {
	if !errors.Is(c.ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "the time of the request has passed").
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}
