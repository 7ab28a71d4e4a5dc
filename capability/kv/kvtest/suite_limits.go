package kvtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

func (s *suite) refusedSet(scope *capability.Scope, key, value string, code wasmatrix.Code) {
	s.Helper()
	_, err := s.kv.Set(s.ctx, scope, key, []byte(value), capability.SetOptions{})
	s.code(err, code)
}

func (s *suite) quotaOfKeys() {
	scope := Scope("i")
	for _, key := range []string{"a", "b", "c"} {
		s.set(scope, key, "v", capability.SetOptions{})
	}
	s.refusedSet(scope, "d", "v", wasmatrix.CodeResourceExhausted)
	s.hasNot(scope, "d")
	s.set(scope, "a", "other", capability.SetOptions{}) // no more keys than before
	s.set(Scope("other"), "d", "v", capability.SetOptions{})
	s.delete(scope, "b", true)
	s.set(scope, "d", "v", capability.SetOptions{})
	s.refusedSet(scope, "b", "v", wasmatrix.CodeResourceExhausted)
}

func (s *suite) quotaOfBytes() {
	scope := Scope("i")
	s.set(scope, "a", strings.Repeat("x", 49), capability.SetOptions{}) // with its key 50
	s.set(scope, "b", strings.Repeat("x", 49), capability.SetOptions{})
	s.refusedSet(scope, "c", "", wasmatrix.CodeResourceExhausted)
	s.refusedSet(scope, "a", strings.Repeat("x", 50), wasmatrix.CodeResourceExhausted)
	s.set(scope, "a", strings.Repeat("y", 49), capability.SetOptions{})
	s.set(scope, "a", "", capability.SetOptions{})
	s.set(scope, "c", strings.Repeat("x", 48), capability.SetOptions{})
	s.refusedSet(scope, "d", "", wasmatrix.CodeResourceExhausted)
	s.delete(scope, "b", true)
	s.set(scope, "d", strings.Repeat("x", 49), capability.SetOptions{})
	s.refusedSet(scope, "e", "", wasmatrix.CodeResourceExhausted)
}

// quotaOfExpired sees that what is gone does not stand in the way.
func (s *suite) quotaOfExpired() {
	scope := Scope("i")
	for n := range 20 {
		s.set(scope, "old"+strconv.Itoa(n), "v", capability.SetOptions{TTL: 100 * time.Millisecond})
	}
	s.eventually("all of them are gone", func() bool { return len(s.all(scope, "", 100)) == 0 })
	for n := range 20 {
		s.set(scope, "new"+strconv.Itoa(n), "v", capability.SetOptions{})
	}
	s.refusedSet(scope, "a", "v", wasmatrix.CodeResourceExhausted)
}

// quotaOfExpiredBytes is the same, where one that is new takes the room of many.
func (s *suite) quotaOfExpiredBytes() {
	scope := Scope("i")
	for n := range 100 {
		s.set(scope, fmt.Sprintf("old%02d", n), "v", capability.SetOptions{TTL: 200 * time.Millisecond})
	}
	// They are not asked for, which might remove them: the clock alone says that
	// they are gone.
	last := With(scope, func(c *capability.Scope) { c.Namespace = capability.SharedPrefix + "clock" })
	s.set(last, "later", "v", capability.SetOptions{TTL: 200 * time.Millisecond})
	s.eventually("they are gone", func() bool { _, _, ok := s.get(last, "later"); return !ok })
	s.set(scope, "new", strings.Repeat("x", 900), capability.SetOptions{})
	s.refusedSet(scope, "other", strings.Repeat("x", 100), wasmatrix.CodeResourceExhausted)
	if got := s.all(scope, "", 200); !slices.Equal(got, []string{"new"}) {
		s.Errorf("left are %q", got)
	}
}

func (s *suite) sizeOfValues() {
	scope := Scope("i")
	s.set(scope, "a", "0123456789", capability.SetOptions{})
	s.refusedSet(scope, "a", "0123456789x", wasmatrix.CodeResourceExhausted)
	if v, _, _ := s.get(scope, "a"); v != "0123456789" {
		s.Errorf("a has %q", v)
	}
}

