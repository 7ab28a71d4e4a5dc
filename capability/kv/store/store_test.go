package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	kvpb "github.com/wasmatrix/wasmatrix/gen/kv"
)

var (
	own    = Namespace{"kv", "own/i/1"}
	amply  = Quota{Keys: 1 << 40, Bytes: 1 << 40}
	caller = Caller{Instance: "i", Incarnation: 1, Epoch: 1}
)

func setOf(at wasmatrix.Time, key, value string, ttl time.Duration) *Set {
	return &Set{At: at, Caller: caller, Namespace: own, Key: key, Value: []byte(value), TTL: ttl, Quota: amply}
}

func apply[T any](t testing.TB, s *Store, index uint64, c command) T {
	t.Helper()
	answer, ok := s.Apply(index, must(c)).(T)
	if !ok {
		t.Fatalf("%+v answers %#v", c, s.Apply(index, must(c)))
	}
	return answer
}

func get(t testing.TB, s *Store, key string, clock wasmatrix.Time) (string, bool) {
	t.Helper()
	v, _, ok, err := s.Get(&caller, own, key, clock)
	if err != nil {
		t.Fatal(err)
	}
	return string(v), ok
}

// A revision is above every one that a group gave which was restored to an
// earlier state, since its log goes on with higher indexes.
func TestRevisionsFollowTheLog(t *testing.T) {
	s := New(Options{})
	first := apply[Written](t, s, 5, setOf(1, "a", "v", 0)).Revision
	second := apply[Written](t, s, 5, setOf(1, "b", "v", 0)).Revision
	if first != 5<<revisionBits || second != first+1 {
		t.Errorf("revisions %d and %d in entry 5", first, second)
	}
	var early bytes.Buffer
	if err := s.Snapshot()(&early); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for range 100 {
		last = apply[Written](t, s, 6, setOf(1, "a", "v", 0)).Revision
	}
	if err := s.Restore(&early); err != nil {
		t.Fatal(err)
	}
	if again := apply[Written](t, s, 7, setOf(1, "a", "v", 0)).Revision; again <= last {
		t.Errorf("after a restore revision %d was given, after %d", again, last)
	}
	// More writes in one entry than a revision has room for are still told apart.
	for range 3 << revisionBits {
		next := apply[Written](t, s, 7, setOf(1, "a", "v", 0)).Revision
		if next <= last {
			t.Fatalf("revision %d follows %d", next, last)
		}
		last = next
	}
	if next := apply[Written](t, s, 8, setOf(1, "a", "v", 0)).Revision; next <= last {
		t.Errorf("revision %d follows %d", next, last)
	}
}

// An entry that was seen gone does not come back, however the clocks run: it is
// there until state time reaches its end, for reads and commands alike.
func TestTimeIsOfTheState(t *testing.T) {
	s := New(Options{})
	apply[Written](t, s, 1, setOf(100, "a", "v", 10))
	apply[Written](t, s, 2, setOf(109, "b", "v", 0))
	if _, ok := get(t, s, "a", 0); !ok {
		t.Error("a is gone before its time")
	}
	if _, ok := get(t, s, "a", 110); ok {
		t.Error("by a clock that is beyond its end, a is there")
	}
	if next, ok := s.NextExpiry(); !ok || next != 110 {
		t.Errorf("the next expiry is at %d, %v", next, ok)
	}
	apply[Written](t, s, 3, setOf(110, "b", "v", 0))
	if _, ok := get(t, s, "a", 0); ok {
		t.Error("a is there after its time")
	}
	apply[Written](t, s, 4, setOf(50, "c", "v", 10)) // a clock that is behind
	if _, ok := get(t, s, "a", 0); ok {
		t.Error("a has come back")
	}
	if got := s.Stats().Now; got != 110 {
		t.Errorf("state time is %d", got)
	}
	if _, ok := get(t, s, "c", 119); !ok {
		t.Error("c does not live as long as it should from state time on")
	}
	// The end of time is never reached by adding to it.
	apply[Written](t, s, 5, setOf(math.MaxInt64-5, "d", "v", time.Hour))
	if _, ok := get(t, s, "d", 0); !ok {
		t.Error("d is gone though its end is out of reach")
	}
}

