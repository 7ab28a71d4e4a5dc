package kvtest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Kind is what an operation of a [History] does.
type Kind uint8

// The kinds.
const (
	OpGet Kind = iota
	OpSet
	OpSwap // a set that expects a revision
	OpDelete
)

// Op is what a client asks of a key.
type Op struct {
	Kind   Kind
	Key    string // of one namespace, or told apart from those of others
	Value  string // of OpSet and OpSwap; each its own, for the check to tell much
	Expect uint64 // of OpSwap
}

// Result is what it was answered.
type Result struct {
	Found    bool   // of OpGet; of OpDelete, whether there was an entry
	Value    string // of OpGet
	Revision uint64 // of OpGet, of what was written, or of what a conflict has found
	Conflict bool   // of OpSwap
	unknown  bool
}

// History is what clients of a store did and saw, at the same time. Its methods
// are safe for concurrent use.
type History struct {
	began   time.Time
	clients atomic.Int64

	mu  sync.Mutex
	ops []porcupine.Operation
}

// NewHistory begins one.
func NewHistory() *History { return &History{began: time.Now()} }

// Pending is an operation that has begun. One of its methods is called once, in
// the end.
type Pending struct {
	history *History
	client  int
	op      Op
	call    int64
}

// Begin notes that a client is about to ask. A client does one thing at a time.
func (h *History) Begin(client int, op Op) *Pending {
	return &Pending{h, client, op, int64(time.Since(h.began))}
}

// End notes the answer.
func (p *Pending) End(r Result) { p.history.add(p, r, int64(time.Since(p.history.began))) }

// Unknown notes that there was none: what was asked may have its effect at any
// time from its beginning on, or never.
func (p *Pending) Unknown() {
	if p.op.Kind == OpGet {
		return // tells nothing
	}
	p.history.add(p, Result{unknown: true}, forEver)
}

// forEver is after every operation that was answered.
const forEver = int64(1) << 62

func (h *History) add(p *Pending, r Result, at int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: p.client, Input: p.op, Call: p.call, Output: r, Return: at})
}

// Len is the number of operations noted so far, and of those without an answer.
func (h *History) Len() (all, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		if op.Output.(Result).unknown {
			unknown++
		}
	}
	return len(h.ops), unknown
}

// Check looks for an order of the operations of each key, in which each happens
// at once at some time between its beginning and its end, and which explains all
// answers; and in which later writes have higher revisions. The error says what
// has none, or that none was found in time.
func (h *History) Check(timeout time.Duration) error {
	h.mu.Lock()
	byKey := make(map[string][]porcupine.Operation)
	for _, op := range h.ops {
		key := op.Input.(Op).Key
		byKey[key] = append(byKey[key], op)
	}
	h.mu.Unlock()
	end := time.Now().Add(timeout)
	for key, ops := range byKey {
		switch porcupine.CheckOperationsTimeout(oneKey, ops, max(time.Until(end), time.Millisecond)) {
		case porcupine.Ok:
		case porcupine.Illegal:
			return fmt.Errorf("the history of key %q is not linearizable:\n%s", key, describe(ops))
		default:
			return fmt.Errorf("whether the history of key %q, of %d operations, is linearizable was not found out in %s", key, len(ops), timeout)
		}
	}
	return nil
}

func describe(ops []porcupine.Operation) string {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var s strings.Builder
	for _, op := range ops {
		until := time.Duration(op.Return).String()
		if op.Return == forEver {
			until = "?"
		}
		fmt.Fprintf(&s, "  %s to %s, client %d: %s\n", time.Duration(op.Call), until, op.ClientId, oneKey.DescribeOperation(op.Input, op.Output))
	}
	return s.String()
}

// KV returns a provider that notes what one client does with another, and what
// the errors mean. Of each client there is one, which makes one call at a time.
// Lists are not noted, and entries must not run out.
func (h *History) KV(inner capability.KV) capability.KV {
	return &recorder{inner, h, int(h.clients.Add(1))}
}

type recorder struct {
	capability.KV
	history *History
	client  int
}

func (r *recorder) begin(s *capability.Scope, op Op) *Pending {
	op.Key = string(s.Provider) + "/" + s.Namespace + "/" + op.Key
	return r.history.Begin(r.client, op)
}

// failed notes what an error says of a write.
func failed(p *Pending, err error) {
	e := wasmatrix.AsError(err)
	outcome := e.Details[wasmatrix.DetailOutcome]
	switch e.Code {
	case wasmatrix.CodeTimeout, wasmatrix.CodeProviderUnavailable, wasmatrix.CodeCommunication, wasmatrix.CodeStorage, wasmatrix.CodeInternal:
		if outcome == wasmatrix.OutcomeNone {
			return
		}
	default:
		if outcome != wasmatrix.OutcomeUnknown {
			return
		}
	}
	p.Unknown()
}

func (r *recorder) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	p := r.begin(s, Op{Kind: OpGet, Key: key})
	e, ok, err := r.KV.Get(ctx, s, key)
	if err == nil {
		p.End(Result{Found: ok, Value: string(e.Value), Revision: e.Revision})
	}
	return e, ok, err
}

func (r *recorder) Set(ctx context.Context, s *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	if o.TTL != 0 {
		return 0, wasmatrix.Errorf(wasmatrix.CodeInternal, "a history has no entries that run out").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	op := Op{Kind: OpSet, Key: key, Value: string(value)}
	if o.Expect != nil {
		op.Kind, op.Expect = OpSwap, *o.Expect
	}
	p := r.begin(s, op)
	revision, err := r.KV.Set(ctx, s, key, value, o)
	switch {
	case err == nil:
		p.End(Result{Revision: revision})
	case wasmatrix.CodeOf(err) == wasmatrix.CodeConflict:
		// What it names is 0 where there is no entry.
		found, _ := strconv.ParseUint(wasmatrix.AsError(err).Details[capability.DetailRevision], 10, 64)
		p.End(Result{Conflict: true, Revision: found})
	default:
		failed(p, err)
	}
	return revision, err
}

func (r *recorder) Delete(ctx context.Context, s *capability.Scope, key string, id capability.WriteID) (bool, error) {
	p := r.begin(s, Op{Kind: OpDelete, Key: key})
	existed, err := r.KV.Delete(ctx, s, key, id)
	if err == nil {
		p.End(Result{Found: existed})
	} else {
		failed(p, err)
	}
	return existed, err
}
