package engine

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

func kvGet(x *execution, a *args) (int32, error) {
	id, key, buf, rev := a.capability(x), a.key(), a.buffer(), a.revision()
	if a.err != nil {
		return 0, a.err
	}
	x.leave()
	entry, ok, err := x.caps.KVGet(x.Context, id, key)
	x.back()
	switch {
	case err != nil:
		return 0, err
	case !ok:
		setRevision(rev, 0)
		return 0, errNoKey
	case len(entry.Value) > abi.MaxValue:
		return 0, errTooLarge
	}
	setRevision(rev, entry.Revision)
	return x.give(buf, entry.Value), nil
}

var errNoKey = &refusal{abi.ErrNotFound, "there is no such key"}

func kvSet(x *execution, a *args) (int32, error) {
	id, key, value := a.capability(x), a.key(), a.bytes(abi.MaxValue, errTooLarge)
	o := capability.SetOptions{TTL: a.duration("the time to live", false)}
	return kvWrite(x, a, id, key, value, o)
}

func kvCAS(x *execution, a *args) (int32, error) {
	id, key, expect := a.capability(x), a.key(), a.u64()
	value := a.bytes(abi.MaxValue, errTooLarge)
	o := capability.SetOptions{TTL: a.duration("the time to live", false), Expect: &expect}
	return kvWrite(x, a, id, key, value, o)
}

func kvWrite(x *execution, a *args, id wasmatrix.CapabilityID, key string, value []byte, o capability.SetOptions) (int32, error) {
	rev := a.revision()
	if a.err != nil {
		return 0, a.err
	}
	value = bytes.Clone(value) // a provider that is not waited for any more may still have it
	x.leave()
	revision, err := x.caps.KVSet(x.Context, id, key, value, o)
	x.back()
	if err != nil {
		if e := wasmatrix.AsError(err); e.Code == wasmatrix.CodeConflict {
			if there, err := strconv.ParseUint(e.Details[capability.DetailRevision], 10, 64); err == nil {
				setRevision(rev, there)
			}
		}
		return 0, err
	}
	setRevision(rev, revision)
	return 0, nil
}

func kvDelete(x *execution, a *args) (int32, error) {
	id, key := a.capability(x), a.key()
	if a.err != nil {
		return 0, a.err
	}
	x.leave()
	existed, err := x.caps.KVDelete(x.Context, id, key)
	x.back()
	if err != nil || !existed {
		return 0, err
	}
	return 1, nil
}

func kvList(x *execution, a *args) (int32, error) {
	id := a.capability(x)
	q := capability.ListQuery{Prefix: a.text("the prefix", 0, abi.MaxKey), After: a.text("the key to go on after", 0, abi.MaxKey)}
	q.Limit = int(min(a.u32(), abi.MaxListLimit))
	if q.Limit == 0 {
		q.Limit = abi.MaxListLimit
	}
	buf := a.buffer()
	if a.err != nil {
		return 0, a.err
	}
	x.leave()
	page, err := x.caps.KVList(x.Context, id, q)
	x.back()
	if err != nil {
		return 0, err
	}
	return x.give(buf, encodePage(page)), nil
}

// encodePage writes a page as guests read it. Keys that would make it longer than
// a value may be are left for the next one.
func encodePage(p capability.Page) []byte {
	n, size := 0, 8
	for _, k := range p.Keys {
		if size += 4 + len(k); size > abi.MaxValue && n > 0 {
			p.More = true
			break
		}
		n++
	}
	b := make([]byte, 0, min(size, abi.MaxValue+4+abi.MaxKey))
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	more := uint32(0)
	if p.More {
		more = 1
	}
	b = binary.LittleEndian.AppendUint32(b, more)
	for _, k := range p.Keys[:n] {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(k)))
		b = append(b, k...)
	}
	return b
}
