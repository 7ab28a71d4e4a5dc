package kvtest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

func (s *suite) setGetDelete() {
	scope := Scope("i")
	s.hasNot(scope, "a")
	s.delete(scope, "a", false)
	first := s.set(scope, "a", "one", capability.SetOptions{})
	s.has(scope, "a", "one", first)
	second := s.set(scope, "a", "two", capability.SetOptions{})
	if second <= first {
		s.Errorf("revision %d follows %d", second, first)
	}
	s.has(scope, "a", "two", second)
	other := s.set(scope, "b", "", capability.SetOptions{})
	s.has(scope, "b", "", other)
	s.delete(scope, "a", true)
	s.hasNot(scope, "a")
	s.delete(scope, "a", false)
	if again := s.set(scope, "a", "three", capability.SetOptions{}); again <= other {
		s.Errorf("revision %d of a key that comes again follows %d", again, other)
	}
	bin := bytes.Repeat([]byte{0, 255, '\r', '\n', 128}, 1000)
	r := s.set(scope, "bin\x00ary", string(bin), capability.SetOptions{})
	s.has(scope, "bin\x00ary", string(bin), r)
	large := strings.Repeat("x", abi.MaxValue)
	r = s.set(scope, strings.Repeat("k", abi.MaxKey), large, capability.SetOptions{})
	s.has(scope, strings.Repeat("k", abi.MaxKey), large, r)
}

func (s *suite) compareAndSwap() {
	scope := Scope("i")
	try := func(value string, expect uint64) (uint64, error) {
		return s.kv.Set(s.ctx, scope, "a", []byte(value), capability.SetOptions{Expect: &expect})
	}
	_, err := try("x", 5)
	s.conflict(err, 0)
	s.hasNot(scope, "a")
	first, err := try("one", 0)
	s.code(err, "")
	_, err = try("again", 0)
	s.conflict(err, first)
	s.has(scope, "a", "one", first)
	second, err := try("two", first)
	s.code(err, "")
	_, err = try("late", first)
	s.conflict(err, second)
	s.has(scope, "a", "two", second)
	s.delete(scope, "a", true)
	_, err = try("gone", second)
	s.conflict(err, 0)
	_, err = try("new", 0)
	s.code(err, "")
}

// counter is counted up by several at a time, by compare and swap alone.
func (s *suite) counter() {
	const clients, each = 6, 20
	scope := Scope("i")
	var wg sync.WaitGroup
	failed := make(chan error, clients)
	for range clients {
		wg.Go(func() {
			for range each {
				if err := s.countUp(scope); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		s.Error(err)
	}
	if v, _, _ := s.get(scope, "counter"); v != strconv.Itoa(clients*each) {
		s.Errorf("the counter is at %s, want %d", v, clients*each)
	}
}

func (s *suite) countUp(scope *capability.Scope) error {
	for {
		e, _, err := s.kv.Get(s.ctx, scope, "counter")
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(string(e.Value))
		_, err = s.kv.Set(s.ctx, scope, "counter", []byte(strconv.Itoa(n+1)), capability.SetOptions{Expect: &e.Revision})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
			return err
		}
	}
}

func (s *suite) list() {
	scope := Scope("i")
	if keys, more := s.keys(scope, capability.ListQuery{}); len(keys) != 0 || more {
		s.Fatalf("an empty namespace has %q, more: %v", keys, more)
	}
	names := []string{"a", "a/", "a/1", "a/10", "a/2", "a/b/c", "a0", "b", "B", "ä", "z", "日本", "\x01", "a\x00b", "\U0010ffff"}
	for n, name := range names {
		s.set(scope, name, strconv.Itoa(n), capability.SetOptions{})
	}
	slices.Sort(names)
	under := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, "a/") })
	for limit := 1; limit <= len(names)+1; limit++ {
		if got := s.all(scope, "", limit); !slices.Equal(got, names) {
			s.Fatalf("in pages of %d: %q, want %q", limit, got, names)
		}
		if got := s.all(scope, "a/", limit); !slices.Equal(got, under) {
			s.Fatalf("under a/ in pages of %d: %q, want %q", limit, got, under)
		}
	}
	if keys, more := s.keys(scope, capability.ListQuery{Limit: len(names)}); len(keys) != len(names) || more {
		s.Errorf("all in one page: %q, more: %v", keys, more)
	}
	for _, q := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "a/1", names[slices.Index(names, "a/10"):]},
		{"a/", "a/1", []string{"a/10", "a/2", "a/b/c"}},
		{"a/", "a/15", []string{"a/2", "a/b/c"}}, // after what is not there
		{"a/", "", under},
		{"a/", "A", under},
		{"a/", "b", nil},
		{"nothing", "", nil},
		{"\U0010ffff", "", []string{"\U0010ffff"}},
	} {
		if got, more := s.keys(scope, capability.ListQuery{Prefix: q.prefix, After: q.after}); !slices.Equal(got, q.want) || more {
			s.Errorf("prefix %q after %q: %q, more: %v; want %q", q.prefix, q.after, got, more, q.want)
		}
	}
	s.delete(scope, "a/10", true)
	if got := s.all(scope, "a/1", 10); !slices.Equal(got, []string{"a/1"}) {
		s.Errorf("after a delete: %q", got)
	}
	// A page has a bound in bytes as well, which nobody notices who follows it.
	many := make([]string, 600)
	for n := range many {
		many[n] = fmt.Sprintf("many%04d%s", n, strings.Repeat("x", 900))
		s.set(scope, many[n], "", capability.SetOptions{})
	}
	if got := s.all(scope, "many", abi.MaxListLimit); !slices.Equal(got, many) {
		s.Errorf("%d long keys, want %d", len(got), len(many))
	}
}

