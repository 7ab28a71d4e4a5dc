// Package kv is a store of values under keys.
package kv

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"
	"unsafe"

	wasmatrix "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/internal/host"
)

// Store is what a capability of type kv gives access to.
type Store struct{ id string }

// Open returns the store of a capability. Nothing is checked before it is used.
func Open(capability string) Store { return Store{capability} }

// Entry is a value, and the revision that its last write gave it: above zero, and
// higher than that of any earlier write.
type Entry struct {
	Value    []byte
	Revision uint64
}

// firstBuffer is how long a value may be that is had by one call of the host, in
// bytes.
const firstBuffer = 1 << 10

// Get returns an entry, or wasmatrix.ErrNotFound.
func (s Store) Get(key string) (e Entry, err error) {
	e.Value, err = host.Result(firstBuffer, func(buf unsafe.Pointer, size uint32) int32 {
		return host.KVGet(s.id, key, buf, size, &e.Revision)
	})
	return e, err
}

// Option changes how an entry is written.
type Option func(*options)

type options struct{ ttl time.Duration }

// TTL has the entry go after d, which is counted in milliseconds.
func TTL(d time.Duration) Option { return func(o *options) { o.ttl = d } }

func ttl(opts []Option) int64 {
	var o options
	for _, f := range opts {
		f(&o)
	}
	return host.Millis(o.ttl)
}

// Set writes an entry, whatever there is, and returns its revision.
func (s Store) Set(key string, value []byte, opts ...Option) (revision uint64, err error) {
	ptr, size := host.Bytes(value)
	_, err = host.Check(host.KVSet(s.id, key, ptr, size, ttl(opts), &revision))
	return revision, err
}

// CAS writes an entry if its revision is expect, where 0 is that there is none, and
// returns the new one. Otherwise it fails with wasmatrix.ErrConflict, and returns
// the revision that there is.
func (s Store) CAS(key string, expect uint64, value []byte, opts ...Option) (revision uint64, err error) {
	ptr, size := host.Bytes(value)
	_, err = host.Check(host.KVCAS(s.id, key, expect, ptr, size, ttl(opts), &revision))
	return revision, err
}

// Delete removes an entry, and reports whether there was one.
func (s Store) Delete(key string) (bool, error) {
	n, err := host.Check(host.KVDelete(s.id, key))
	return n == 1, err
}

// Update changes an entry by compare-and-swap, again and again while others change
// it first. change makes the new value of the one that there is, whose revision is 0
// where there is none; it may be called several times, and its error ends the
// update. Where wasmatrix.Unknown tells so of the error, the change may have been made: who must
// know keeps something in the value that tells.
func (s Store) Update(key string, change func(Entry) ([]byte, error), opts ...Option) (Entry, error) {
	for {
		e, err := s.Get(key)
		if err != nil && !errors.Is(err, wasmatrix.ErrNotFound) {
			return Entry{}, err
		}
		value, err := change(e)
		if err != nil {
			return Entry{}, err
		}
		revision, err := s.CAS(key, e.Revision, value, opts...)
		if err == nil {
			return Entry{value, revision}, nil
		}
		if !errors.Is(err, wasmatrix.ErrConflict) {
			return Entry{}, err
		}
	}
}

// List yields the keys that begin with prefix, in order of bytes, or the error that
// ends it. It has them from the host page by page: what is written meanwhile may be
// among them or not.
func (s Store) List(prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		after, more := "", true
		for more {
			var keys []string
			var err error
			keys, more, err = s.Page(prefix, after, 0)
			if err != nil {
				yield("", err)
				return
			}
			for _, k := range keys {
				if !yield(k, nil) {
					return
				}
			}
			if len(keys) == 0 {
				return
			}
			after = keys[len(keys)-1]
		}
	}
}

// Page returns at most limit keys that begin with prefix and come after after, in
// order of bytes, and whether more follow. A limit of 0 is as many as the host
// gives.
func (s Store) Page(prefix, after string, limit int) (keys []string, more bool, err error) {
	b, err := host.Result(16<<10, func(buf unsafe.Pointer, size uint32) int32 {
		return host.KVList(s.id, prefix, after, uint32(limit), buf, size)
	})
	if err != nil {
		return nil, false, err
	}
	n := binary.LittleEndian.Uint32(b)
	more = binary.LittleEndian.Uint32(b[4:]) != 0
	b = b[8:]
	for range n {
		size := binary.LittleEndian.Uint32(b)
		keys = append(keys, string(b[4:4+size]))
		b = b[4+size:]
	}
	return keys, more, nil
}
