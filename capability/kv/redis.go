package kv

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

var (
	//go:embed lua/prelude.lua
	luaPrelude string
	//go:embed lua/write.lua
	luaWrite string
	//go:embed lua/set.lua
	luaSet string
	//go:embed lua/delete.lua
	luaDelete string
	//go:embed lua/get.lua
	luaGet string
	//go:embed lua/list.lua
	luaList string

	scriptSet    = redis.NewScript(luaPrelude + luaWrite + luaSet)
	scriptDelete = redis.NewScript(luaPrelude + luaWrite + luaDelete)
	scriptGet    = redis.NewScript(luaPrelude + luaGet)
	scriptList   = redis.NewScript(luaPrelude + luaList)
)

// What go-redis would write to standard error by itself comes back as an error of
// the call as well.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

const (
	redisTimeout = 5 * time.Second // of a call whose context has no deadline, and of one try
	redisRetries = 3
	// redisWindow is how long a write is remembered. It is longer than any call
	// goes on: a context's deadline, at most redisMaxCall away, ends it.
	redisWindow  = time.Minute
	redisMaxCall = 30 * time.Second
	maxPage      = 256 << 10 // bytes of keys
)

// Redis carries kv calls out on a Redis server, of version 5 or newer, or on a
// Redis cluster. Every call is one script, so that it happens wholly or not, and
// all keys of a namespace are in one slot.
//
// The promises are those that Redis makes: a failover may lose writes that were
// acknowledged, and the revisions and fences with them. Time is that of the Redis
// server. Quotas are exact, as long as nobody else writes to its keys. Fences are
// kept in each namespace: the calls of an exclusive instance raise them, and
// nobody has to.
//
// Its methods are safe for concurrent use.
type Redis struct {
	conf   wasmatrix.KVConfig
	client redis.UniversalClient
	prefix string
	calls  sync.WaitGroup // under way, also those that nobody waits for
	mu     sync.Mutex
	closed bool // guarded by mu; no call begins after
}

var _ capability.KV = (*Redis)(nil)

// NewRedis makes a provider of a configuration with a URL. It does not connect. The
// names of all keys begin with prefix, unless the URL has another: two clusters of
// wasmatrix that share a Redis need different ones, or they take what is the
// other's for garbage.
//
// Besides what go-redis knows, such as "pool_size", the URL may have "cluster=true"
// or more addresses as "addr", for a cluster, and "prefix". VALIDATION_ERROR where
// the URL is wrong.
func NewRedis(conf wasmatrix.KVConfig, prefix string) (*Redis, error) {
	bad := func(why string) error {
		// The URL may have a password in it, and so has what is said about it.
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "config url: %s", why).With(wasmatrix.DetailField, "config.url")
	}
	u, err := url.Parse(conf.URL)
	if err != nil {
		return nil, bad("not a URL")
	}
	q := u.Query()
	if q.Has("prefix") {
		prefix = q.Get("prefix")
	}
	if err := wasmatrix.ValidateName("prefix", prefix); err != nil {
		return nil, bad(err.Error())
	}
	cluster := q.Get("cluster")
	if cluster != "" && cluster != "true" && cluster != "false" {
		return nil, bad("cluster is true or false")
	}
	q.Del("prefix")
	q.Del("cluster")
	u.RawQuery = q.Encode()

	r := &Redis{conf: conf, prefix: prefix}
	if cluster == "true" || q.Has("addr") {
		o, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return nil, bad("not as go-redis has it, for a cluster")
		}
		o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = redisRetries, 10*time.Millisecond, 250*time.Millisecond
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redisTimeout, redisTimeout, redisTimeout
		o.DialerRetries, o.ContextTimeoutEnabled = 1, true
		o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false // a replica may lag
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		r.client = redis.NewClusterClient(o)
		return r, nil
	}
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, bad("not as go-redis has it")
	}
	o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = redisRetries, 10*time.Millisecond, 250*time.Millisecond
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redisTimeout, redisTimeout, redisTimeout
	o.DialerRetries, o.ContextTimeoutEnabled = 1, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	r.client = redis.NewClient(o)
	return r, nil
}

