package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// fakeHost carries out calls in memory. What a call asks for by its key, URL or
// topic is how it goes.
type fakeHost struct {
	mu       sync.Mutex
	entries  map[string]capability.Entry // guarded by mu; by namespace and key
	revision uint64                      // guarded by mu
	subs     []*fakeSubscription         // guarded by mu
	open     int                         // guarded by mu; exchanges, subscriptions and blocked calls
	opened   uint64                      // guarded by mu; in all
	changed  chan struct{}               // guarded by mu; closed when open changes

	slow chan struct{} // what a blocked call waits for after its end; nil is nothing
}

func newFakeHost() *fakeHost {
	return &fakeHost{entries: make(map[string]capability.Entry), changed: make(chan struct{})}
}

// count changes the number of what is open.
func (h *fakeHost) count(by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open += by
	h.opened += uint64(max(by, 0))
	close(h.changed)
	h.changed = make(chan struct{})
}

// await returns when n are open.
func (h *fakeHost) await(ctx context.Context, n int) error {
	for {
		h.mu.Lock()
		open, changed := h.open, h.changed
		h.mu.Unlock()
		if open == n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d are open, not %d", open, n)
		}
	}
}

// block waits for ctx, and then for h.slow.
func (h *fakeHost) block(ctx context.Context) error {
	h.count(1)
	defer h.count(-1)
	<-ctx.Done()
	if h.slow != nil {
		<-h.slow
	}
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "blocked until the end").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// failing is the error that a name asks for, such as "fail/CONFLICT".
func failing(name string) error {
	code, ok := strings.CutPrefix(name, "fail/")
	switch {
	case !ok:
		return nil
	case code == "panic":
		panic("as was asked for")
	case code == "":
		return fmt.Errorf("an error without a code")
	default:
		return wasmatrix.Errorf(wasmatrix.Code(code), "as was asked for").With(capability.DetailRevision, "7").With("other", "value")
	}
}

func (h *fakeHost) Admit(_ context.Context, claimed *capability.Scope) (*capability.Scope, error) {
	if claimed.Instance == "stranger" {
		return nil, wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "no such assignment")
	}
	s := *claimed
	s.Rules = wasmatrix.RulesOf(wasmatrix.ProviderKV, []wasmatrix.Permission{"kv:read"})
	return &s, nil
}

func (h *fakeHost) find(s *capability.Scope) error {
	if s.Provider == "stopped" {
		return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "provider %s is stopped", s.Provider)
	}
	return nil
}

func (h *fakeHost) KV(_ context.Context, s *capability.Scope) (capability.KV, error) {
	return fakeKV{h}, h.find(s)
}

func (h *fakeHost) HTTP(_ context.Context, s *capability.Scope) (capability.HTTP, error) {
	return fakeHTTP{h}, h.find(s)
}

func (h *fakeHost) Messaging(_ context.Context, s *capability.Scope) (capability.Messaging, error) {
	return fakeMessaging{h}, h.find(s)
}

type fakeKV struct{ *fakeHost }

func (k fakeKV) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	if err := failing(key); err != nil {
		return capability.Entry{}, false, err
	}
	if key == "block" {
		return capability.Entry{}, false, k.block(ctx)
	}
	if key == "scope" {
		return capability.Entry{Value: fmt.Appendf(nil, "%s %d %d %t %s %d %s %s %t", s.Instance, s.Incarnation, s.Epoch, s.Exclusive, s.Capability,
			s.Granted, s.Provider, s.Namespace, s.Stale), Revision: 1}, true, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.entries[s.Namespace+"/"+key]
	return e, ok, nil
}

