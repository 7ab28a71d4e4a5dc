package kv_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv"
	"github.com/wasmatrix/wasmatrix/capability/kv/kvtest"
)

// redisServer is a process of its own.
type redisServer struct {
	addr string
	cmd  *exec.Cmd
}

// startRedis starts one on a free port and waits until it answers.
func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not on PATH: install it to test the redis provider (Debian: apt-get install redis-server)")
	}
	for range 5 { // another may take the port before it does
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().(*net.TCPAddr)
		l.Close()
		cmd := exec.Command(path, append([]string{"--port", fmt.Sprint(addr.Port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, args...)...)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s := &redisServer{addr: addr.String(), cmd: cmd}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait()
		}()
		stop := func() {
			_ = cmd.Process.Kill()
			<-ended
		}
		if s.answers(ended) {
			t.Cleanup(stop)
			return s
		}
		stop()
		t.Logf("redis-server on %s did not start:\n%s", s.addr, out.String())
	}
	t.Fatal("no redis-server could be started")
	return nil
}

func (s *redisServer) answers(ended <-chan struct{}) bool {
	c := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), kvtest.Patience)
	defer cancel()
	for ctx.Err() == nil {
		if c.Ping(ctx).Err() == nil {
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return false
}

// raw is a client to look at keys with.
func (s *redisServer) raw(t *testing.T) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	t.Cleanup(func() { c.Close() })
	return c
}

var prefixes atomic.Int64

