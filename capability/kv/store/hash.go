package store

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// hashVersion is of the rules below. It moves with [SchemaVersion].
const hashVersion = 1

// hash is the SHA-256 of the canonical form: every field of every record in
// order, text and bytes preceded by their length, numbers as varints.
func (s *state) hash() [32]byte {
	h := hasher{Hash: sha256.New()}
	h.text("wasmatrix kv")
	h.uint(hashVersion)
	h.uint(s.index)
	h.int(int64(s.now))
	h.uint(s.revision)
	h.uint(uint64(s.namespaces.Len()))
	s.namespaces.Scan(func(n slot) bool {
		h.b = appendNamespace(h.b, n.id)
		h.uint(uint64(n.ns.keys.Len()))
		n.ns.keys.Scan(func(key string, e *entry) bool {
			h.text(key)
			h.uint(uint64(len(e.value)))
			h.bytes(e.value)
			h.uint(e.revision)
			h.int(int64(e.expires))
			return true
		})
		return true
	})
	h.uint(uint64(s.fences.Len()))
	s.fences.Scan(func(f Fence) bool {
		h.text(string(f.Instance))
		h.uint(f.Incarnation)
		h.uint(f.Epoch)
		return true
	})
	h.uint(uint64(len(s.writes.byAge)))
	for i := range s.writes.byAge {
		w := &s.writes.byAge[i]
		h.bytes(w.id[:])
		h.int(int64(w.at))
		h.uint(w.revision)
		h.uint(w.bound)
		h.uint(uint64(w.body))
		h.uint(uint64(w.result))
	}
	h.flush()
	return [32]byte(h.Sum(nil))
}

// hasher gathers what it is given in pieces worth hashing.
type hasher struct {
	hash.Hash
	b []byte
}

func (h *hasher) flush() {
	h.Write(h.b)
	h.b = h.b[:0]
}

func (h *hasher) bytes(b []byte) {
	if len(h.b)+len(b) > 64<<10 {
		h.flush()
	}
	if len(b) > 64<<10 {
		h.Write(b)
		return
	}
	h.b = append(h.b, b...)
}

func (h *hasher) text(s string) {
	h.b = appendString(h.b, s)
	if len(h.b) > 32<<10 {
		h.flush()
	}
}

func (h *hasher) uint(v uint64) { h.b = binary.AppendUvarint(h.b, v) }
func (h *hasher) int(v int64)   { h.b = binary.AppendVarint(h.b, v) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendNamespace(b []byte, id Namespace) []byte {
	return appendString(appendString(b, id.Name), string(id.Provider))
}
