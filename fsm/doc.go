// Package fsm is the replicated state of the control plane: a deterministic
// state machine that is fed the committed log and answers reads from immutable
// views of itself.
//
// The same log gives the same [State.Hash] on every peer, at any GOMAXPROCS and
// through a snapshot and restore at any cut. To keep it so:
//
//   - Time is the latest time of any command so far, never a clock. There is no
//     randomness, no I/O, no goroutine, and no result depends on map order.
//   - The rules by which a command changes the state are part of the log's
//     meaning. What of the root package is used here (Eligible, Fits, Demand,
//     Matches, Survives, Final, OnNode, Unplaced, After, ProviderOf, ProviderID,
//     DefaultProvider) and its Max bounds may change only together with the
//     version of the log schema.
//   - For the same reason commands are not held to the rules of admission
//     ([wasmatrix.Spec.Validate] and its like): those may differ between the
//     releases of a cluster that is being upgraded. Only what the state itself
//     needs is checked, and a command that lacks it gets the same coded error
//     from every peer.
//   - [Options] must be the same on all peers.
//
// The log and the snapshots are encoded by the schema in
// proto/wasmatrix/log/v1, which is kept for ever.
package fsm
