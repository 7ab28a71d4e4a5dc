// Package wasmatrix is the vocabulary of wasmatrix, a Raft-replicated control
// plane for WebAssembly instances: the identifiers, the state that is
// replicated, the commands that change it, and the errors that users see.
//
// Every other package speaks these types to its neighbours, and this package
// imports none of them. Values reached through a [Snapshot] are immutable:
// readers on any goroutine may hold them for as long as they like, and nobody
// may change them.
package wasmatrix
