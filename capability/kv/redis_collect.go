package kv

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Collect removes the namespaces and fences of instances that are gone, as the
// state tells. It looks at every key of the database, and is meant to be called
// seldom, and by one process of the cluster. It returns how many namespaces it
// has removed; errors are PROVIDER_UNAVAILABLE and TIMEOUT.
func (r *Redis) Collect(ctx context.Context, state wasmatrix.Snapshot) (removed int, err error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return 0, wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the provider is stopped")
	}
	r.calls.Add(1)
	r.mu.Unlock()
	defer r.calls.Done()
	var count atomic.Int64
	one := func(ctx context.Context, c redis.Cmdable) error { return r.collect(ctx, c, state, &count) }
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return one(ctx, c) })
	} else {
		err = one(ctx, r.client)
	}
	if err != nil {
		err = r.failed(ctx, false, err)
	}
	return int(count.Load()), err
}

// collect looks at the keys of one server.
func (r *Redis) collect(ctx context.Context, c redis.Cmdable, state wasmatrix.Snapshot, removed *atomic.Int64) error {
	// Every namespace that something was written to has its meta, and every one
	// that an exclusive instance has used its fences. Prefixes have no character
	// that a pattern would take for more than itself.
	for _, part := range []string{"meta", "fences"} {
		for cursor := uint64(0); ; {
			keys, next, err := c.Scan(ctx, cursor, "{"+r.prefix+"/*}"+part, 1000).Result()
			if err != nil {
				return err
			}
			for _, key := range keys {
				dropped, err := r.collectNamespace(ctx, c, state, strings.TrimSuffix(key, part), part)
				if err != nil {
					return err
				}
				if dropped {
					removed.Add(1)
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return nil
}

func (r *Redis) collectNamespace(ctx context.Context, c redis.Cmdable, state wasmatrix.Snapshot, tag, part string) (dropped bool, err error) {
	inner := strings.TrimSuffix(strings.TrimPrefix(tag, "{"+r.prefix+"/"), "}")
	_, name, _ := strings.Cut(inner, "/") // of the provider
	if id, incarnation, ok := ownerOf(name); ok {
		if !gone(state, id, incarnation) {
			return false, nil
		}
		keys := make([]string, len(redisParts))
		for i, p := range redisParts {
			keys[i] = tag + p
		}
		return true, c.Unlink(ctx, keys...).Err()
	}
	if part != "fences" || !strings.HasPrefix(name, capability.SharedPrefix) {
		return false, nil
	}
	for cursor := uint64(0); ; {
		fields, next, err := c.HScan(ctx, tag+part, cursor, "", 1000).Result()
		if err != nil {
			return false, err
		}
		var dead []string
		for i := 0; i+1 < len(fields); i += 2 {
			owner, number, _ := strings.Cut(fields[i], "/")
			incarnation, err := strconv.ParseUint(number, 10, 64)
			if err == nil && gone(state, wasmatrix.InstanceID(owner), incarnation) {
				dead = append(dead, fields[i])
			}
		}
		if len(dead) > 0 {
			if err := c.HDel(ctx, tag+part, dead...).Err(); err != nil {
				return false, err
			}
		}
		if cursor = next; cursor == 0 {
			return false, nil
		}
	}
}
