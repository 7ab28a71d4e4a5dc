package engine

import (
	"context"
	"encoding/binary"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

//go:generate sh -c "for f in testdata/*.wat; do wat2wasm --debug-names ${DOLLAR}f -o ${DOLLAR}{f%.wat}.wasm || exit 1; done"

// testModule returns the module of testdata/NAME.wat.
func testModule(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/" + name + ".wasm")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// world is what guests of these tests can reach: a store, a server that echoes
// what it is sent, and topics. All of it is kept in memory.
type world struct {
	mu       sync.Mutex
	entries  map[string]capability.Entry
	revision uint64
	calls    []string // names of what was called
	sent     [][]byte // values and data that were handed over, as they are
	requests []*capability.Request
	topics   map[string][]chan capability.Message
	closed   int // exchanges and subscriptions
	opened   int

	// before is asked at the beginning of each call and method of what was opened, and may block. An error is
	// what is answered.
	before func(ctx context.Context, call string) error
	// reply is how the server answers; nil echoes.
	reply  func(body []byte) (*capability.Response, io.Reader)
	limits []capability.ListQuery
}

func newWorld() *world {
	return &world{entries: map[string]capability.Entry{}, topics: map[string][]chan capability.Message{}}
}

func (w *world) call(ctx context.Context, name string) error {
	w.mu.Lock()
	w.calls = append(w.calls, name)
	before := w.before
	w.mu.Unlock()
	if before != nil {
		return before(ctx, name)
	}
	return nil
}

func (w *world) called() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// open is how much is open.
func (w *world) open() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened - w.closed
}

func (w *world) KVGet(ctx context.Context, id wasmatrix.CapabilityID, key string) (capability.Entry, bool, error) {
	if err := w.call(ctx, "get "+string(id)); err != nil {
		return capability.Entry{}, false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.entries[key]
	return e, ok, nil
}

func (w *world) KVSet(ctx context.Context, id wasmatrix.CapabilityID, key string, value []byte, o capability.SetOptions) (uint64, error) {
	if err := w.call(ctx, "set "+string(id)+" "+o.TTL.String()); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if have := w.entries[key].Revision; o.Expect != nil && *o.Expect != have {
		return 0, wasmatrix.Errorf(wasmatrix.CodeConflict, "the revision is another").With(capability.DetailRevision, strconv.FormatUint(have, 10))
	}
	w.revision++
	w.entries[key] = capability.Entry{Value: value, Revision: w.revision}
	w.sent = append(w.sent, value)
	return w.revision, nil
}

func (w *world) KVDelete(ctx context.Context, id wasmatrix.CapabilityID, key string) (bool, error) {
	if err := w.call(ctx, "delete "+string(id)); err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.entries[key]
	delete(w.entries, key)
	return ok, nil
}

func (w *world) KVList(ctx context.Context, id wasmatrix.CapabilityID, q capability.ListQuery) (p capability.Page, err error) {
	if err := w.call(ctx, "list "+string(id)); err != nil {
		return p, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limits = append(w.limits, q)
	for _, k := range slices.Sorted(maps.Keys(w.entries)) {
		if !strings.HasPrefix(k, q.Prefix) || k <= q.After {
			continue
		}
		if len(p.Keys) == q.Limit {
			p.More = true
			break
		}
		p.Keys = append(p.Keys, k)
	}
	return p, nil
}

func (w *world) HTTPOpen(ctx context.Context, id wasmatrix.CapabilityID, r *capability.Request) (capability.Exchange, error) {
	if err := w.call(ctx, "open "+string(id)); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, r)
	w.opened++
	return &echo{w: w, ctx: ctx}, nil
}

// echo is an exchange. It does not look at its context but where world.before does.
type echo struct {
	w        *world
	ctx      context.Context
	once     sync.Once
	body     []byte
	response *capability.Response
	rest     io.Reader
}

func (e *echo) Write(p []byte) (int, error) {
	if err := e.w.call(e.ctx, "write"); err != nil {
		return 0, err
	}
	e.body = append(e.body, p...)
	return len(p), nil
}

func (e *echo) Response() (*capability.Response, error) {
	if err := e.w.call(e.ctx, "response"); err != nil {
		return nil, err
	}
	if e.response == nil {
		e.response, e.rest = &capability.Response{Status: 200, Header: []capability.Field{{Name: "X-Echo", Value: "yes"}, {Name: "Length", Value: strconv.Itoa(len(e.body))}}}, strings.NewReader(string(e.body))
		if e.w.reply != nil {
			e.response, e.rest = e.w.reply(e.body)
		}
	}
	return e.response, nil
}

func (e *echo) Read(p []byte) (int, error) {
	if err := e.w.call(e.ctx, "read"); err != nil {
		return 0, err
	}
	return e.rest.Read(p)
}

func (e *echo) Close() error {
	e.once.Do(func() {
		e.w.mu.Lock()
		defer e.w.mu.Unlock()
		e.w.closed++
	})
	return nil
}

func (w *world) Publish(ctx context.Context, id wasmatrix.CapabilityID, topic string, data []byte) error {
	if err := w.call(ctx, "publish "+string(id)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, data)
	for _, to := range w.topics[topic] {
		select {
		case to <- capability.Message{Topic: topic, Data: data}:
		default: // nobody takes them
		}
	}
	return nil
}

// listen has messages of a topic come to the test.
func (w *world) listen(topic string) <-chan capability.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan capability.Message, 1000)
	w.topics[topic] = append(w.topics[topic], c)
	return c
}

