// Package compile turns modules into what a node can load in milliseconds: it
// checks, meters and compiles them in a child process, and keeps the results on
// disk.
//
// Compilation cannot be interrupted, takes memory out of proportion, and parses
// what a stranger has sent. The child has an address space of its own with a
// limit, the lowest priority, and a timer that kills it; the node shares
// nothing with it but a directory. Before the child reports success it rehearses
// what the node will do, and a module that would take the node long to load is
// refused.
//
// Guests run from what is kept here as native code, so that every file is
// verified against the hash that the child reported before it is used. Nothing
// but one process may write to the directory.
package compile