// Close ends the connections, and with them the calls under way.
func (r *Redis) Close() error {
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	r.mu.Unlock()
	var err error
	if !closed {
		err = r.client.Close()
	}
	r.calls.Wait()
	return err
}

// keys returns the names of what a namespace consists of.
func (r *Redis) keys(s *capability.Scope, more ...string) []string {
	tag := "{" + r.prefix + "/" + string(s.Provider) + "/" + s.Namespace + "}"
	keys := make([]string, 0, 7)
	for _, part := range redisParts {
		keys = append(keys, tag+part)
	}
	for _, m := range more {
		keys = append(keys, tag+m)
	}
	return keys
}

var redisParts = []string{"heads", "values", "index", "ends", "meta", "fences"}

func (r *Redis) args(s *capability.Scope, key string, more ...any) []any {
	exclusive := "0"
	if s.Exclusive {
		exclusive = "1"
	}
	return append([]any{fenceField(s.Instance, s.Incarnation), s.Epoch, exclusive, key}, more...)
}

func fenceField(id wasmatrix.InstanceID, incarnation uint64) string {
	return string(id) + "/" + strconv.FormatUint(incarnation, 10)
}

// Get implements [capability.KV].
func (r *Redis) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	if err := checkKey(key); err != nil {
		return capability.Entry{}, false, err
	}
	if err := checkScope(s, wasmatrix.AccessKVRead, key); err != nil {
		return capability.Entry{}, false, err
	}
	a, err := r.run(ctx, s, false, scriptGet, r.keys(s), r.args(s, key))
	if err != nil || a[0] == "absent" {
		return capability.Entry{}, false, err
	}
	revision, err := r.revision(a, 3)
	if err != nil {
		return capability.Entry{}, false, err
	}
	return capability.Entry{Value: []byte(a[2]), Revision: revision}, true, nil
}

// List implements [capability.KV].
func (r *Redis) List(ctx context.Context, s *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	if err := checkList(q); err != nil {
		return capability.Page{}, err
	}
	if err := checkScope(s, wasmatrix.AccessKVRead, q.Prefix); err != nil {
		return capability.Page{}, err
	}
	low, high := "["+q.Prefix, "["+q.Prefix+"\xff" // which no key has, being UTF-8
	if q.After != "" && q.After >= q.Prefix {
		low = "(" + q.After
	}
	a, err := r.run(ctx, s, false, scriptList, r.keys(s), r.args(s, "", low, high, q.Limit, maxPage))
	if err != nil {
		return capability.Page{}, err
	}
	if len(a) < 2 {
		return capability.Page{}, odd(a)
	}
	return capability.Page{Keys: a[2:], More: a[1] == "1"}, nil
}

// Set implements [capability.KV].
func (r *Redis) Set(ctx context.Context, s *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	if err := checkSet(key, value, o, r.conf.MaxValue); err != nil {
		return 0, err
	}
	if err := checkScope(s, wasmatrix.AccessKVWrite, key); err != nil {
		return 0, err
	}
	ttl := int64((min(o.TTL, maxTTL) + time.Millisecond - 1) / time.Millisecond)
	expect := ""
	if o.Expect != nil {
		expect = strconv.FormatUint(*o.Expect, 10)
	}
	sum := crc32.ChecksumIEEE(fmt.Appendf(nil, "set %q %d %q", key, ttl, expect))
	sum = crc32.Update(sum, crc32.IEEETable, value)
	name, body := writeKey(drawn(o.ID), sum)
	a, err := r.run(ctx, s, true, scriptSet, r.keys(s, name),
		// The value is copied, since a call that nobody waits for any more may go on.
		r.args(s, key, body, redisWindow.Milliseconds(), string(value), ttl, expect, r.conf.MaxKeys, r.conf.MaxBytes))
	if err != nil {
		return 0, err
	}
	switch a[0] {
	case "keys":
		return 0, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the namespace has %d keys, as many as it may", r.conf.MaxKeys)
	case "bytes":
		return 0, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the namespace would have more than the %d bytes that it may", r.conf.MaxBytes)
	}
	revision, err := r.revision(a, 2)
	if err == nil && a[0] == "conflict" {
		err = wasmatrix.Errorf(wasmatrix.CodeConflict, "the entry has another revision than the one expected").With(capability.DetailRevision, a[1])
		revision = 0
	}
	return revision, err
}

