package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"math"
	"slices"

	"github.com/wasmatrix/wasmatrix"
)

// hashVersion numbers the newest rules of [State.Hash]. A state is hashed by
// the oldest rules that see all of it, which [State.schema] tells: servers of
// two releases agree on it as long as both know all that is in it, and the
// hash that an old snapshot carries stays good.
const hashVersion = 3

// Hash returns a digest of everything that the state says. Equal states have
// equal hashes, however they came to be: by which commands, through which
// snapshots, with whichever trees and sharing inside.
//
// The cluster's ID is not part of it: a snapshot that is restored into another
// cluster gives the same state there, under that cluster's identity.
//
// It is the SHA-256 of the canonical form: the log index and time, then the
// sections instances, nodes, modules, providers, assignments, crashes,
// requests and facts, each as its number of records and the records. Records
// are in the order of their IDs (crashes and requests: oldest first; facts: by
// index, after the index of the first). A record is the sequence of its fields
// in the order of its type; an instance has the SHA-256 of its spec's form in
// place of the spec. Numbers are varints (signed ones zigzag), floats their
// eight IEEE bytes, texts and lists preceded by their length, maps lists of
// pairs sorted by key, and a pointer is 0, or 1 and what it points at. What
// later rules have added to a record follows its other fields.
func (s *State) Hash() [32]byte {
	h := &hasher{sum: sha256.New(), rules: s.schema(), specs: make(map[*wasmatrix.Spec][]byte)}
	h.buf = appendUint(h.buf, uint64(h.rules))
	h.buf = appendUint(h.buf, s.index)
	h.buf = appendInt(h.buf, s.now)

	h.section(s.instances.Len())
	for i := range s.Instances("") {
		h.buf = appendInstance(h.buf, i, h.spec(i.Spec), h.rules)
		h.flush()
	}
	h.section(s.nodes.Len())
	for n := range s.Nodes() {
		h.buf = appendNode(h.buf, n)
		h.flush()
	}
	h.section(s.modules.Len())
	s.modules.Scan(func(_ string, e *moduleEntry) bool {
		h.buf = appendModule(h.buf, e.module)
		h.buf = appendTexts(h.buf, e.names)
		h.flush()
		return true
	})
	h.section(s.providers.Len())
	for p := range s.Providers() {
		h.buf = appendProvider(h.buf, p)
		h.flush()
	}
	h.section(s.assignmentCount)
	s.assignments.Scan(func(_ wasmatrix.InstanceID, all []*wasmatrix.Assignment) bool {
		for _, a := range all {
			h.buf = appendAssignment(h.buf, a, h.rules)
		}
		h.flush()
		return true
	})
	h.section(s.crashCount)
	s.crashes.Scan(func(id wasmatrix.InstanceID, all []*wasmatrix.Crash) bool {
		for _, c := range all {
			h.buf = appendCrash(appendText(h.buf, id), c, h.rules)
		}
		h.flush()
		return true
	})
	h.section(s.window.byAge.len())
	for _, r := range s.window.byAge.from(0) {
		h.buf = appendRequest(h.buf, *r)
		h.flush()
	}
	h.section(s.facts.len())
	h.buf = appendUint(h.buf, s.facts.first)
	for _, f := range s.facts.from(0) {
		h.buf = appendFact(h.buf, f)
		h.flush()
	}
	h.write()
	return [32]byte(h.sum.Sum(nil))
}

type hasher struct {
	sum   hash.Hash
	rules uint32
	buf   []byte // canonical form not yet written to sum
	text  []byte
	specs map[*wasmatrix.Spec][]byte // digests of those met
}

func (h *hasher) section(records int) { h.buf = appendUint(h.buf, uint64(records)) }

func (h *hasher) flush() {
	if len(h.buf) >= 32<<10 {
		h.write()
	}
}

func (h *hasher) write() {
	h.sum.Write(h.buf)
	h.buf = h.buf[:0]
}

// maxHashedSpecs bounds the memory that hashing takes.
const maxHashedSpecs = 1 << 16

func (h *hasher) spec(s *wasmatrix.Spec) []byte {
	if d, ok := h.specs[s]; ok {
		return d
	}
	if len(h.specs) >= maxHashedSpecs {
		clear(h.specs)
	}
	h.text = appendSpec(h.text[:0], s, h.rules)
	d := sha256.Sum256(h.text)
	h.specs[s] = d[:]
	return d[:]
}

type unsigned interface{ ~uint8 | ~uint32 | ~uint64 }

func appendUint[T unsigned](b []byte, v T) []byte { return binary.AppendUvarint(b, uint64(v)) }

func appendInt[T ~int32 | ~int64](b []byte, v T) []byte { return binary.AppendVarint(b, int64(v)) }

func appendFloat(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(b, math.Float64bits(v))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendText[T ~string](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts[T ~string](b []byte, list []T) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

func appendMap(b []byte, m map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(m)))
	if len(m) == 0 {
		return b
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = appendText(appendText(b, k), m[k])
	}
	return b
}

func appendExit(b []byte, code *int32) []byte {
	if code == nil {
		return append(b, 0)
	}
	return appendInt(append(b, 1), *code)
}

func appendConstraints(b []byte, list []wasmatrix.Constraint) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, c := range list {
		b = appendText(b, c.Key)
		b = appendUint(b, c.Op)
		b = appendTexts(b, c.Values)
	}
	return b
}