func TestExpireIsBounded(t *testing.T) {
	s := New(Options{})
	for n := range 100 {
		apply[Written](t, s, 1, setOf(1, fmt.Sprint(n), "v", time.Duration(1000+n)))
	}
	if r := apply[Removed](t, s, 2, &Expire{At: 1001, Limit: 10}); r != (Removed{1, false}) {
		t.Errorf("removed %+v", r)
	}
	if r := apply[Removed](t, s, 2, &Expire{At: 5000, Limit: 40}); r != (Removed{40, true}) {
		t.Errorf("removed %+v", r)
	}
	if got := s.Stats().Entries; got != 59 {
		t.Errorf("%d entries are left", got)
	}
	// Every write takes some along.
	apply[Written](t, s, 3, setOf(5000, "new", "v", 0))
	if got := s.Stats().Entries; got != 59-maxExpire+1 {
		t.Errorf("%d entries are left after a write", got)
	}
	if r := apply[Removed](t, s, 4, &Expire{At: 5000, Limit: 100}); r != (Removed{59 - maxExpire, false}) {
		t.Errorf("removed %+v", r)
	}
}

// What is gone does not stand in the way of what is new, though much of it has not
// been removed yet.
func TestQuotaCountsNothingThatIsGone(t *testing.T) {
	s := New(Options{})
	set := func(at wasmatrix.Time, key, value string, ttl time.Duration) wasmatrix.Code {
		c := setOf(at, key, value, ttl)
		c.Quota = Quota{Keys: 1000, Bytes: 500}
		err, _ := s.Apply(1, must(c)).(error)
		return wasmatrix.CodeOf(err)
	}
	for n := range 100 {
		if code := set(1, fmt.Sprintf("k%03d", n), "v", 10); code != "" {
			t.Fatalf("set %d: %s", n, code)
		}
	}
	large := strings.Repeat("x", 400)
	if code := set(10, "new", large, 0); code != wasmatrix.CodeResourceExhausted {
		t.Errorf("before they are gone: %q", code)
	}
	if code := set(11, "new", large, 0); code != "" {
		t.Errorf("when they are gone: %q", code)
	}
	if code := set(11, "newer", large, 0); code != wasmatrix.CodeResourceExhausted {
		t.Errorf("beside another: %q", code)
	}
}

// All namespaces together are bounded as well.
func TestQuotaOfTheStore(t *testing.T) {
	s := New(Options{})
	set := func(n int, name, key string, size int) wasmatrix.Code {
		c := setOf(1, key, strings.Repeat("x", size), 0)
		c.Namespace.Name, c.Quota.Total, c.ID = name, 1000, [16]byte{byte(n + 1)}
		var codes []wasmatrix.Code
		for range 2 { // a refusal is remembered as well
			err, _ := s.Apply(1, must(c)).(error)
			codes = append(codes, wasmatrix.CodeOf(err))
		}
		if codes[0] != codes[1] {
			t.Errorf("%q when it was repeated", codes)
		}
		return codes[0]
	}
	for n, step := range []struct {
		name, key string
		size      int
		want      wasmatrix.Code
	}{
		{"one", "a", 499, ""}, // with its key and what it costs 628
		{"second", "a", 243, ""},
		{"third", "a", 0, wasmatrix.CodeResourceExhausted},
		{"one", "a", 500, wasmatrix.CodeResourceExhausted},
		{"one", "a", 370, ""},
		{"third", "a", 0, ""},
		{"third", "b", 0, wasmatrix.CodeResourceExhausted},
	} {
		if got := set(n, step.name, step.key, step.size); got != step.want {
			t.Errorf("%+v: %q", step, got)
		}
	}
	if got := s.Stats().Bytes; got != 371+244+1 {
		t.Errorf("%d bytes", got)
	}
	r := New(Options{})
	if err := r.Restore(bytes.NewReader(saved(t, s))); err != nil || r.Stats() != s.Stats() {
		t.Errorf("restored as %+v, from %+v (%v)", r.Stats(), s.Stats(), err)
	}
}

