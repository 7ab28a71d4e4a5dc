package store

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"strconv"

	"github.com/wasmatrix/wasmatrix"
	kvpb "github.com/wasmatrix/wasmatrix/gen/kv"
)

// DetailRevision is the key of the decimal revision in the details of a CONFLICT.
const DetailRevision = "revision"

// These are part of the log's meaning.
const (
	// revisionBits is how far a log index is moved up to be the least revision of
	// its writes. A Raft group that is restored from an old snapshot goes on with
	// higher indexes, and so no revision is given a second time.
	revisionBits = 12
	// maxExpire is how many entries whose time has run out, and how many writes
	// likewise, each write removes.
	maxExpire = 4
	// maxExpireFull is the same where the quota is reached: what is gone should
	// not stand in the way.
	maxExpireFull = 1024

	entryCost = 128 // bytes that an entry counts for besides its key and value, in the whole store

	maxText  = 64 << 10 // bytes of a key or name
	maxValue = 16 << 20 // bytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tx is the application of one command to the live state.
type tx struct {
	*state
	opts *Options
}

func (t *tx) apply(env *kvpb.Envelope) any {
	// A new leader's clock may be behind its predecessor's.
	t.now = max(t.now, wasmatrix.Time(env.At))
	switch c := env.Command.(type) {
	case *kvpb.Envelope_Set:
		return t.set(c.Set)
	case *kvpb.Envelope_Delete:
		return t.delete(c.Delete)
	case *kvpb.Envelope_RaiseFences:
		return t.raiseFences(c.RaiseFences)
	case *kvpb.Envelope_Expire:
		removed := t.expire(int(c.Expire.GetLimit()))
		return Removed{Entries: removed, More: t.due()}
	case *kvpb.Envelope_Drop:
		return t.drop(c.Drop)
	default:
		panic(&UnknownCommandError{Version: env.Version})
	}
}

func (t *tx) set(c *kvpb.Set) any {
	id := namespaceOf(c.GetNamespace())
	w, err := t.begin(c.GetCaller(), id, c.GetKey(), c.GetWriteId())
	if err != nil {
		return err
	}
	if c.GetTtl() < 0 || len(c.GetValue()) > maxValue {
		return malformed("time to live, or size of value")
	}
	if w.id != ([16]byte{}) {
		b := appendString(make([]byte, 0, 256), "set")
		b = appendNamespace(b, id)
		b = appendString(b, c.GetKey())
		b = binary.AppendVarint(b, c.GetTtl())
		if c.Expect != nil {
			b = binary.AppendUvarint(b, c.GetExpect())
		}
		w.body = crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, c.GetValue())
		if answer := t.repeated(w); answer != nil {
			return answer
		}
	}
	if err := t.admit(c.GetCaller()); err != nil {
		return err
	}

	ns := t.find(id)
	old, now := t.lookup(ns, c.GetKey())
	if c.Expect != nil && c.GetExpect() != revisionOf(now) {
		w.result, w.revision = resultConflict, revisionOf(now)
		return t.finish(w)
	}
	size := uint64(len(c.GetKey()) + len(c.GetValue()))
	if t.beyond(ns, c.GetQuota(), c.GetKey(), old, size, &w) && t.due() {
		t.expire(maxExpireFull)
		ns = t.find(id)
		old, _ = t.lookup(ns, c.GetKey())
		w.result = 0
		t.beyond(ns, c.GetQuota(), c.GetKey(), old, size, &w)
	}
	if w.result != 0 {
		return t.finish(w)
	}
	e := &entry{value: c.GetValue(), revision: t.nextRevision()}
	if ttl := wasmatrix.Time(c.GetTtl()); ttl > 0 {
		e.expires = wasmatrix.Time(math.MaxInt64)
		if t.now < e.expires-ttl {
			e.expires = t.now + ttl
		}
	}
	t.put(ns, id, c.GetKey(), e, old)
	w.result, w.revision = resultSet, e.revision
	return t.finish(w)
}