func (s *suite) fence() {
	first := With(Scope("i"), func(c *capability.Scope) {
		c.Exclusive, c.Namespace = true, capability.SharedPrefix+"x"
	})
	second := With(first, func(c *capability.Scope) { c.Epoch = 2 })
	other := With(first, func(c *capability.Scope) { c.Incarnation = 9 })
	free := With(Scope("j"), func(c *capability.Scope) { c.Namespace = first.Namespace })
	s.set(first, "a", "first", capability.SetOptions{})
	r := s.set(second, "a", "second", capability.SetOptions{})

	refused := func(err error) {
		s.Helper()
		s.code(err, wasmatrix.CodePermissionDenied)
		if !strings.Contains(err.Error(), "superseded") {
			s.Errorf("%q does not say that the epoch was superseded", err)
		}
	}
	_, err := s.kv.Set(s.ctx, first, "a", []byte("late"), capability.SetOptions{})
	refused(err)
	_, err = s.kv.Set(s.ctx, first, "a", []byte("late"), capability.SetOptions{Expect: &r})
	refused(err)
	_, err = s.kv.Delete(s.ctx, first, "a", capability.WriteID{})
	refused(err)
	_, _, err = s.kv.Get(s.ctx, first, "a")
	refused(err)
	_, err = s.kv.List(s.ctx, first, capability.ListQuery{Limit: 1})
	refused(err)

	s.has(second, "a", "second", r)
	s.set(other, "b", "another record of the name", capability.SetOptions{})
	s.set(free, "c", "another instance", capability.SetOptions{})
	third := With(first, func(c *capability.Scope) { c.Epoch = 3 })
	s.delete(third, "a", true) // supersedes as well
	_, _, err = s.kv.Get(s.ctx, second, "a")
	refused(err)

	// Of an instance that is not exclusive, two epochs may be at work.
	s.set(With(free, func(c *capability.Scope) { c.Epoch = 5 }), "c", "new", capability.SetOptions{})
	s.set(free, "c", "old", capability.SetOptions{})
}

func (s *suite) repeated() {
	scope := Scope("i")
	o := capability.SetOptions{ID: ID(1)}
	first := s.set(scope, "a", "one", o)
	second := s.set(scope, "a", "two", capability.SetOptions{ID: ID(2)})
	if again := s.set(scope, "a", "one", o); again != first {
		s.Errorf("a repeated set has revision %d, the first had %d", again, first)
	}
	s.has(scope, "a", "two", second)

	cas := func(id int, value string, expect uint64) (uint64, error) {
		return s.kv.Set(s.ctx, scope, "a", []byte(value), capability.SetOptions{ID: ID(id), Expect: &expect})
	}
	third, err := cas(3, "three", second)
	s.code(err, "")
	again, err := cas(3, "three", second)
	s.code(err, "")
	if again != third {
		s.Errorf("a repeated swap has revision %d, the first had %d", again, third)
	}
	// A conflict stays one, though it would no longer be.
	_, err = cas(4, "four", 0)
	s.conflict(err, third)
	for _, want := range []bool{true, true} {
		existed, err := s.kv.Delete(s.ctx, scope, "a", ID(5))
		s.code(err, "")
		if existed != want {
			s.Errorf("delete: %v, want %v", existed, want)
		}
	}
	_, err = cas(4, "four", 0)
	s.conflict(err, third)
	s.hasNot(scope, "a")
	existed, err := s.kv.Delete(s.ctx, scope, "a", ID(6))
	s.code(err, "")
	if existed {
		s.Error("deleted what was not there")
	}
	s.set(scope, "a", "five", capability.SetOptions{ID: ID(7)})
	if existed, err = s.kv.Delete(s.ctx, scope, "a", ID(6)); existed || err != nil {
		s.Errorf("a repeated delete: %v, %v; the first found nothing", existed, err)
	}
	// Without an ID each is a write of its own.
	if a, b := s.set(scope, "b", "v", capability.SetOptions{}), s.set(scope, "b", "v", capability.SetOptions{}); b <= a {
		s.Errorf("revisions %d, then %d", a, b)
	}
	// An ID belongs to one write.
	_, err = s.kv.Set(s.ctx, scope, "c", []byte("v"), o)
	s.code(err, wasmatrix.CodeInvalidRequest)
	s.hasNot(scope, "c")
}