func TestDropIsBounded(t *testing.T) {
	s := New(Options{})
	other := Namespace{"kv", "own/j/1"}
	for n := range 10 {
		apply[Written](t, s, 1, setOf(1, fmt.Sprint(n), "v", time.Hour))
		c := setOf(1, fmt.Sprint(n), "v", 0)
		c.Namespace = other
		apply[Written](t, s, 1, c)
	}
	apply[[]Fence](t, s, 2, &RaiseFences{Fences: []Fence{{"i", 1, 3}, {"i", 2, 4}}})
	drop := &Drop{Namespaces: []Namespace{own, {"kv", "none"}, other}, Fences: []Fence{{Instance: "i", Incarnation: 1}}, Limit: 15}
	if r := apply[Removed](t, s, 3, drop); r != (Removed{15, true}) {
		t.Errorf("dropped %+v", r)
	}
	if r := apply[Removed](t, s, 4, drop); r != (Removed{5, false}) {
		t.Errorf("dropped %+v", r)
	}
	if got := s.Stats(); got.Entries != 0 || got.Namespaces != 0 || got.Fences != 1 {
		t.Errorf("%+v are left", got)
	}
	if _, ok := s.NextExpiry(); ok {
		t.Error("what was dropped still runs out")
	}
	if got := s.Fences(Fence{}, 10); len(got) != 1 || got[0] != (Fence{"i", 2, 4}) {
		t.Errorf("fences left: %v", got)
	}
}

func TestWindowIsBounded(t *testing.T) {
	s := New(Options{MaxWrites: 3, WriteWindow: 100})
	write := func(at wasmatrix.Time, n byte) uint64 {
		c := setOf(at, "a", "v", 0)
		c.ID[0] = n
		return apply[Written](t, s, 1, c).Revision
	}
	first := write(1, 1)
	write(1, 2)
	write(1, 3)
	if again := write(1, 1); again != first {
		t.Error("a write is forgotten while there is room for it")
	}
	write(2, 4)
	if got := s.Stats().Writes; got != 3 {
		t.Errorf("%d writes are remembered, at most 3 may be", got)
	}
	if again := write(2, 1); again == first {
		t.Error("the oldest write is remembered beyond the bound")
	}
	for range 4 {
		write(200, 9) // repeated, and yet each lets go of some
	}
	if got := s.Stats().Writes; got != 1 {
		t.Errorf("%d writes are remembered after their time", got)
	}
}

func TestWindowGivesBackItsIndex(t *testing.T) {
	w := newWindow()
	const n = 1 << 15
	for i := range n {
		w.add(write{id: [16]byte{byte(i), byte(i >> 8), 1}, at: 1})
	}
	w.evict(2, n, n-10)
	if len(w.index) != 10 || w.peak > n/4 {
		t.Errorf("the index has %d writes and had %d since it was made", len(w.index), w.peak)
	}
	for i := n - 10; i < n; i++ {
		if _, ok := w.find([16]byte{byte(i), byte(i >> 8), 1}); !ok {
			t.Errorf("write %d is not found any more", i)
		}
	}
}