func appendSpec(b []byte, s *wasmatrix.Spec, rules uint32) []byte {
	b = append(b, s.Module[:]...)
	b = appendText(b, s.ModuleName)
	b = appendTexts(b, s.Args)
	b = appendMap(b, s.Env)
	b = appendMap(b, s.Labels)
	b = appendConstraints(b, s.Constraints)
	r := s.Restart
	b = appendUint(b, r.Mode)
	b = appendUint(b, r.MaxRetries)
	b = appendInt(b, r.Backoff.Initial)
	b = appendFloat(b, r.Backoff.Multiplier)
	b = appendInt(b, r.Backoff.Max)
	b = appendFloat(b, r.Backoff.Jitter)
	b = appendInt(b, r.Backoff.Reset)
	b = appendUint(b, s.Limits.Memory)
	b = appendUint(b, s.Limits.CPU)
	b = appendInt(b, s.Limits.Deadline)
	b = appendBool(b, s.Exclusive)
	b = appendBool(b, s.Queue)
	if rules >= 2 {
		b = appendUint(b, s.Limits.Fuel)
		b = append(binary.AppendUvarint(b, uint64(len(s.Stdin))), s.Stdin...)
	}
	return b
}

func appendInstance(b []byte, i *wasmatrix.Instance, spec []byte, rules uint32) []byte {
	b = appendText(b, i.ID)
	b = append(b, spec...)
	b = appendUint(b, i.Status)
	b = appendText(b, i.Node)
	b = appendUint(b, i.Epoch)
	b = appendUint(b, i.Attempt)
	b = appendUint(b, i.Seq)
	b = appendBool(b, i.StopRequested)
	b = appendText(b, i.Reason)
	b = appendText(b, i.LastError)
	b = appendExit(b, i.ExitCode)
	b = appendUint(b, i.Restarts)
	b = appendUint(b, i.Crashes)
	b = appendInt(b, i.CreatedAt)
	b = appendInt(b, i.StartedAt)
	b = appendInt(b, i.ChangedAt)
	b = appendUint(b, i.CreateIndex)
	b = appendUint(b, i.ModifyIndex)
	if rules >= 3 {
		b = appendUint(b, i.GrantsIndex)
	}
	return b
}

func appendNode(b []byte, n *wasmatrix.Node) []byte {
	b = appendText(b, n.ID)
	b = appendText(b, n.Boot)
	b = appendText(b, n.Addr)
	b = appendText(b, n.Version)
	b = appendMap(b, n.Labels)
	b = appendUint(b, n.Capacity.Memory)
	b = appendUint(b, n.Capacity.Instances)
	b = appendUint(b, n.Status)
	b = appendBool(b, n.Draining)
	b = appendText(b, n.Reason)
	b = appendInt(b, n.RegisteredAt)
	b = appendInt(b, n.ChangedAt)
	b = appendUint(b, n.CreateIndex)
	return appendUint(b, n.ModifyIndex)
}

func appendModule(b []byte, m *wasmatrix.Module) []byte {
	b = append(b, m.Digest[:]...)
	b = appendInt(b, m.Size)
	b = appendUint(b, m.Kind)
	b = appendTexts(b, m.Imports)
	b = appendTexts(b, m.Exports)
	b = appendInt(b, m.CreatedAt)
	b = appendInt(b, m.UsedAt)
	return appendUint(b, m.CreateIndex)
}

func appendProvider(b []byte, p *wasmatrix.Provider) []byte {
	b = appendText(b, p.ID)
	b = appendText(b, p.Type)
	b = appendMap(b, p.Config)
	b = appendConstraints(b, p.Constraints)
	b = appendBool(b, p.Stopped)
	b = appendUint(b, p.Revision)
	b = appendInt(b, p.ChangedAt)
	b = appendUint(b, p.CreateIndex)
	return appendUint(b, p.ModifyIndex)
}

func appendAssignment(b []byte, a *wasmatrix.Assignment, rules uint32) []byte {
	b = appendText(b, a.Instance)
	b = appendText(b, a.ID)
	b = appendText(b, a.Type)
	b = appendTexts(b, a.Permissions)
	b = appendInt(b, a.CreatedAt)
	b = appendUint(b, a.CreateIndex)
	if rules >= 3 {
		b = appendText(b, a.Provider)
		b = appendText(b, a.Namespace)
		b = appendBool(b, a.Stale)
	}
	return b
}

func appendCrash(b []byte, c *wasmatrix.Crash, rules uint32) []byte {
	b = appendText(b, c.Kind)
	b = appendText(b, c.Message)
	b = appendExit(b, c.ExitCode)
	b = appendTexts(b, c.Stack)
	b = appendText(b, c.Node)
	b = appendUint(b, c.Epoch)
	b = appendUint(b, c.Attempt)
	b = appendInt(b, c.Uptime)
	b = appendInt(b, c.At)
	if rules >= 2 {
		b = appendUint(b, c.Fuel)
		b = appendUint(b, c.MemoryPeak)
	}
	return b
}

func appendRequest(b []byte, r *request) []byte {
	b = appendText(b, r.id)
	b = append(b, r.body[:]...)
	b = appendInt(b, r.at)
	return appendTexts(b, r.instances)
}

func appendFact(b []byte, f *wasmatrix.Fact) []byte {
	b = appendInt(b, f.At)
	b = appendText(b, f.Kind)
	b = appendText(b, f.Instance)
	b = appendText(b, f.Node)
	b = appendUint(b, f.Epoch)
	b = appendUint(b, f.Attempt)
	return appendText(b, f.Reason)
}
