package capability_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// provider is all three types of provider in memory. It counts what reaches it,
// and lets a test hold calls up.
type provider struct {
	mu      sync.Mutex
	entries map[string]capability.Entry // by namespace and key
	seen    []string                    // operation and subject of every call that arrived
	written uint64

	hold    chan struct{} // not nil: calls wait until it is closed or their context ends
	arrived chan struct{} // not nil: has an element for each call that waits
	down    atomic.Bool   // PROVIDER_UNAVAILABLE

	subs []*inbox
}

func newProvider() *provider { return &provider{entries: make(map[string]capability.Entry)} }

func (p *provider) KV(context.Context, *capability.Scope) (capability.KV, error) {
	return p, p.state()
}

func (p *provider) HTTP(context.Context, *capability.Scope) (capability.HTTP, error) {
	return p, p.state()
}

func (p *provider) Messaging(context.Context, *capability.Scope) (capability.Messaging, error) {
	return p, p.state()
}

func (p *provider) state() error {
	if p.down.Load() {
		return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "stopped")
	}
	return nil
}

// arrive notes a call, and waits where the test wants that.
func (p *provider) arrive(ctx context.Context, what string) error {
	p.mu.Lock()
	p.seen = append(p.seen, what)
	hold := p.hold
	p.mu.Unlock()
	if hold == nil {
		return ctx.Err()
	}
	if p.arrived != nil {
		p.arrived <- struct{}{}
	}
	select {
	case <-hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

func (p *provider) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	if err := p.arrive(ctx, "kv.get "+key); err != nil {
		return capability.Entry{}, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[s.Namespace+"\x00"+key]
	return e, ok, nil
}

func (p *provider) Set(ctx context.Context, s *capability.Scope, key string, value []byte, _ capability.SetOptions) (uint64, error) {
	if err := p.arrive(ctx, "kv.set "+key); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written++
	p.entries[s.Namespace+"\x00"+key] = capability.Entry{Value: value, Revision: p.written}
	return p.written, nil
}

func (p *provider) Delete(ctx context.Context, s *capability.Scope, key string, _ capability.WriteID) (bool, error) {
	if err := p.arrive(ctx, "kv.delete "+key); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.entries[s.Namespace+"\x00"+key]
	delete(p.entries, s.Namespace+"\x00"+key)
	return ok, nil
}

func (p *provider) List(ctx context.Context, s *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	if err := p.arrive(ctx, "kv.list "+q.Prefix); err != nil {
		return capability.Page{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var page capability.Page
	for k := range p.entries {
		if rest, ok := strings.CutPrefix(k, s.Namespace+"\x00"); ok && strings.HasPrefix(rest, q.Prefix) {
			page.Keys = append(page.Keys, rest)
		}
	}
	return page, nil
}

func (p *provider) Open(ctx context.Context, _ *capability.Scope, r *capability.Request) (capability.Exchange, error) {
	if err := p.arrive(ctx, "http.request "+r.URL); err != nil {
		return nil, err
	}
	return &body{ctx: ctx, closed: make(chan struct{})}, nil
}

// body is an endless response.
type body struct {
	ctx    context.Context
	once   sync.Once
	closed chan struct{}
}

func (b *body) Write(d []byte) (int, error) { return len(d), b.ctx.Err() }

func (b *body) Response() (*capability.Response, error) {
	return &capability.Response{Status: 200}, b.ctx.Err()
}

func (b *body) Read(d []byte) (int, error) {
	select {
	case <-b.closed:
		return 0, io.ErrClosedPipe
	default:
		return len(d), nil
	}
}

func (b *body) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

func (p *provider) Publish(ctx context.Context, _ *capability.Scope, topic string, data []byte) error {
	if err := p.arrive(ctx, "msg.publish "+topic); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.subs {
		if s.topic == topic {
			select {
			case s.messages <- capability.Message{Topic: topic, Data: data}:
			case <-s.closed:
			default:
			}
		}
	}
	return nil
}

func (p *provider) Subscribe(ctx context.Context, _ *capability.Scope, topic, _ string) (capability.Subscription, error) {
	if err := p.arrive(ctx, "msg.subscribe "+topic); err != nil {
		return nil, err
	}
	s := &inbox{topic: topic, messages: make(chan capability.Message, 16), closed: make(chan struct{})}
	p.mu.Lock()
	p.subs = append(p.subs, s)
	p.mu.Unlock()
	return s, nil
}

type inbox struct {
	topic    string
	messages chan capability.Message
	once     sync.Once
	closed   chan struct{}
}

func (s *inbox) Receive(ctx context.Context) (capability.Message, error) {
	select {
	case m := <-s.messages:
		return m, nil
	case <-s.closed:
		return capability.Message{}, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "closed")
	case <-ctx.Done():
		return capability.Message{}, ctx.Err()
	}
}

func (s *inbox) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
