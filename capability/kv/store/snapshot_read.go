package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	kvpb "github.com/wasmatrix/wasmatrix/gen/kv"
)

// read builds the state that a snapshot holds, and checks that it is whole and
// consistent.
func read(r io.Reader) (*state, Info, error) {
	var preamble [len(snapshotMagic) + 4]byte
	if _, err := io.ReadFull(r, preamble[:]); err != nil {
		return nil, Info{}, readError(err, "before its header")
	}
	if string(preamble[:len(snapshotMagic)]) != snapshotMagic {
		return nil, Info{}, wasmatrix.Errorf(wasmatrix.CodeStorage, "this is not a kv snapshot: it does not begin with %q", snapshotMagic)
	}
	version := binary.BigEndian.Uint32(preamble[len(snapshotMagic):])
	if version == 0 || version > SchemaVersion {
		return nil, Info{}, wasmatrix.Errorf(wasmatrix.CodeStorage, "this kv snapshot has schema version %d; this build, %s, knows versions up to %d", version, wasmatrix.Version, SchemaVersion)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunk), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, Info{}, wasmatrix.Errorf(wasmatrix.CodeInternal, "cannot decompress a kv snapshot: %w", err)
	}
	defer dec.Close()

	sum := sha256.New()
	sum.Write(preamble[:])
	b := &builder{s: newState()}
	chunks := &chunkReader{r: r}
	info := Info{SchemaVersion: version}
	var raw []byte
	for last := chunkKind(0); last != chunkTrailer; {
		ch, err := chunks.next()
		if err != nil {
			return nil, Info{}, err
		}
		switch {
		case last == 0 && ch.kind != chunkHeader, last != 0 && ch.kind == chunkHeader, ch.kind < last, ch.kind > chunkTrailer:
			return nil, Info{}, corrupt("a chunk of %s follows one of %s", ch.kind, last)
		}
		last = ch.kind
		switch ch.kind {
		case chunkHeader:
			if info.ProductVersion, err = b.begin(ch.payload); err != nil {
				return nil, Info{}, err
			}
		case chunkTrailer:
			if info.Hash, err = b.finish(ch.payload, chunks.n-1, sum.Sum(nil)); err != nil {
				return nil, Info{}, err
			}
		default:
			if raw, err = dec.DecodeAll(ch.payload, raw[:0]); err != nil {
				return nil, Info{}, corrupt("chunk %d (%s) does not decompress: %w", chunks.n, ch.kind, err)
			}
			if len(raw) != ch.rawLen {
				return nil, Info{}, corrupt("chunk %d (%s) has %d bytes, and should have %d", chunks.n, ch.kind, len(raw), ch.rawLen)
			}
			if err := b.records(ch.kind, raw); err != nil {
				return nil, Info{}, corrupt("chunk %d (%s): %w", chunks.n, ch.kind, err)
			}
		}
		sum.Write(ch.head)
		sum.Write(ch.payload)
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n != 0 {
		return nil, Info{}, corrupt("there is data after its end")
	} else if !errors.Is(err, io.EOF) {
		return nil, Info{}, readError(err, "after its end")
	}
	return b.s, info, nil
}

// builder fills a state with records in the order of a snapshot.
type builder struct {
	s      *state
	head   kvpb.SnapshotHeader
	id     Namespace // of the entry before
	key    string
	fence  Fence
	fences uint64
	writes uint64
	timed  int // entries whose time will run out
}

func (b *builder) begin(payload []byte) (product string, err error) {
	if err := proto.Unmarshal(payload, &b.head); err != nil {
		return "", corrupt("header: %w", err)
	}
	b.s.index, b.s.now, b.s.revision = b.head.GetIndex(), wasmatrix.Time(b.head.GetNow()), b.head.GetRevision()
	return b.head.GetProductVersion(), nil
}

func (b *builder) records(kind chunkKind, raw []byte) error {
	for len(raw) > 0 {
		message, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return errors.New("a record has an impossible length")
		}
		raw = raw[n:]
		var err error
		switch kind {
		case chunkEntries:
			err = b.entry(message)
		case chunkFences:
			err = b.addFence(message)
		default:
			err = b.write(message)
		}
		if err != nil {
			return err
		}
	}
	return nil
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

func (b *builder) finish(payload []byte, chunks int, sum []byte) (hash [32]byte, err error) {
	var m kvpb.SnapshotTrailer
	if err := proto.Unmarshal(payload, &m); err != nil {
		return hash, corrupt("trailer: %w", err)
	}
	hash = b.s.hash()
	switch {
	case m.GetChunks() != uint64(chunks):
		return hash, corrupt("it has %d chunks, and should have %d", chunks, m.GetChunks())
	case !bytes.Equal(m.GetSum(), sum):
		return hash, corrupt("its sum does not match")
	case b.s.entries != b.head.GetEntries(), b.fences != b.head.GetFences(), b.writes != b.head.GetWrites():
		return hash, corrupt("it has not as many records as its header says")
	case b.s.expiries.Len() != b.timed:
		return hash, corrupt("a revision was given twice")
	case m.GetHashVersion() != hashVersion:
		return hash, corrupt("its hash is of version %d", m.GetHashVersion())
	case !bytes.Equal(m.GetStateHash(), hash[:]):
		return hash, corrupt("the hash of its state does not match")
	}
	return hash, nil
}
