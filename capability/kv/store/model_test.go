package store

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

// model is what the store is meant to do, in the plainest way: entries whose time
// has run out are simply not there.
type model struct {
	now     wasmatrix.Time
	entries map[Namespace]map[string]modelEntry
	fences  map[Fence]uint64 // epoch, by a fence without one
	writes  []modelWrite
}

type modelEntry struct {
	value    string
	revision uint64
	until    wasmatrix.Time
}

// modelWrite is a write that may be repeated; the model takes answers for text.
type modelWrite struct {
	id     [16]byte
	what   string
	answer any
}

func newModel() *model {
	return &model{entries: make(map[Namespace]map[string]modelEntry), fences: make(map[Fence]uint64)}
}

func (m *model) at(t wasmatrix.Time) {
	m.now = max(m.now, t)
	for _, keys := range m.entries {
		maps.DeleteFunc(keys, func(_ string, e modelEntry) bool { return e.until != 0 && e.until <= m.now })
	}
}

func (m *model) admit(c Caller) bool {
	f := Fence{Instance: c.Instance, Incarnation: c.Incarnation}
	if c.Epoch < m.fences[f] {
		return false
	}
	if c.Exclusive {
		m.fences[f] = c.Epoch
	}
	return true
}

// code stands for an answer in the model; a revision is the store's to give.
type code struct {
	wasmatrix.Code
	revision uint64
}

func (m *model) set(c *Set, gave uint64) any {
	if !m.admit(c.Caller) {
		return code{Code: wasmatrix.CodePermissionDenied}
	}
	keys := m.entries[c.Namespace]
	old, there := keys[c.Key]
	if c.Expect != nil && *c.Expect != old.revision {
		return code{wasmatrix.CodeConflict, old.revision}
	}
	size, mine := uint64(0), uint64(len(c.Key)+len(c.Value))
	for k, e := range keys {
		size += uint64(len(k) + len(e.value))
	}
	before := uint64(0)
	if there {
		before = uint64(len(c.Key) + len(old.value))
	}
	if !there && uint64(len(keys)) >= c.Quota.Keys || mine > before && size-before+mine > c.Quota.Bytes {
		return code{Code: wasmatrix.CodeResourceExhausted}
	}
	if keys == nil {
		keys = make(map[string]modelEntry)
		m.entries[c.Namespace] = keys
	}
	e := modelEntry{value: string(c.Value), revision: gave}
	if c.TTL > 0 {
		e.until = m.now + wasmatrix.Time(c.TTL)
	}
	keys[c.Key] = e
	return Written{Revision: gave}
}

func (m *model) delete(c *Delete) any {
	if !m.admit(c.Caller) {
		return code{Code: wasmatrix.CodePermissionDenied}
	}
	_, there := m.entries[c.Namespace][c.Key]
	delete(m.entries[c.Namespace], c.Key)
	return Deleted{Existed: there}
}

// seen returns the answer of the write that this one repeats.
func (m *model) seen(id [16]byte, what string) (any, bool) {
	for _, w := range m.writes {
		if id == w.id && id != ([16]byte{}) {
			if w.what != what {
				return code{Code: wasmatrix.CodeInvalidRequest}, true
			}
			return w.answer, true
		}
	}
	return nil, false
}

func (m *model) remember(id [16]byte, what string, answer any) any {
	if c, ok := answer.(code); id != ([16]byte{}) && (!ok || c.Code != wasmatrix.CodePermissionDenied) {
		m.writes = append(m.writes, modelWrite{id, what, answer})
	}
	return answer
}

func answerText(t *rapid.T, answer any) any {
	e, ok := answer.(*wasmatrix.Error)
	if !ok {
		return answer
	}
	c := code{Code: e.Code}
	if e.Code == wasmatrix.CodeConflict {
		for _, d := range e.Details[DetailRevision] {
			c.revision = c.revision*10 + uint64(d-'0')
		}
	}
	if e.Code == wasmatrix.CodeInternal {
		t.Fatal(e)
	}
	return c
}

// P10: the provider does what it is asked, and answers with what came of it.
func TestP10_KVStoreIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m, d := New(Options{WriteWindow: 24 * time.Hour}), newModel(), &drawer{}
		last := uint64(0)
		for n := range rapid.IntRange(1, 60).Draw(t, "commands") {
			c := d.draw(t)
			answer := answerText(t, s.Apply(uint64(n/3+1), must(c)))
			var want any
			gave := uint64(0)
			if w, ok := answer.(Written); ok {
				gave = w.Revision
			}
			switch c := c.(type) {
			case *Set:
				m.at(c.At)
				what := describe(c)
				before, repeated := m.seen(c.ID, what)
				if want = before; !repeated {
					if gave != 0 && gave <= last {
						t.Fatalf("revision %d follows %d", gave, last)
					}
					last = max(last, gave)
					want = m.remember(c.ID, what, m.set(c, gave))
				}
				d.last = max(gave, d.last)
			case *Delete:
				m.at(c.At)
				what := "delete " + c.Namespace.Name + string(c.Namespace.Provider) + c.Key
				before, repeated := m.seen(c.ID, what)
				if want = before; !repeated {
					want = m.remember(c.ID, what, m.delete(c))
				}
			case *RaiseFences:
				m.at(c.At)
				fences := slices.Clone(c.Fences)
				for i, f := range fences {
					id := Fence{Instance: f.Instance, Incarnation: f.Incarnation}
					m.fences[id] = max(m.fences[id], f.Epoch)
					fences[i].Epoch = m.fences[id]
				}
				if !slices.Equal(fences, answer.([]Fence)) {
					t.Fatalf("fences in force: %v, want %v", answer, fences)
				}
				answer = nil // compared already
			case *Expire:
				m.at(c.At)
				if r := answer.(Removed); r.Entries > int(c.Limit) {
					t.Fatalf("%+v removed %+v", c, r)
				}
				want = answer
			case *Drop:
				m.at(c.At)
				m.drop(t, s, c, answer.(Removed))
				want = answer
			}
			if answer != want {
				t.Fatalf("%+v answers %#v, want %#v", c, answer, want)
			}
			m.compare(t, s)
		}
	})
}

