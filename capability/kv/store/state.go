package store

import (
	"cmp"
	"strings"

	"github.com/tidwall/btree"

	"github.com/wasmatrix/wasmatrix"
)

// Namespace is where keys are told apart: those of two providers never meet.
type Namespace struct {
	Provider wasmatrix.ProviderID
	Name     string
}

// Compare orders by name, then provider.
func (n Namespace) Compare(o Namespace) int {
	if c := strings.Compare(n.Name, o.Name); c != 0 {
		return c
	}
	return strings.Compare(string(n.Provider), string(o.Provider))
}

// Fence is the lowest epoch of an instance's record whose calls are taken.
type Fence struct {
	Instance    wasmatrix.InstanceID
	Incarnation uint64 // log index, of the control plane, that created the record
	Epoch       uint64
}

func (f Fence) compare(o Fence) int {
	if c := strings.Compare(string(f.Instance), string(o.Instance)); c != 0 {
		return c
	}
	return cmp.Compare(f.Incarnation, o.Incarnation)
}

// entry is immutable once it is in a namespace.
type entry struct {
	value    []byte
	revision uint64
	expires  wasmatrix.Time // 0 is never
}

func (e *entry) gone(now wasmatrix.Time) bool { return e.expires != 0 && e.expires <= now }

// namespace belongs to the state of its generation, which may change it; those
// of later generations change a copy.
type namespace struct {
	id         Namespace
	generation uint64
	keys       *btree.Map[string, *entry]
	bytes      uint64 // of keys and values
}

// slot holds a namespace in the tree of all, by value, so that a lookup needs no
// memory.
type slot struct {
	id Namespace
	ns *namespace
}

// expiry is a time at which an entry is gone. The revision makes it unique.
type expiry struct {
	at       wasmatrix.Time
	revision uint64
	id       Namespace
	key      string
}

// state is what the log has made. A fork is a view of its moment: it may be read
// on any goroutine while the original goes on.
type state struct {
	index      uint64         // of the last command
	now        wasmatrix.Time // latest time of any command
	revision   uint64         // the highest that was given
	entries    uint64
	bytes      uint64 // of keys and values, in all namespaces
	generation uint64 // counts the forks

	namespaces *btree.BTreeG[slot]
	fences     *btree.BTreeG[Fence]
	writes     window

	// expiries has every entry whose time will run out. It follows from the
	// entries, and forks do not have it.
	expiries *btree.BTreeG[expiry]
}

var unlocked = btree.Options{NoLocks: true}

func newState() *state {
	return &state{
		namespaces: btree.NewBTreeGOptions(func(a, b slot) bool { return a.id.Compare(b.id) < 0 }, unlocked),
		fences:     btree.NewBTreeGOptions(func(a, b Fence) bool { return a.compare(b) < 0 }, unlocked),
		expiries: btree.NewBTreeGOptions(func(a, b expiry) bool {
			if a.at != b.at {
				return a.at < b.at
			}
			return a.revision < b.revision
		}, unlocked),
		writes: newWindow(),
	}
}

func (s *state) fork() *state {
	f := *s
	f.namespaces = s.namespaces.Copy()
	f.fences = s.fences.Copy()
	f.writes.index = nil
	f.expiries = nil
	s.generation++
	return &f
}

// find returns the namespace for reading, or nil.
func (s *state) find(id Namespace) *namespace {
	found, ok := s.namespaces.Get(slot{id: id})
	if !ok {
		return nil
	}
	return found.ns
}

// mutable returns what find found for changing, made if that was nothing.
func (s *state) mutable(ns *namespace, id Namespace) *namespace {
	switch {
	case ns == nil:
		ns = &namespace{id: id, generation: s.generation, keys: btree.NewMap[string, *entry](0)}
	case ns.generation != s.generation:
		ns = &namespace{id: ns.id, generation: s.generation, keys: ns.keys.Copy(), bytes: ns.bytes}
	default:
		return ns
	}
	s.namespaces.Set(slot{ns.id, ns})
	return ns
}

// lookup returns the entry that takes up memory, and the one that is there for
// those who ask: nil once its time has run out.
func (s *state) lookup(ns *namespace, key string) (physical, visible *entry) {
	if ns == nil {
		return nil, nil
	}
	e, ok := ns.keys.Get(key)
	if !ok {
		return nil, nil
	}
	if e.gone(s.now) {
		return e, nil
	}
	return e, e
}

// put writes an entry in place of old, which is nil where there is none, in the
// namespace that find found.
func (s *state) put(ns *namespace, id Namespace, key string, e, old *entry) {
	ns = s.mutable(ns, id)
	before, after := ns.bytes, ns.bytes+uint64(len(e.value))
	if old != nil {
		s.unindex(old)
		after -= uint64(len(old.value))
	} else {
		s.entries++
		after += uint64(len(key))
	}
	ns.bytes = after
	s.bytes += after - before
	ns.keys.Set(key, e)
	if e.expires != 0 {
		s.expiries.Set(expiry{e.expires, e.revision, ns.id, key})
	}
}

// remove takes an entry out of the namespace that find found, and the namespace
// with the last one.
func (s *state) remove(ns *namespace, key string) {
	ns = s.mutable(ns, ns.id)
	old, ok := ns.keys.Delete(key)
	if !ok {
		return
	}
	s.unindex(old)
	size := uint64(len(key) + len(old.value))
	s.entries--
	s.bytes -= size
	ns.bytes -= size
	if ns.keys.Len() == 0 {
		s.namespaces.Delete(slot{id: ns.id})
	}
}

func (s *state) unindex(e *entry) {
	if e.expires != 0 {
		s.expiries.Delete(expiry{at: e.expires, revision: e.revision})
	}
}

// expire removes entries whose time has run out, the earliest first, at most
// limit of them.
func (s *state) expire(limit int) (removed int) {
	for removed < limit && s.due() {
		first, _ := s.expiries.Min()
		s.remove(s.find(first.id), first.key)
		removed++
	}
	return removed
}

// due reports whether an entry's time has run out.
func (s *state) due() bool {
	first, ok := s.expiries.Min()
	return ok && first.at <= s.now
}