func (s *suite) timeToLive() {
	scope := Scope("i")
	const ttl = 250 * time.Millisecond
	s.set(scope, "for ever", "v", capability.SetOptions{})
	s.set(scope, "kept", "v", capability.SetOptions{TTL: ttl})
	kept := s.set(scope, "kept", "kept", capability.SetOptions{}) // no longer limited
	s.set(scope, "long", "v", capability.SetOptions{TTL: 1 << 62})
	began := time.Now()
	r := s.set(scope, "short", "v", capability.SetOptions{TTL: ttl})
	if v, rev, ok := s.get(scope, "short"); time.Since(began) < ttl && (!ok || v != "v" || rev != r) {
		s.Fatalf("gone at once: %q, %d, %v", v, rev, ok)
	}
	s.set(scope, "short2", "v", capability.SetOptions{TTL: ttl})
	s.eventually("the entry is gone", func() bool { _, _, ok := s.get(scope, "short"); return !ok })
	if lived := time.Since(began); lived < ttl {
		s.Errorf("it lived for %s, want %s", lived, ttl)
	}
	s.eventually("the other is gone from lists", func() bool { return len(s.all(scope, "short", 1)) == 0 })
	s.delete(scope, "short", false)
	_, err := s.kv.Set(s.ctx, scope, "short", []byte("x"), capability.SetOptions{Expect: &r})
	s.conflict(err, 0)
	again, err := s.kv.Set(s.ctx, scope, "short", []byte("again"), capability.SetOptions{Expect: new(uint64)})
	s.code(err, "")
	s.has(scope, "short", "again", again)
	s.has(scope, "kept", "kept", kept)
	if got := s.all(scope, "", 2); !slices.Equal(got, []string{"for ever", "kept", "long", "short"}) {
		s.Errorf("left are %q", got)
	}
}

func (s *suite) namespaces() {
	one := Scope("one")
	shared := With(one, func(c *capability.Scope) { c.Namespace = capability.SharedPrefix + "x" })
	scopes := []*capability.Scope{
		one, Scope("two"), shared,
		With(one, func(c *capability.Scope) { c.Incarnation = 8; c.Namespace = capability.OwnNamespace("one", 8) }),
		With(one, func(c *capability.Scope) { c.Namespace = capability.SharedPrefix + "x2" }),
		With(one, func(c *capability.Scope) { c.Namespace = capability.SharedPrefix + "one" }),
		With(shared, func(c *capability.Scope) { c.Provider = "other" }),
	}
	for n, scope := range scopes {
		s.set(scope, "key", strconv.Itoa(n), capability.SetOptions{})
		s.set(scope, fmt.Sprintf("only%d", n), "", capability.SetOptions{})
	}
	for n, scope := range scopes {
		if v, _, ok := s.get(scope, "key"); !ok || v != strconv.Itoa(n) {
			s.Errorf("namespace %d has %q, %v", n, v, ok)
		}
		if got := s.all(scope, "", 10); !slices.Equal(got, []string{"key", fmt.Sprintf("only%d", n)}) {
			s.Errorf("namespace %d lists %q", n, got)
		}
	}
	s.delete(one, "key", true)
	for n, scope := range scopes[1:] {
		if _, _, ok := s.get(scope, "key"); !ok {
			s.Errorf("a delete in one namespace reached into namespace %d", n+1)
		}
	}
	// Those that were given the same name share it, whoever they are.
	other := With(Scope("two"), func(c *capability.Scope) { c.Namespace = shared.Namespace })
	if v, _, ok := s.get(other, "key"); !ok || v != "2" {
		s.Errorf("in the shared namespace another finds %q, %v", v, ok)
	}
	s.set(other, "key", "from two", capability.SetOptions{})
	if v, _, _ := s.get(shared, "key"); v != "from two" {
		s.Errorf("in the shared namespace one finds %q", v)
	}
}