func (t *tx) delete(c *kvpb.Delete) any {
	id := namespaceOf(c.GetNamespace())
	w, err := t.begin(c.GetCaller(), id, c.GetKey(), c.GetWriteId())
	if err != nil {
		return err
	}
	if w.id != ([16]byte{}) {
		b := appendString(make([]byte, 0, 256), "delete")
		b = appendNamespace(b, id)
		w.body = crc32.Checksum(appendString(b, c.GetKey()), castagnoli)
		if answer := t.repeated(w); answer != nil {
			return answer
		}
	}
	if err := t.admit(c.GetCaller()); err != nil {
		return err
	}
	ns := t.find(id)
	old, now := t.lookup(ns, c.GetKey())
	if old != nil {
		t.remove(ns, c.GetKey())
	}
	w.result = resultAbsent
	if now != nil {
		t.nextRevision()
		w.result = resultDeleted
	}
	return t.finish(w)
}

// begin checks what all writes have, and does their share of the clearing up.
func (t *tx) begin(c *kvpb.Caller, id Namespace, key string, writeID []byte) (write, *wasmatrix.Error) {
	switch {
	case badText(c.GetInstance()):
		return write{}, malformed("caller")
	case badText(string(id.Provider)) || badText(id.Name):
		return write{}, malformed("namespace")
	case badText(key):
		return write{}, malformed("key")
	case len(writeID) != 0 && len(writeID) != len(write{}.id):
		return write{}, malformed("write ID")
	}
	t.forget()
	t.expire(maxExpire)
	w := write{at: t.now}
	copy(w.id[:], writeID)
	return w, nil
}

func revisionOf(e *entry) uint64 {
	if e == nil {
		return 0
	}
	return e.revision
}

func (t *tx) nextRevision() uint64 {
	t.revision = max(t.revision+1, t.index<<revisionBits)
	return t.revision
}

// beyond reports whether a write would leave the namespace, or the store, beyond
// its quota and larger than it is.
func (t *tx) beyond(ns *namespace, q *kvpb.Quota, key string, old *entry, size uint64, w *write) bool {
	var keys, bytes uint64
	if ns != nil {
		keys, bytes = uint64(ns.keys.Len()), ns.bytes
	}
	// What the write takes of the whole store, and what it gives back.
	freed, cost, back := uint64(0), size+entryCost, uint64(0)
	if old != nil {
		freed = uint64(len(key) + len(old.value))
		back = freed + entryCost
	}
	switch {
	case old == nil && keys >= q.GetKeys():
		w.result, w.bound = resultKeysExhausted, q.GetKeys()
	case size > freed && bytes-freed+size > q.GetBytes():
		w.result, w.bound = resultBytesExhausted, q.GetBytes()
	case q.GetTotal() > 0 && cost > back && t.weight()-back+cost > q.GetTotal():
		w.result, w.bound = resultStoreExhausted, q.GetTotal()
	default:
		return false
	}
	return true
}

// weight is what the store takes, about.
func (t *tx) weight() uint64 { return t.bytes + entryCost*t.entries }

// repeated returns the answer of an earlier write with this ID, nil if there was
// none.
func (t *tx) repeated(w write) any {
	before, ok := t.writes.find(w.id)
	if !ok {
		return nil
	}
	if before.body != w.body {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the write ID was used for another write")
	}
	return before.answer()
}

// finish remembers a write and answers it.
func (t *tx) finish(w write) any {
	if w.id != ([16]byte{}) {
		t.writes.add(w)
		t.forget()
	}
	return w.answer()
}

func (t *tx) forget() {
	t.writes.evict(t.now-wasmatrix.Time(t.opts.WriteWindow), t.opts.MaxWrites, maxExpire)
}

func (w *write) answer() any {
	switch w.result {
	case resultSet:
		return Written{Revision: w.revision}
	case resultConflict:
		message := "the entry has another revision than the one expected"
		if w.revision == 0 {
			message = "there is no entry, where one of a given revision was expected"
		}
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "%s", message).With(DetailRevision, strconv.FormatUint(w.revision, 10))
	case resultKeysExhausted:
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the namespace has %d keys, as many as it may", w.bound)
	case resultBytesExhausted:
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the namespace would have more than the %d bytes that it may", w.bound)
	case resultStoreExhausted:
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the kv store has %d bytes of all namespaces, as many as it may", w.bound)
	case resultDeleted:
		return Deleted{Existed: true}
	case resultAbsent:
		return Deleted{}
	default:
		panic("a write without a result was remembered")
	}
}

func badText(s string) bool { return s == "" || len(s) > maxText }

func namespaceOf(n *kvpb.Namespace) Namespace {
	return Namespace{Provider: wasmatrix.ProviderID(n.GetProvider()), Name: n.GetName()}
}