func describe(c *Set) string {
	what := "set " + c.Namespace.Name + string(c.Namespace.Provider) + c.Key + string(c.Value) + c.TTL.String()
	if c.Expect != nil {
		what += "expects " + string(rune(*c.Expect))
	}
	return what
}

// drop takes over how far the store came, and holds it to its limit.
func (m *model) drop(t *rapid.T, s *Store, c *Drop, r Removed) {
	for _, f := range c.Fences {
		delete(m.fences, Fence{Instance: f.Instance, Incarnation: f.Incarnation})
	}
	if r.Entries > int(c.Limit) {
		t.Fatalf("%+v removed %+v", c, r)
	}
	for _, n := range c.Namespaces {
		left, _, err := s.List(&Caller{Instance: "reader"}, n, "", "", 100, 0)
		if err != nil || len(left) > 0 && !r.More {
			t.Fatalf("%+v answers %+v, and %q are left (%v)", c, r, left, err)
		}
		maps.DeleteFunc(m.entries[n], func(k string, _ modelEntry) bool { return !slices.Contains(left, k) })
	}
}

// compare reads everything by every way.
func (m *model) compare(t *rapid.T, s *Store) {
	reader := &Caller{Instance: "reader"}
	total, bytes := uint64(0), uint64(0)
	for _, ns := range []Namespace{{"kv", "own/i/1"}, {"kv", "own/i/10"}, {"kv", "shared/x"}, {"other", "shared/x"}} {
		want := slices.Sorted(maps.Keys(m.entries[ns]))
		got, more, err := s.List(reader, ns, "", "", 100, 0)
		if err != nil || more || !slices.Equal(got, want) {
			t.Fatalf("%v has %q, more: %v, %v; want %q", ns, got, more, err, want)
		}
		for _, prefix := range []string{"a", "a/", "ä", "b"} {
			for _, after := range []string{"", "a", "a/0", "c"} {
				under := slices.DeleteFunc(slices.Clone(want), func(k string) bool { return !strings.HasPrefix(k, prefix) || after != "" && k <= after })
				got, more, _ := s.List(reader, ns, prefix, after, 2, 0)
				if !slices.Equal(got, under[:min(2, len(under))]) || more != (len(under) > 2) {
					t.Fatalf("%v under %q after %q has %q, more: %v; want of %q", ns, prefix, after, got, more, under)
				}
			}
		}
		for k, e := range m.entries[ns] {
			value, revision, ok, err := s.Get(reader, ns, k, 0)
			if err != nil || !ok || string(value) != e.value || revision != e.revision {
				t.Fatalf("%v %q: %q, %d, %v, %v; want %+v", ns, k, value, revision, ok, err, e)
			}
		}
		use := s.Usage(ns)
		if use.Keys < uint64(len(want)) {
			t.Fatalf("%v uses %+v for %q", ns, use, want)
		}
		total += use.Keys
		bytes += use.Bytes
	}
	if got := s.Stats(); got.Entries != total || got.Bytes != bytes || got.Now != m.now || got.Revision < m.highest() {
		t.Fatalf("%+v; %d entries, now %d, revision at least %d", got, total, m.now, m.highest())
	}
	for _, f := range s.Fences(Fence{}, 100) {
		if m.fences[Fence{Instance: f.Instance, Incarnation: f.Incarnation}] != f.Epoch {
			t.Fatalf("fence %+v, the model has %v", f, m.fences)
		}
	}
	for f, epoch := range m.fences {
		_, _, _, err := s.Get(&Caller{Instance: f.Instance, Incarnation: f.Incarnation, Epoch: epoch}, Namespace{"kv", "own/i/1"}, "a", 0)
		_, _, late := s.List(&Caller{Instance: f.Instance, Incarnation: f.Incarnation, Epoch: epoch - 1}, Namespace{"kv", "own/i/1"}, "", "", 1, 0)
		if err != nil || wasmatrix.CodeOf(late) != wasmatrix.CodePermissionDenied {
			t.Fatalf("fenced to epoch %d: it gets %v, the one before %v", epoch, err, late)
		}
	}
}

func (m *model) highest() (revision uint64) {
	for _, keys := range m.entries {
		for _, e := range keys {
			revision = max(revision, e.revision)
		}
	}
	return revision
}
