package nodetest

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// World is what guests of tests can reach, under capabilities of any name: a
// store, a server that echoes what it is sent, and topics, which are told by their
// names without wildcards. All of it is kept in memory. Its methods may be called
// concurrently; its fields are set before it is used.
type World struct {
	// Before is asked at the beginning of each call, and of each method of what was
	// opened, with ctx the context that ends it. It may block, and the call fails with
	// its error. The names are get, set, delete, list, open, write, response, read,
	// publish, subscribe and receive, the calls' with a space and what they were
	// called with behind. nil lets all pass.
	Before func(ctx context.Context, call string) error
	// Reply is how the server answers; nil echoes.
	Reply Reply

	mu       sync.Mutex
	entries  map[string]capability.Entry
	revision uint64
	calls    []string
	sent     [][]byte
	queries  []capability.ListQuery
	requests []*capability.Request
	topics   map[string][]chan capability.Message
	opened   int // exchanges and subscriptions
	closed   int
}

// NewWorld makes one that is empty.
func NewWorld() *World {
	return &World{entries: map[string]capability.Entry{}, topics: map[string][]chan capability.Message{}}
}

func (w *World) call(ctx context.Context, name string) error {
	w.mu.Lock()
	w.calls = append(w.calls, name)
	w.mu.Unlock()
	if w.Before != nil {
		return w.Before(ctx, name)
	}
	return nil
}

// Called are the names of what was called so far.
func (w *World) Called() []string { return locked(w, func() []string { return slices.Clone(w.calls) }) }

// Open is how many requests and subscriptions are open.
func (w *World) Open() int { return locked(w, func() int { return w.opened - w.closed }) }

// Sent are the values and data that were handed over, the very slices.
func (w *World) Sent() [][]byte { return locked(w, func() [][]byte { return slices.Clone(w.sent) }) }

// Queries are those of lists.
func (w *World) Queries() []capability.ListQuery {
	return locked(w, func() []capability.ListQuery { return slices.Clone(w.queries) })
}

// Requests are those that were opened.
func (w *World) Requests() []*capability.Request {
	return locked(w, func() []*capability.Request { return slices.Clone(w.requests) })
}

// Value is that of a key, "" where there is none.
func (w *World) Value(key string) string {
	return locked(w, func() string { return string(w.entries[key].Value) })
}

// Put sets the value of a key, and returns the entry's revision.
func (w *World) Put(key, value string) uint64 {
	return locked(w, func() uint64 { return w.put(key, []byte(value)) })
}

func locked[T any](w *World, f func() T) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f()
}

func (w *World) put(key string, value []byte) uint64 {
	w.revision++
	w.entries[key] = capability.Entry{Value: value, Revision: w.revision}
	return w.revision
}

// KVGet returns an entry.
func (w *World) KVGet(ctx context.Context, id wasmatrix.CapabilityID, key string) (capability.Entry, bool, error) {
	if err := w.call(ctx, "get "+string(id)); err != nil {
		return capability.Entry{}, false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.entries[key]
	return e, ok, nil
}

// KVSet sets an entry, which lives for ever.
func (w *World) KVSet(ctx context.Context, id wasmatrix.CapabilityID, key string, value []byte, o capability.SetOptions) (uint64, error) {
	if err := w.call(ctx, "set "+string(id)+" "+o.TTL.String()); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if have := w.entries[key].Revision; o.Expect != nil && *o.Expect != have {
		return 0, wasmatrix.Errorf(wasmatrix.CodeConflict, "the revision is another").With(capability.DetailRevision, strconv.FormatUint(have, 10))
	}
	w.sent = append(w.sent, value)
	return w.put(key, value), nil
}

// KVDelete deletes an entry.
func (w *World) KVDelete(ctx context.Context, id wasmatrix.CapabilityID, key string) (bool, error) {
	if err := w.call(ctx, "delete "+string(id)); err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.entries[key]
	delete(w.entries, key)
	return ok, nil
}

// KVList lists keys.
func (w *World) KVList(ctx context.Context, id wasmatrix.CapabilityID, q capability.ListQuery) (p capability.Page, err error) {
	if err := w.call(ctx, "list "+string(id)); err != nil {
		return p, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queries = append(w.queries, q)
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