// open returns a provider whose keys are its own.
func (s *redisServer) open(t *testing.T, conf wasmatrix.KVConfig, query string) *kv.Redis {
	t.Helper()
	conf.URL = fmt.Sprintf("redis://%s/?prefix=test%d%s", s.addr, prefixes.Add(1), query)
	r, err := kv.NewRedis(conf, "wasmatrix")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRedisKeepsTheContract(t *testing.T) {
	s := startRedis(t)
	kvtest.Run(t, func(t *testing.T, conf wasmatrix.KVConfig) capability.KV { return s.open(t, conf, "") })
}

// TestRedisClusterKeepsTheContract: all keys of a call are in one slot, or the
// cluster would refuse it.
func TestRedisClusterKeepsTheContract(t *testing.T) {
	s := startRedis(t, "--cluster-enabled", "yes")
	raw := s.raw(t)
	if err := raw.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for {
		info, err := raw.ClusterInfo(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(info, "cluster_state:ok") {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	kvtest.Run(t, func(t *testing.T, conf wasmatrix.KVConfig) capability.KV { return s.open(t, conf, "&cluster=true") })
}

// TestRedisKeepsNoRemains sees that what was deleted, or has run out, leaves
// nothing but the number of the next revision, and that the bytes add up.
func TestRedisKeepsNoRemains(t *testing.T) {
	s := startRedis(t)
	conf := defaults(t)
	r := s.open(t, conf, "")
	raw := s.raw(t)
	scope := kvtest.Scope("i")
	write := func(key, value string, ttl time.Duration) {
		t.Helper()
		if _, err := r.Set(t.Context(), scope, key, []byte(value), capability.SetOptions{TTL: ttl}); err != nil {
			t.Fatal(err)
		}
	}
	tag := fmt.Sprintf("{test%d/kv/own/i/7}", prefixes.Load())
	bytes := func() int {
		t.Helper()
		n, err := raw.HGet(t.Context(), tag+"meta", "bytes").Int()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	write("a", "12345", 0)
	write("a", "123", time.Hour)
	write("a", "1234", 0)
	if left, err := raw.ZCard(t.Context(), tag+"ends").Result(); err != nil || left != 0 {
		t.Errorf("%d ends of what has none (%v)", left, err)
	}
	write("b", "1", 20*time.Millisecond)
	write("c", "1", time.Hour)
	if got := bytes(); got != 5+2+2 {
		t.Errorf("%d bytes", got)
	}
	for key, want := range map[string]bool{"a": true, "c": true, "none": false} {
		if existed, err := r.Delete(t.Context(), scope, key, capability.WriteID{}); err != nil || existed != want {
			t.Errorf("delete %s: %v, %v", key, existed, err)
		}
	}
	for end := time.Now().Add(kvtest.Patience); ; {
		if _, ok, err := r.Get(t.Context(), scope, "b"); err != nil {
			t.Fatal(err)
		} else if !ok {
			break
		}
		if time.Now().After(end) {
			t.Fatal("b stays")
		}
	}
	if got := bytes(); got != 0 {
		t.Errorf("%d bytes are left", got)
	}
	for _, part := range []string{"heads", "values", "index", "ends", "fences"} {
		if n, err := raw.Exists(t.Context(), tag+part).Result(); err != nil || n != 0 {
			t.Errorf("%s is left (%v)", part, err)
		}
	}
	// Writes are forgotten in time, by Redis itself.
	names, err := raw.Keys(t.Context(), tag+"write:*").Result()
	if err != nil || len(names) == 0 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		if left, err := raw.PTTL(t.Context(), name).Result(); err != nil || left <= 0 || left > time.Minute {
			t.Errorf("a write is remembered for %s (%v)", left, err)
		}
	}
}

func TestRedisCollects(t *testing.T) {
	s := startRedis(t)
	r := s.open(t, defaults(t), "")
	shared := func(scope *capability.Scope) *capability.Scope {
		return kvtest.With(scope, func(c *capability.Scope) { c.Namespace = capability.SharedPrefix + "x" })
	}
	scopes := []*capability.Scope{
		owned("lives", 10), owned("gone", 40), owned("unheard", 60), shared(owned("gone", 40)), shared(owned("lives", 10)),
		kvtest.With(owned("gone", 40), func(c *capability.Scope) { c.Provider = "other" }),
	}
	for _, scope := range scopes {
		if _, err := r.Set(t.Context(), scope, "a", nil, capability.SetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// Only its fence tells of this one.
	if _, _, err := r.Get(t.Context(), owned("gone", 41), "a"); err != nil {
		t.Fatal(err)
	}
	n, err := r.Collect(t.Context(), &records{index: 50, instances: map[wasmatrix.InstanceID]uint64{"lives": 10}})
	if err != nil || n != 3 {
		t.Fatalf("collected %d, %v", n, err)
	}
	for i, want := range []bool{true, false, true, true, true, false} {
		if _, ok, err := r.Get(t.Context(), scopes[i], "a"); err != nil || ok != want {
			t.Errorf("scope %d: %v, %v; want %v", i, ok, err, want)
		}
	}
	fences, err := s.raw(t).HKeys(t.Context(), fmt.Sprintf("{test%d/kv/shared/x}fences", prefixes.Load())).Result()
	if err != nil || len(fences) != 2 { // that of the gone one was raised again by the read
		t.Errorf("fences %q, %v", fences, err)
	}
}

// TestRedisOutOfReach: calls fail in bounded time, coded, and say what may have
// happened; when it is back, they go on.
func TestRedisOutOfReach(t *testing.T) {
	s := startRedis(t)
	r := s.open(t, defaults(t), "")
	scope := kvtest.Scope("i")
	if _, err := r.Set(t.Context(), scope, "a", []byte("v"), capability.SetOptions{}); err != nil {
		t.Fatal(err)
	}
	pause(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := r.Set(ctx, scope, "b", nil, capability.SetOptions{})
	wantError(t, err, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	// One that is given up, rather than at its end, ends at once as well.
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began = time.Now()
	_, _, err = r.Get(ctx, scope, "a")
	wantError(t, err, wasmatrix.CodeTimeout, wasmatrix.OutcomeNone)
	if took := time.Since(began); took > 2*time.Second || !errors.Is(err, context.Canceled) {
		t.Errorf("it took %s: %v", took, err)
	}
	resume(t, s)
	if _, ok, err := r.Get(t.Context(), scope, "a"); !ok || err != nil {
		t.Errorf("when it is back: %v, %v", ok, err)
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	_, err = r.Set(t.Context(), scope, "b", nil, capability.SetOptions{})
	wantError(t, err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeUnknown)
	_, _, err = r.Get(t.Context(), scope, "a")
	wantError(t, err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestRedisIsClosed(t *testing.T) {
	s := startRedis(t)
	r := s.open(t, defaults(t), "")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := r.Set(t.Context(), kvtest.Scope("i"), "a", nil, capability.SetOptions{})
	wantError(t, err, wasmatrix.CodeProviderUnavailable, wasmatrix.OutcomeNone)
	if _, err := r.Collect(t.Context(), &records{}); wasmatrix.CodeOf(err) != wasmatrix.CodeProviderUnavailable {
		t.Error(err)
	}
}

func TestRedisOutOfMemory(t *testing.T) {
	s := startRedis(t, "--maxmemory", "2mb")
	r := s.open(t, defaults(t), "")
	value := make([]byte, 1<<20)
	var err error
	for n := 0; err == nil && n < 50; n++ {
		_, err = r.Set(t.Context(), kvtest.Scope("i"), fmt.Sprint(n), value, capability.SetOptions{})
	}
	if wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestRedisURLs(t *testing.T) {
	for _, url := range []string{
		"redis://h:1/?prefix=", "redis://h:1/?prefix=a%20b", "redis://h:1/?cluster=perhaps", "redis://h:1/?unknown=1",
		"redis://:secret@h:1/nodb", "http://h:1/", "redis://h:1/?cluster=true&unknown=1", "%", "",
	} {
		conf := defaults(t)
		conf.URL = url
		_, err := kv.NewRedis(conf, "wasmatrix")
		if wasmatrix.CodeOf(err) != wasmatrix.CodeValidation || wasmatrix.AsError(err).Details[wasmatrix.DetailField] != "config.url" {
			t.Errorf("%s: %v", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is told: %v", err)
		}
	}
	for _, url := range []string{"rediss://user:pw@h:1/3?pool_size=4", "redis://h", "redis://h:1?addr=h2:1&addr=h3:1", "redis://h/?cluster=false"} {
		conf := defaults(t)
		conf.URL = url
		r, err := kv.NewRedis(conf, "wasmatrix")
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func pause(t *testing.T, s *redisServer) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

func resume(t *testing.T, s *redisServer) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}
