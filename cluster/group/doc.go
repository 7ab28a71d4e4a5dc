// Package group hides hashicorp/raft: a [Group] is one replicated log and the
// state machine it drives, on one of its servers.
//
// What raft leaves to its user is done here, each with the reason beside it:
//
//   - Commands are packed, many to a log entry, while the last append is in
//     flight (frame.go, propose.go).
//   - Every failed request says whether it may have taken effect (errors.go).
//   - A read is confirmed by answers that a majority gave to requests sent after
//     it began (read.go, transport.go).
//   - Heartbeats take raft's main loop, because its short cut can make logs
//     diverge (raft#695), and requests are not pipelined (raft#612).
//   - A disk that fails or hangs, a state machine that panics, and a raft that
//     no longer moves (raft#696, raft#697) end the process through Config.Fatal,
//     and nothing is acknowledged afterwards (failure.go, disk.go, watchdog.go).
package group
