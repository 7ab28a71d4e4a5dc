package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	kvpb "github.com/wasmatrix/wasmatrix/gen/kv"
	"github.com/wasmatrix/wasmatrix/snapfile"
)

// read builds the state that a snapshot holds, and checks that it is whole and
// consistent.
func read(r io.Reader) (*state, Info, error) {
	b := &builder{s: newState()}
	size, err := snapshotFormat.Read(r, b)
	if err != nil {
		return nil, Info{}, err
	}
	return b.s, Info{
		SchemaVersion: b.version, ProductVersion: b.head.GetProductVersion(), Stats: b.s.stats(), Hash: b.hash, Bytes: size,
	}, nil
}

// builder fills a state with the content of a snapshot, in its order.
type builder struct {
	s       *state
	version uint32
	head    kvpb.SnapshotHeader
	id      Namespace // of the entry before
	key     string
	fence   Fence
	fences  uint64
	writes  uint64
	timed   int      // entries whose time will run out
	hash    [32]byte // of the state, once it is whole
}

// Header implements [snapfile.Content].
func (b *builder) Header(version uint32, message []byte) error {
	if err := proto.Unmarshal(message, &b.head); err != nil {
		return err
	}
	b.version = version
	b.s.index, b.s.now, b.s.revision = b.head.GetIndex(), wasmatrix.Time(b.head.GetNow()), b.head.GetRevision()
	return nil
}

// Record implements [snapfile.Content].
func (b *builder) Record(kind snapfile.Kind, message []byte) error {
	switch kind {
	case chunkEntries:
		return b.entry(message)
	case chunkFences:
		return b.addFence(message)
	case chunkWrites:
		return b.write(message)
	default:
		return errors.New("no records belong here")
	}
}

func (b *builder) entry(message []byte) error {
	var m kvpb.EntryRecord
	if err := proto.Unmarshal(message, &m); err != nil {
		return err
	}
	key := m.GetKey()
	if n := m.GetNamespace(); n != nil {
		id := namespaceOf(n)
		if id.Compare(b.id) <= 0 || badText(string(id.Provider)) || badText(id.Name) {
			return errors.New("a namespace is out of order, or has no name")
		}
		b.id, b.key = id, ""
	}
	if b.id == (Namespace{}) || key <= b.key || badText(key) {
		return errors.New("an entry is out of order, or has no key")
	}
	b.key = key
	e := &entry{value: m.GetValue(), revision: m.GetRevision(), expires: wasmatrix.Time(m.GetExpires())}
	if e.revision == 0 || e.revision > b.s.revision || e.expires < 0 {
		return errors.New("an entry has an impossible revision or time")
	}
	if e.expires != 0 {
		b.timed++
	}
	b.s.put(b.s.find(b.id), b.id, key, e, nil)
	return nil
}

func (b *builder) addFence(message []byte) error {
	var m kvpb.FenceRecord
	if err := proto.Unmarshal(message, &m); err != nil {
		return err
	}
	f := fencesOf([]*kvpb.Fence{m.GetFence()})[0]
	if badText(string(f.Instance)) || b.fences > 0 && f.compare(b.fence) <= 0 {
		return errors.New("a fence is out of order, or of no instance")
	}
	b.fence = f
	b.fences++
	b.s.fences.Set(f)
	return nil
}

func (b *builder) write(message []byte) error {
	var m kvpb.WriteRecord
	if err := proto.Unmarshal(message, &m); err != nil {
		return err
	}
	w := write{
		at: wasmatrix.Time(m.GetAt()), revision: m.GetRevision(), bound: m.GetBound(), body: m.GetBody(), result: result(m.GetResult()),
	}
	if len(m.GetId()) != len(w.id) || m.GetResult() <= 0 || m.GetResult() >= kvpb.WriteResult(results) {
		return errors.New("a write has no ID or no result")
	}
	copy(w.id[:], m.GetId())
	if _, twice := b.s.writes.find(w.id); twice {
		return errors.New("a write is there twice")
	}
	b.s.writes.add(w)
	b.writes++
	return nil
}

// Trailer implements [snapfile.Content]: it compares what was read with what
// was written.
func (b *builder) Trailer(message []byte, found snapfile.Totals) error {
	var m kvpb.SnapshotTrailer
	if err := proto.Unmarshal(message, &m); err != nil {
		return err
	}
	if err := (snapfile.Totals{Chunks: m.GetChunks(), Sum: m.GetSum()}).Check(found); err != nil {
		return err
	}
	b.hash = b.s.hash()
	switch {
	case b.s.entries != b.head.GetEntries(), b.fences != b.head.GetFences(), b.writes != b.head.GetWrites():
		return errors.New("there are not as many records as the header says")
	case b.s.expiries.Len() != b.timed:
		return errors.New("a revision was given twice")
	case m.GetHashVersion() != hashVersion:
		return fmt.Errorf("the hash is of version %d", m.GetHashVersion())
	case !bytes.Equal(m.GetStateHash(), b.hash[:]):
		return errors.New("the hash of the state does not match")
	}
	return nil
}
