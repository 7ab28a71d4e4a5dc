package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv/kvtest"
)

func TestServersOfARealGroupKeepTheContract(t *testing.T) {
	all := newRaft(t, defaults(t))
	n := 0
	kvtest.Run(t, func(_ *testing.T, conf wasmatrix.KVConfig) capability.KV {
		n++
		all.conf = conf
		return renamed{all.client(), fmt.Sprint(n)}
	})
	all.settled()
}

// renamed gives each part of the suite namespaces of its own, and IDs of writes.
type renamed struct {
	capability.KV
	suffix string
}

func (r renamed) scope(s *capability.Scope) *capability.Scope {
	return kvtest.With(s, func(c *capability.Scope) { c.Namespace += r.suffix; c.Instance += wasmatrix.InstanceID(r.suffix) })
}

func (r renamed) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	return r.KV.Get(ctx, r.scope(s), key)
}

func (r renamed) List(ctx context.Context, s *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	return r.KV.List(ctx, r.scope(s), q)
}

func (r renamed) Set(ctx context.Context, s *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	return r.KV.Set(ctx, r.scope(s), key, value, o)
}

func (r renamed) Delete(ctx context.Context, s *capability.Scope, key string, id capability.WriteID) (bool, error) {
	return r.KV.Delete(ctx, r.scope(s), key, id)
}

// TestKVIsLinearizable has clients work while leadership is handed over, and
// servers stop and come back. What they saw is explained by one store; a counter
// kept by compare and swap loses and doubles nothing; all servers have one state.
func TestKVIsLinearizable(t *testing.T) {
	const clients, keys = 5, 4
	lasts := 10 * time.Second
	if testing.Short() {
		lasts = 3 * time.Second
	}
	all := newRaft(t, defaults(t))
	history := kvtest.NewHistory()
	scope := kvtest.Scope("i")
	var working, chaos sync.WaitGroup
	over := make(chan struct{})
	counted := make([]int, clients)
	for n := range clients {
		working.Go(func() {
			c := history.KV(all.client())
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			revisions := make(map[string]uint64) // as they were last seen
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				key, value := strconv.Itoa(rng.IntN(keys)), fmt.Sprintf("%d.%d", n, i)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+rng.IntN(2000))*time.Millisecond)
				var err error
				switch rng.IntN(10) {
				case 0, 1, 2, 3:
					var e capability.Entry
					e, _, err = c.Get(ctx, scope, key)
					revisions[key] = e.Revision
				case 4, 5:
					revisions[key], err = c.Set(ctx, scope, key, []byte(value), capability.SetOptions{})
				case 6, 7:
					expect := revisions[key]
					_, err = c.Set(ctx, scope, key, []byte(value), capability.SetOptions{Expect: &expect})
				case 8:
					_, err = c.Delete(ctx, scope, key, capability.WriteID{})
				default:
					err = countUp(ctx, c, scope, &counted[n])
				}
				cancel()
				switch wasmatrix.CodeOf(err) {
				case "", wasmatrix.CodeConflict, wasmatrix.CodeTimeout, wasmatrix.CodeProviderUnavailable:
				default:
					t.Errorf("client %d: %v", n, err)
				}
			}
		})
	}
	moves := 0
	chaos.Go(func() {
		rng := rand.New(rand.NewPCG(9, 9))
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(200+rng.IntN(500)) * time.Millisecond):
			}
			l := all.leader()
			if l == nil {
				continue
			}
			moves++
			if rng.IntN(2) == 0 {
				others := slices.DeleteFunc(slices.Clone(all.servers), func(s *raftServer) bool { return s == l })
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				_ = l.group.TransferLeadership(ctx, others[rng.IntN(2)].id)
				cancel()
				continue
			}
			l.close()
			select {
			case <-over:
			case <-time.After(time.Duration(rng.IntN(600)) * time.Millisecond):
			}
			l.open()
		}
	})
	time.Sleep(lasts)
	close(over)
	working.Wait()
	chaos.Wait()

	if err := history.Check(2 * time.Minute); err != nil {
		t.Error(err)
	}
	n, unknown := history.Len()
	t.Logf("%d operations, %d of them without an answer, %d changes of the leader", n, unknown, moves)
	if n < 100 || moves < 2 {
		t.Error("too little has happened to tell anything")
	}
	ctx, cancel := context.WithTimeout(context.Background(), kvtest.Patience)
	defer cancel()
	e, _, err := all.client().Get(ctx, scope, "counter")
	want := 0
	for _, c := range counted {
		want += c
	}
	if got, _ := strconv.Atoi(string(e.Value)); err != nil || got != want {
		t.Errorf("the counter is at %d, and was counted up %d times (%v)", got, want, err)
	}
	all.settled()
}

// countUp counts once, and in the end knows whether it has.
func countUp(ctx context.Context, c capability.KV, scope *capability.Scope, counted *int) error {
	e, _, err := c.Get(ctx, scope, "counter")
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(e.Value))
	// A write is not given up before it is answered, or the count would not be known.
	long, cancel := context.WithTimeout(context.WithoutCancel(ctx), 14*time.Second)
	defer cancel()
	_, err = c.Set(long, scope, "counter", []byte(strconv.Itoa(n+1)), capability.SetOptions{Expect: &e.Revision})
	switch {
	case err == nil:
		*counted++
	case wasmatrix.CodeOf(err) != wasmatrix.CodeConflict:
		return errors.Join(wasmatrix.Errorf(wasmatrix.CodeInternal, "a count has no answer"), err)
	}
	return err
}

// TestSnapshotsGoThroughTheGroup saves and restores the state of a group.
func TestSnapshotsGoThroughTheGroup(t *testing.T) {
	all := newRaft(t, defaults(t))
	c, scope := all.client(), kvtest.Scope("i")
	ctx, cancel := context.WithTimeout(t.Context(), kvtest.Patience)
	defer cancel()
	set := func(key, value string) uint64 {
		t.Helper()
		r, err := c.Set(ctx, scope, key, []byte(value), capability.SetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	set("a", "before")
	l := all.leader()
	for l == nil {
		l = all.leader()
	}
	var saved bytes.Buffer
	if _, err := l.group.SaveSnapshot(ctx, &saved); err != nil {
		t.Fatal(err)
	}
	last := set("a", "after")
	set("b", "after")
	if err := l.group.RestoreSnapshot(ctx, bytes.NewReader(saved.Bytes()[:saved.Len()-1])); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("a snapshot that was cut: %v", err)
	}
	if err := l.group.RestoreSnapshot(ctx, &saved); err != nil {
		t.Fatal(err)
	}
	if e, _, err := c.Get(ctx, scope, "a"); err != nil || string(e.Value) != "before" {
		t.Errorf("a has %q (%v)", e.Value, err)
	}
	if _, ok, err := c.Get(ctx, scope, "b"); err != nil || ok {
		t.Errorf("b is there (%v)", err)
	}
	if r := set("a", "new"); r <= last {
		t.Errorf("revision %d was given after %d", r, last)
	}
	all.settled()
}
