// Package kvtest has what tests of kv providers share: the suite that each of
// them passes, and a check of what clients saw for linearizability.
package kvtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Patience bounds what may take long on a loaded machine, and fails a test that
// hangs.
const Patience = 30 * time.Second

// Scope is that of an instance with every permission on its own namespace.
func Scope(id wasmatrix.InstanceID) *capability.Scope {
	return &capability.Scope{
		Instance: id, Incarnation: 7, Epoch: 1, Capability: "store", Granted: 8,
		Provider: "kv", Namespace: capability.OwnNamespace(id, 7),
		Rules: wasmatrix.RulesOf(wasmatrix.ProviderKV, []wasmatrix.Permission{"kv:read", "kv:write", "kv:delete"}),
	}
}

// With returns a changed copy of a scope.
func With(s *capability.Scope, change func(*capability.Scope)) *capability.Scope {
	c := *s
	change(&c)
	return &c
}

// ID returns a write ID that is another for each n.
func ID(n int) (id capability.WriteID) {
	copy(id[:], fmt.Sprintf("write%011d", n))
	return id
}

// Run holds a kv provider to the contract. Each call of open gives an empty one,
// for the provider "kv" with this configuration; what its scopes write under
// other names is its own.
func Run(t *testing.T, open func(t *testing.T, conf wasmatrix.KVConfig) capability.KV) {
	conf, err := wasmatrix.KVConfigOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		name string
		conf func(*wasmatrix.KVConfig)
		test func(*suite)
	}{
		{"SetGetDelete", nil, (*suite).setGetDelete},
		{"CompareAndSwap", nil, (*suite).compareAndSwap},
		{"Counter", nil, (*suite).counter},
		{"List", nil, (*suite).list},
		{"TimeToLive", nil, (*suite).timeToLive},
		{"P19_Namespaces", nil, (*suite).namespaces},
		{"QuotaOfKeys", func(c *wasmatrix.KVConfig) { c.MaxKeys = 3 }, (*suite).quotaOfKeys},
		{"QuotaOfBytes", func(c *wasmatrix.KVConfig) { c.MaxBytes = 100 }, (*suite).quotaOfBytes},
		{"QuotaOfExpired", func(c *wasmatrix.KVConfig) { c.MaxKeys = 20 }, (*suite).quotaOfExpired},
		{"QuotaOfExpiredBytes", func(c *wasmatrix.KVConfig) { c.MaxBytes = 1000 }, (*suite).quotaOfExpiredBytes},
		{"SizeOfValues", func(c *wasmatrix.KVConfig) { c.MaxValue = 10 }, (*suite).sizeOfValues},
		{"P23_Fence", nil, (*suite).fence},
		{"Repeated", nil, (*suite).repeated},
		{"Limits", nil, (*suite).limits},
		{"Permissions", nil, (*suite).permissions},
		{"Lease", nil, (*suite).lease},
		{"Context", nil, (*suite).context},
	} {
		t.Run(one.name, func(t *testing.T) {
			c := conf
			if one.conf != nil {
				one.conf(&c)
			}
			ctx, cancel := context.WithTimeout(t.Context(), Patience)
			defer cancel()
			one.test(&suite{T: t, ctx: ctx, kv: open(t, c)})
		})
	}
}

type suite struct {
	*testing.T
	ctx context.Context
	kv  capability.KV
}

func (s *suite) set(scope *capability.Scope, key, value string, o capability.SetOptions) uint64 {
	s.Helper()
	revision, err := s.kv.Set(s.ctx, scope, key, []byte(value), o)
	if err != nil {
		s.Fatalf("set %q: %v", key, err)
	}
	if revision == 0 {
		s.Fatalf("set %q: revision 0", key)
	}
	return revision
}

func (s *suite) get(scope *capability.Scope, key string) (string, uint64, bool) {
	s.Helper()
	e, ok, err := s.kv.Get(s.ctx, scope, key)
	if err != nil {
		s.Fatalf("get %q: %v", key, err)
	}
	return string(e.Value), e.Revision, ok
}

func (s *suite) has(scope *capability.Scope, key, value string, revision uint64) {
	s.Helper()
	v, r, ok := s.get(scope, key)
	if !ok || v != value || r != revision {
		s.Fatalf("get %q: %q, revision %d, %v; want %q, revision %d", key, v, r, ok, value, revision)
	}
}

func (s *suite) hasNot(scope *capability.Scope, key string) {
	s.Helper()
	if v, r, ok := s.get(scope, key); ok {
		s.Fatalf("get %q: %q, revision %d; want nothing", key, v, r)
	}
}

func (s *suite) delete(scope *capability.Scope, key string, want bool) {
	s.Helper()
	existed, err := s.kv.Delete(s.ctx, scope, key, capability.WriteID{})
	if err != nil || existed != want {
		s.Fatalf("delete %q: %v, %v; want %v", key, existed, err, want)
	}
}

func (s *suite) keys(scope *capability.Scope, q capability.ListQuery) ([]string, bool) {
	s.Helper()
	if q.Limit == 0 {
		q.Limit = abi.MaxListLimit
	}
	page, err := s.kv.List(s.ctx, scope, q)
	if err != nil {
		s.Fatalf("list %+v: %v", q, err)
	}
	return page.Keys, page.More
}

// all follows pages to their end.
func (s *suite) all(scope *capability.Scope, prefix string, limit int) []string {
	s.Helper()
	var all []string
	for after := ""; ; {
		keys, more := s.keys(scope, capability.ListQuery{Prefix: prefix, After: after, Limit: limit})
		all = append(all, keys...)
		if !more {
			return all
		}
		if len(keys) == 0 || len(keys) > limit {
			s.Fatalf("a page of %d keys, limit %d, is followed by more", len(keys), limit)
		}
		after = keys[len(keys)-1]
	}
}

func (s *suite) code(err error, code wasmatrix.Code) {
	s.Helper()
	if wasmatrix.CodeOf(err) != code {
		s.Fatalf("got %v, want %q", err, code)
	}
}

func (s *suite) conflict(err error, revision uint64) {
	s.Helper()
	s.code(err, wasmatrix.CodeConflict)
	if got := wasmatrix.AsError(err).Details[capability.DetailRevision]; got != strconv.FormatUint(revision, 10) {
		s.Fatalf("the conflict names revision %q, want %d", got, revision)
	}
}

func (s *suite) eventually(what string, ok func() bool) {
	s.Helper()
	for !ok() {
		select {
		case <-s.ctx.Done():
			s.Fatalf("still not: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (s *suite) context() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	done := make(chan error, 1)
	go func() {
		_, err := s.kv.Set(ctx, Scope("i"), "a", []byte("v"), capability.SetOptions{})
		done <- err
	}()
	select {
	case err := <-done:
		// What is in memory may be quick enough to be done all the same.
		if err != nil && wasmatrix.CodeOf(err) != wasmatrix.CodeTimeout {
			s.Errorf("got %v, want TIMEOUT", err)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Errorf("%v does not wrap the context's error", err)
		}
	case <-time.After(Patience):
		s.Error("a call goes on after its context has ended")
	}
}
