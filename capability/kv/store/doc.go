// Package store is the replicated state of the embedded kv provider: a
// deterministic state machine that is fed the committed log of a Raft group of
// its own, and answers reads.
//
// The same log gives the same [Store.Hash] on every server and through a snapshot
// and restore at any cut. To keep it so:
//
//   - Time is the latest time of any command so far, never a clock. There is no
//     randomness, no goroutine, and no result depends on map order.
//   - An entry whose time has run out is gone for every command and every
//     linearizable read at once, namely when state time reaches its end. Which
//     ones still take memory, and count against quotas, is part of the state.
//   - The rules by which a command changes the state are part of the log's
//     meaning, and change only together with the version of the schema in
//     proto/wasmatrix/kv/v1, which is kept for ever.
//   - Commands are not held to the rules of admission: those may differ between
//     the releases of a cluster that is being upgraded.
//   - [Options] must be the same on all servers.
package store
