package store

import (
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// maxPageBytes bounds a page of a list, unless its first key alone is larger, so
// that a read does not hold up commands for long.
const maxPageBytes = 256 << 10

// Get returns the entry of a key as of the last command, and whether there is
// one; PERMISSION_DENIED where the caller's epoch was superseded. The value must
// not be changed.
//
// An entry is there until state time reaches its end, which makes reads agree
// with commands. A clock that is not zero hides what has run out by it as well:
// for reads that may lag, where state time does not move on.
func (s *Store) Get(c *Caller, id Namespace, key string, clock wasmatrix.Time) (value []byte, revision uint64, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.live.fenced(Fence{c.Instance, c.Incarnation, c.Epoch}); err != nil {
		return nil, 0, false, err
	}
	ns := s.live.find(id)
	if ns == nil {
		return nil, 0, false, nil
	}
	e, ok := ns.keys.Get(key)
	if !ok || e.gone(max(s.live.now, clock)) {
		return nil, 0, false, nil
	}
	return e.value, e.revision, true, nil
}

// List returns keys that begin with prefix and are above after, in order of
// bytes, at most limit of them, and whether more follow. A page may have fewer
// than limit and yet be followed by more. For clock and errors see [Store.Get].
func (s *Store) List(c *Caller, id Namespace, prefix, after string, limit int, clock wasmatrix.Time) (keys []string, more bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.live.fenced(Fence{c.Instance, c.Incarnation, c.Epoch}); err != nil {
		return nil, false, err
	}
	ns := s.live.find(id)
	if ns == nil {
		return nil, false, nil
	}
	now, size := max(s.live.now, clock), 0
	ns.keys.Ascend(max(prefix, after), func(key string, e *entry) bool {
		switch {
		case !strings.HasPrefix(key, prefix):
			return false
		case key == after && after != "" || e.gone(now):
			return true
		case len(keys) == limit || len(keys) > 0 && size+len(key) > maxPageBytes:
			more = true
			return false
		}
		keys = append(keys, key)
		size += len(key)
		return true
	})
	return keys, more, nil
}

// NextExpiry returns the earliest time at which an entry is gone.
func (s *Store) NextExpiry() (wasmatrix.Time, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	first, ok := s.live.expiries.Min()
	return first.at, ok
}

// Namespaces returns those that have entries and are above after, in order, at
// most limit of them. It begins with the one after the zero Namespace.
func (s *Store) Namespaces(after Namespace, limit int) []Namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Namespace
	s.live.namespaces.Ascend(slot{id: after}, func(n slot) bool {
		if n.id != after {
			all = append(all, n.id)
		}
		return len(all) < limit
	})
	return all
}

// Fences returns those above after, in order, at most limit of them. It begins
// with the one after the zero Fence.
func (s *Store) Fences(after Fence, limit int) []Fence {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Fence
	s.live.fences.Ascend(after, func(f Fence) bool {
		if f.compare(after) != 0 {
			all = append(all, f)
		}
		return len(all) < limit
	})
	return all
}

// Stats are numbers about the state, for people.
type Stats struct {
	Index      uint64         // log index of the last command
	Now        wasmatrix.Time // state time
	Revision   uint64         // the highest that was given
	Namespaces int
	Entries    uint64 // those included whose time has run out, until they are removed
	Bytes      uint64 // of their keys and values
	Fences     int
	Writes     int // that are remembered
}

// Stats returns them as of the last command.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.live.stats()
}

func (s *state) stats() Stats {
	return Stats{
		Index: s.index, Now: s.now, Revision: s.revision, Namespaces: s.namespaces.Len(),
		Entries: s.entries, Bytes: s.bytes, Fences: s.fences.Len(), Writes: len(s.writes.byAge),
	}
}

// Usage returns the keys and bytes of a namespace, as quotas count them.
func (s *Store) Usage(id Namespace) Quota {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ns := s.live.find(id)
	if ns == nil {
		return Quota{}
	}
	return Quota{Keys: uint64(ns.keys.Len()), Bytes: ns.bytes}
}
