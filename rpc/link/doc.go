// Package link passes messages between two processes of a cluster over a
// connection that an HTTP request of theirs became (RFC 9110, section 7.8).
//
// It is for the calls of guests, which are many, small, and wait for their answers:
// whoever sends a message writes it to the socket itself, and whoever receives
// reads it there. HTTP/2 hands each message through four goroutines on either side,
// which takes several times as long as the way between the processes (see
// docs/adr/0014-links.md).
//
// A message is a frame: a byte of flags, the length of what follows in four bytes,
// big-endian, and a protobuf message. There are frames without a message to see
// that the other side lives, and one that says why it ends.
package link