// message sends one to whom has subscribed.
func (w *world) message(topic string, m capability.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, to := range w.topics[topic] {
		to <- m
	}
}

func (w *world) Subscribe(ctx context.Context, id wasmatrix.CapabilityID, topic, group string) (capability.Subscription, error) {
	if err := w.call(ctx, "subscribe "+string(id)+" "+group); err != nil {
		return nil, err
	}
	c := w.listen(topic)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened++
	return &inbox{w: w, ctx: ctx, messages: c}, nil
}

type inbox struct {
	w        *world
	ctx      context.Context
	once     sync.Once
	messages <-chan capability.Message
}

var errOver = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "no more will come")

func (i *inbox) Receive(ctx context.Context) (capability.Message, error) {
	if err := i.w.call(ctx, "receive"); err != nil {
		return capability.Message{}, err
	}
	select {
	case m := <-i.messages:
		if m.Topic == "over" {
			return m, errOver
		}
		return m, nil
	case <-i.ctx.Done():
		return capability.Message{}, errOver
	case <-ctx.Done():
		return capability.Message{}, ctx.Err()
	}
}

func (i *inbox) Close() error {
	i.once.Do(func() {
		i.w.mu.Lock()
		defer i.w.mu.Unlock()
		i.w.closed++
	})
	return nil
}

// step is one call of a script.
type step struct {
	f    string
	args []uint64
}

// do is a step. Numbers are addresses, lengths and i64s; a text is put somewhere
// into the guest's memory, and becomes its address and length.
func (r *reactor) do(f string, args ...any) step {
	r.t.Helper()
	s := step{f: f}
	for _, a := range args {
		switch a := a.(type) {
		case int:
			s.args = append(s.args, uint64(a))
		case string:
			if r.free < texts0 {
				r.free = texts0
			}
			r.put(r.free, []byte(a))
			s.args = append(s.args, uint64(r.free), uint64(len(a)))
			r.free += len(a)
		default:
			r.t.Fatalf("%T", a)
		}
	}
	return s
}

const texts0 = 0x1000 // from where texts are put

// put writes to the guest's memory.
func (r *reactor) put(at int, b []byte) {
	r.t.Helper()
	if _, err := r.bytes("poke", append(binary.LittleEndian.AppendUint32(nil, uint32(at)), b...)); err != nil {
		r.t.Fatal(err)
	}
}

// numberOf is the number of a function in scripts.
func numberOf(f string) int {
	return slices.IndexFunc(hostFunctions, func(h hostFunction) bool { return h.name == f })
}

func encodeSteps(steps []step) (in []byte) {
	for _, s := range steps {
		record := make([]byte, 80)
		binary.LittleEndian.PutUint32(record, uint32(numberOf(s.f)))
		for i, a := range s.args {
			binary.LittleEndian.PutUint64(record[8+8*i:], a)
		}
		in = append(in, record...)
	}
	return in
}

// script has the guest do steps within one invocation, and returns what it was
// told, and what it has written with output_write.
func (r *reactor) script(steps ...step) (told []int32, written []byte) {
	r.t.Helper()
	res, err := r.bytes("script", encodeSteps(steps))
	if err != nil {
		r.t.Fatal(err)
	}
	out := res.Data
	for _, s := range steps {
		if s.f == abi.OutputWrite {
			n := int(s.args[1])
			written = append(written, out[:n]...)
			out = out[n:]
		}
		told = append(told, int32(binary.LittleEndian.Uint32(out)))
		out = out[4:]
	}
	return told, written
}

// want runs a script and holds what the guest is told against what it should be.
func (r *reactor) want(written string, told []int32, steps ...step) {
	r.t.Helper()
	gotTold, gotWritten := r.script(steps...)
	if !slices.Equal(gotTold, told) {
		r.t.Errorf("%v: told %v, want %v", steps, gotTold, told)
	}
	if string(gotWritten) != written {
		r.t.Errorf("%v: wrote %.200q, want %.200q", steps, gotWritten, written)
	}
}
