// Package kv is the provider of values under keys.
//
// The embedded one is a [Server] on each server of the cluster, over a Raft group
// of its own whose state is a [github.com/wasmatrix/wasmatrix/capability/kv/store.Store],
// and a [Client] on each node, which finds the one that leads. [Redis] is the same
// over a Redis server. All three implement capability.KV and pass the suite in
// the package kvtest.
//
// Reads and writes are linearizable, but for reads under a stale assignment,
// which any server answers from what it has. Writes carry an ID by which a
// repetition has its effect once, so that they are sent again for as long as their
// outcome is unknown. A caller whose epoch was superseded is refused (I6).
package kv