// Delete implements [capability.KV].
func (r *Redis) Delete(ctx context.Context, s *capability.Scope, key string, id capability.WriteID) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	if err := checkScope(s, wasmatrix.AccessKVDelete, key); err != nil {
		return false, err
	}
	name, body := writeKey(drawn(id), crc32.ChecksumIEEE(fmt.Appendf(nil, "delete %q", key)))
	a, err := r.run(ctx, s, true, scriptDelete, r.keys(s, name), r.args(s, key, body, redisWindow.Milliseconds()))
	return err == nil && a[0] == "deleted", err
}

// writeKey returns the name under which a write is remembered, and what tells
// it from another.
func writeKey(id capability.WriteID, sum uint32) (name, body string) {
	return fmt.Sprintf("write:%x", id[:]), fmt.Sprintf("%08x", sum)
}

func (r *Redis) revision(a []string, length int) (uint64, error) {
	if len(a) != length {
		return 0, odd(a)
	}
	n, err := strconv.ParseUint(a[1], 10, 64)
	if err != nil {
		return 0, odd(a)
	}
	return n, nil
}

func odd(a []string) error {
	return wasmatrix.Errorf(wasmatrix.CodeInternal, "redis answered %q with %d more", a[0], len(a)-1).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// run runs a script and returns its answer, of at least one string. A read returns
// when ctx has ended, and Close waits for what goes on then.
func (r *Redis) run(ctx context.Context, s *capability.Scope, write bool, script *redis.Script, keys []string, args []any) ([]string, error) {
	limit := redisMaxCall
	if _, ok := ctx.Deadline(); !ok {
		limit = redisTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeTimeout, "the call ended before it began: %w", err).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	if err := checkAlive(s); err != nil {
		return nil, err
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the provider is stopped").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	type result struct {
		answer []string
		err    error
	}
	done := make(chan result, 1)
	r.calls.Go(func() {
		answer, err := script.Run(ctx, r.client, keys, args...).StringSlice()
		done <- result{answer, err}
	})
	r.mu.Unlock()
	select {
	case got := <-done:
		if got.err == nil && len(got.answer) == 0 {
			got.answer = []string{"nothing"}
		}
		if got.err != nil {
			return nil, r.failed(ctx, write, got.err)
		}
		return got.answer, refusal(s, got.answer)
	case <-ctx.Done():
		if write {
			// It is answered, or its connection given up, within redisTimeout. A revocation
			// relies on it that nothing of a call that has ended comes after (I7).
			<-done
		}
		return nil, r.failed(ctx, write, ctx.Err())
	}
}

// refusal returns the error of an answer that all scripts may give.
func refusal(s *capability.Scope, a []string) error {
	switch a[0] {
	case "fenced":
		return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "epoch %d of instance %s was superseded: calls are taken from epoch %s on", s.Epoch, s.Instance, a[len(a)-1])
	case "reused":
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "the write ID was used for another write")
	case "set", "conflict", "keys", "bytes", "deleted", "absent", "entry", "page":
		return nil
	default:
		return odd(a)
	}
}

// failed returns the error of a call that has no answer.
func (r *Redis) failed(ctx context.Context, write bool, err error) error {
	outcome := wasmatrix.OutcomeNone
	if write {
		outcome = wasmatrix.OutcomeUnknown
	}
	var e *wasmatrix.Error
	switch {
	case ctx.Err() != nil:
		e = wasmatrix.Errorf(wasmatrix.CodeTimeout, "redis did not answer in time: %w", ctx.Err())
	case redis.HasErrorPrefix(err, "OOM"):
		e = wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "redis has no memory left")
	case errors.Is(err, redis.ErrClosed):
		e = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the provider is stopped")
	default:
		e = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "redis: %s", strings.TrimSpace(err.Error()))
	}
	return e.With(wasmatrix.DetailOutcome, outcome)
}