func (k fakeKV) Set(ctx context.Context, s *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	if err := failing(key); err != nil {
		return 0, err
	}
	if key == "block" {
		return 0, k.block(ctx)
	}
	if key == "options" {
		value = fmt.Appendf(nil, "%s %x", o.TTL, o.ID)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[s.Namespace+"/"+key]
	if o.Expect != nil && *o.Expect != e.Revision {
		return 0, wasmatrix.Errorf(wasmatrix.CodeConflict, "revision %d, not %d", e.Revision, *o.Expect).
			With(capability.DetailRevision, strconv.FormatUint(e.Revision, 10))
	}
	k.revision++
	k.entries[s.Namespace+"/"+key] = capability.Entry{Value: bytes.Clone(value), Revision: k.revision}
	return k.revision, nil
}

func (k fakeKV) Delete(_ context.Context, s *capability.Scope, key string, _ capability.WriteID) (bool, error) {
	if err := failing(key); err != nil {
		return false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.entries[s.Namespace+"/"+key]
	delete(k.entries, s.Namespace+"/"+key)
	return ok, nil
}

func (k fakeKV) List(_ context.Context, s *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	if err := failing(q.Prefix); err != nil {
		return capability.Page{}, err
	}
	if q.Limit < 1 {
		return capability.Page{}, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "limit %d", q.Limit)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var p capability.Page
	for name := range k.entries {
		if key, ok := strings.CutPrefix(name, s.Namespace+"/"); ok && strings.HasPrefix(key, q.Prefix) && key > q.After {
			p.Keys = append(p.Keys, key)
		}
	}
	slices.Sort(p.Keys)
	if len(p.Keys) > q.Limit {
		p.Keys, p.More = p.Keys[:q.Limit], true
	}
	return p, nil
}

type fakeHTTP struct{ *fakeHost }

// Open makes an exchange that echoes the body. The URL is the error of the
// opening, or says with its first word at which method there is one, and which.
func (f fakeHTTP) Open(ctx context.Context, _ *capability.Scope, r *capability.Request) (capability.Exchange, error) {
	if err := failing(r.URL); err != nil {
		return nil, err
	}
	f.count(1)
	x := &fakeExchange{host: f.fakeHost, ctx: ctx, request: r, closed: make(chan struct{})}
	x.at, x.name, _ = strings.Cut(r.URL, " ")
	return x, nil
}

type fakeExchange struct {
	host     *fakeHost
	ctx      context.Context
	request  *capability.Request
	at, name string
	body     bytes.Buffer
	read     int
	eof      bool
	response *capability.Response
	once     sync.Once
	closed   chan struct{}
}

func (x *fakeExchange) fails(at string) error {
	if x.at != at {
		return nil
	}
	if x.name == "block" {
		<-x.closed
		if x.host.slow != nil {
			<-x.host.slow
		}
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "closed while it waited")
	}
	return failing(x.name)
}

func (x *fakeExchange) Write(p []byte) (int, error) {
	if err := x.fails("write"); err != nil {
		return 0, err
	}
	return x.body.Write(p)
}

func (x *fakeExchange) Response() (*capability.Response, error) {
	if err := x.fails("response"); err != nil {
		return nil, err
	}
	if x.response != nil {
		return x.response, nil
	}
	header := append([]capability.Field{{Name: "Method", Value: x.request.Method}, {Name: "Timeout", Value: x.request.Timeout.String()}}, x.request.Header...)
	x.response = &capability.Response{Status: 200 + x.body.Len()%300, Header: header}
	return x.response, nil
}

// Read gives the body in pieces of odd sizes, and the end with the last or after.
func (x *fakeExchange) Read(p []byte) (int, error) {
	if x.eof { // and stays so
		return 0, io.EOF
	}
	if x.read >= 5 {
		if err := x.fails("read"); err != nil {
			return 0, err
		}
	}
	n, err := x.body.Read(p[:min(len(p), 1+x.read%4099)])
	x.read += n
	if err == nil && x.body.Len() == 0 && x.read%2 == 0 {
		err = io.EOF
	}
	x.eof = err != nil
	return n, err
}

func (x *fakeExchange) Close() error {
	x.once.Do(func() {
		close(x.closed)
		x.host.count(-1)
	})
	if x.at == "close" {
		return failing(x.name)
	}
	return nil
}

type fakeMessaging struct{ *fakeHost }

func (m fakeMessaging) Publish(_ context.Context, s *capability.Scope, topic string, data []byte) error {
	if err := failing(topic); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, sub := range m.subs {
		if sub.topic == topic && sub.namespace == s.Namespace {
			sub.put(capability.Message{Topic: topic, Data: bytes.Clone(data)})
		}
	}
	return nil
}

func (m fakeMessaging) Subscribe(_ context.Context, s *capability.Scope, topic, group string) (capability.Subscription, error) {
	if err := failing(group); err != nil {
		return nil, err
	}
	m.count(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	sub := &fakeSubscription{host: m.fakeHost, namespace: s.Namespace, topic: topic, messages: make(chan capability.Message, fakePending), closed: make(chan struct{})}
	m.subs = append(m.subs, sub)
	return sub, nil
}

// fakePending is how many messages wait for a subscriber before some are dropped.
const fakePending = 8

type fakeSubscription struct {
	host             *fakeHost
	namespace, topic string
	messages         chan capability.Message
	closed           chan struct{}
	once             sync.Once
	dropped          uint64 // guarded by host.mu
}

// put is called with the host's mu held.
func (s *fakeSubscription) put(m capability.Message) {
	m.Dropped = s.dropped
	select {
	case s.messages <- m:
		s.dropped = 0
	default:
		s.dropped++
	}
}

func (s *fakeSubscription) Receive(ctx context.Context) (capability.Message, error) {
	got := func(m capability.Message) (capability.Message, error) {
		if m.Topic != "" && string(m.Data) == "end" {
			return capability.Message{}, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the messaging system is gone")
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
	case <-s.closed:
		return capability.Message{}, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "closed")
	case <-ctx.Done():
		return capability.Message{}, ctx.Err()
	}
}

func (s *fakeSubscription) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.host.mu.Lock()
		s.host.subs = slices.DeleteFunc(s.host.subs, func(o *fakeSubscription) bool { return o == s })
		s.host.mu.Unlock()
		s.host.count(-1)
	})
	return nil
}

// scopeOf is a scope that the fake host admits.
func scopeOf(instance wasmatrix.InstanceID) *capability.Scope {
	return &capability.Scope{
		Instance: instance, Incarnation: 2, Epoch: 3, Exclusive: true, Capability: "c", Granted: 4, Provider: "p", Namespace: "own/" + string(instance) + "/2", Stale: true,
	}
}

const patience = 20 * time.Second