func TestNewerCommandsStopTheServer(t *testing.T) {
	for name, c := range map[string]struct {
		command   []byte
		ignorable bool
	}{
		"version":            {marshal(t, &kvpb.Envelope{Version: 2, Command: &kvpb.Envelope_Expire{Expire: &kvpb.Expire{}}}), false},
		"ignorable version":  {marshal(t, &kvpb.Envelope{Version: 2, Ignorable: true}), true},
		"command":            {protowire.AppendBytes(protowire.AppendTag([]byte{8, 1}, 99, protowire.BytesType), nil), false},
		"other type":         {protowire.AppendVarint(protowire.AppendTag([]byte{8, 2}, 16, protowire.BytesType), 100), false},
		"ignorable, no body": {[]byte{8, 9, 16, 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Options{})
			stopped := func() (err error) {
				defer func() { err, _ = recover().(error) }()
				if answer := s.Apply(1, c.command); answer != nil {
					t.Errorf("answers %#v", answer)
				}
				return nil
			}()
			if unknown, ok := errors.AsType[*UnknownCommandError](stopped); ok == c.ignorable {
				t.Errorf("stopped by %v", stopped)
			} else if ok && !strings.Contains(unknown.Error(), "upgrade") {
				t.Errorf("%q does not say what to do", unknown)
			}
			if got := s.Stats(); got.Now != 0 {
				t.Errorf("the state has changed: %+v", got)
			}
		})
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMalformedCommands(t *testing.T) {
	set := func(change func(*Set)) []byte {
		c := setOf(1, "a", "v", 0)
		change(c)
		return must(c)
	}
	for name, b := range map[string][]byte{
		"empty":         {},
		"rubbish":       {0xff, 0xff},
		"no key":        set(func(c *Set) { c.Key = "" }),
		"long key":      set(func(c *Set) { c.Key = strings.Repeat("k", maxText+1) }),
		"no namespace":  set(func(c *Set) { c.Namespace.Name = "" }),
		"no provider":   set(func(c *Set) { c.Namespace.Provider = "" }),
		"no caller":     set(func(c *Set) { c.Caller = Caller{} }),
		"negative TTL":  set(func(c *Set) { c.TTL = -1 }),
		"short ID":      marshal(t, &kvpb.Envelope{Version: 1, Command: &kvpb.Envelope_Delete{Delete: &kvpb.Delete{Caller: caller.proto(), Namespace: own.proto(), Key: "a", WriteId: []byte{1}}}}),
		"fence of none": must(&RaiseFences{Fences: []Fence{{"i", 1, 5}, {}}}),
	} {
		s := New(Options{})
		answer, _ := s.Apply(1, b).(error)
		if wasmatrix.CodeOf(answer) != wasmatrix.CodeInvalidRequest {
			t.Errorf("%s: %v", name, answer)
		}
		if got := s.Stats(); got.Entries+uint64(got.Fences)+uint64(got.Writes) != 0 {
			t.Errorf("%s: left %+v", name, got)
		}
	}
	if _, err := (&Set{Key: "\xff"}).Encode(); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("a key that is not UTF-8: %v", err)
	}
}

// The store keeps nothing of a command: with it, it would keep all the others of
// its entry.
func TestApplyKeepsNothingOfTheCommand(t *testing.T) {
	s := New(Options{})
	b := must(setOf(1, "key", "value", 0))
	s.Apply(1, b)
	for i := range b {
		b[i] = 'x'
	}
	if v, ok := get(t, s, "key", 0); !ok || v != "value" {
		t.Errorf("key has %q, %v", v, ok)
	}
}

func TestPagesOfNamespacesAndFences(t *testing.T) {
	s := New(Options{})
	for n := range 5 {
		c := setOf(1, "a", "v", 0)
		c.Namespace.Name = fmt.Sprintf("own/%d/1", n)
		c.Caller = Caller{Instance: wasmatrix.InstanceID(fmt.Sprint(n)), Incarnation: 1, Epoch: 3, Exclusive: true}
		apply[Written](t, s, 1, c)
	}
	var names, fences []string
	for after := (Namespace{}); ; {
		page := s.Namespaces(after, 2)
		for _, n := range page {
			names = append(names, n.Name)
		}
		if len(page) < 2 {
			break
		}
		after = page[len(page)-1]
	}
	for after := (Fence{}); ; {
		page := s.Fences(after, 2)
		for _, f := range page {
			fences = append(fences, string(f.Instance))
		}
		if len(page) < 2 {
			break
		}
		after = page[len(page)-1]
	}
	if got := strings.Join(names, " "); got != "own/0/1 own/1/1 own/2/1 own/3/1 own/4/1" {
		t.Errorf("namespaces: %s", got)
	}
	if got := strings.Join(fences, " "); got != "0 1 2 3 4" {
		t.Errorf("fences: %s", got)
	}
}