func (s *suite) limits() {
	scope := Scope("i")
	for name, key := range map[string]string{
		"empty": "", "long": strings.Repeat("k", abi.MaxKey+1), "not UTF-8": "a\xff", "half a rune": "\xe6\x97",
	} {
		_, err := s.kv.Set(s.ctx, scope, key, nil, capability.SetOptions{})
		s.code(err, wasmatrix.CodeInvalidRequest)
		if field := wasmatrix.AsError(err).Details[wasmatrix.DetailField]; field != "key" {
			s.Errorf("set of a key that is %s: at fault is %q", name, field)
		}
		_, _, err = s.kv.Get(s.ctx, scope, key)
		s.code(err, wasmatrix.CodeInvalidRequest)
		_, err = s.kv.Delete(s.ctx, scope, key, capability.WriteID{})
		s.code(err, wasmatrix.CodeInvalidRequest)
	}
	s.refusedSet(scope, "a", strings.Repeat("x", abi.MaxValue+1), wasmatrix.CodeResourceExhausted)
	_, err := s.kv.Set(s.ctx, scope, "a", nil, capability.SetOptions{TTL: -1})
	s.code(err, wasmatrix.CodeInvalidRequest)
	for _, q := range []capability.ListQuery{
		{Limit: 0}, {Limit: -1}, {Limit: abi.MaxListLimit + 1}, {Limit: 1, Prefix: "\xff"}, {Limit: 1, After: "\xff"},
		{Limit: 1, Prefix: strings.Repeat("k", abi.MaxKey+1)}, {Limit: 1, After: strings.Repeat("k", abi.MaxKey+1)},
	} {
		_, err := s.kv.List(s.ctx, scope, q)
		s.code(err, wasmatrix.CodeInvalidRequest)
	}
	if keys := s.all(scope, "", 10); len(keys) != 0 {
		s.Errorf("what was refused has left %q", keys)
	}
}

func (s *suite) permissions() {
	all := Scope("i")
	s.set(all, "users/a", "v", capability.SetOptions{})
	s.set(all, "other", "v", capability.SetOptions{})
	may := func(perms ...wasmatrix.Permission) *capability.Scope {
		return With(all, func(c *capability.Scope) { c.Rules = wasmatrix.RulesOf(wasmatrix.ProviderKV, perms) })
	}
	try := func(scope *capability.Scope, key string) (got [4]wasmatrix.Code) {
		_, _, err := s.kv.Get(s.ctx, scope, key)
		got[0] = wasmatrix.CodeOf(err)
		_, err = s.kv.List(s.ctx, scope, capability.ListQuery{Prefix: key, Limit: 1})
		got[1] = wasmatrix.CodeOf(err)
		_, err = s.kv.Set(s.ctx, scope, key, nil, capability.SetOptions{})
		got[2] = wasmatrix.CodeOf(err)
		_, err = s.kv.Delete(s.ctx, scope, key, capability.WriteID{})
		got[3] = wasmatrix.CodeOf(err)
		return got
	}
	const no = wasmatrix.CodePermissionDenied
	for _, c := range []struct {
		scope *capability.Scope
		key   string
		want  [4]wasmatrix.Code
	}{
		{may("kv:read"), "other", [4]wasmatrix.Code{"", "", no, no}},
		{may("kv:write"), "other", [4]wasmatrix.Code{no, no, "", no}},
		{may("kv:delete"), "other", [4]wasmatrix.Code{no, no, no, ""}},
		{may("kv:read:users/", "kv:write:users/"), "users/a", [4]wasmatrix.Code{"", "", "", no}},
		{may("kv:read:users/", "kv:write:users/"), "other", [4]wasmatrix.Code{no, no, no, no}},
		{may("kv:read:users/"), "user", [4]wasmatrix.Code{no, no, no, no}},
		{With(all, func(c *capability.Scope) { c.Rules = nil }), "other", [4]wasmatrix.Code{no, no, no, no}},
	} {
		if got := try(c.scope, c.key); got != c.want {
			s.Errorf("%q: get, list, set, delete answer %q, want %q", c.key, got, c.want)
		}
	}
}

// lease sees that a caller whose lease has run out writes nothing.
func (s *suite) lease() {
	alive := true
	scope := With(Scope("i"), func(c *capability.Scope) { c.Alive = func() bool { return alive } })
	s.set(scope, "a", "v", capability.SetOptions{})
	alive = false
	s.refusedSet(scope, "a", "late", wasmatrix.CodeProviderUnavailable)
	_, err := s.kv.Delete(s.ctx, scope, "a", capability.WriteID{})
	s.code(err, wasmatrix.CodeProviderUnavailable)
	alive = true
	if v, _, _ := s.get(scope, "a"); v != "v" {
		s.Errorf("a has %q", v)
	}
}
