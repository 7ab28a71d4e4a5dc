// Package rpc serves the API of wasmatrix over HTTP: Connect, gRPC, gRPC-Web and
// plain JSON, on HTTP/1.1 and HTTP/2 of one port. It converts, calls the rooms
// behind the interfaces of ports.go, and converts back; it decides nothing.
//
// A request passes three layers:
//
//   - exchange.go and forward.go see HTTP only. They send what only the leader
//     can do to the leader, in at most one hop and byte for byte, and see to it
//     that every failure carries a wasmatrix.v1.Error.
//   - interceptor.go is the one chain around every procedure: panics, logging,
//     default deadline, mapping of errors.
//   - the services, one file each, check the request and call.
//
// The calls of guests do not pass them. They are carried over links, connections
// that a request became: package link passes their messages, carry.go and what it
// names execute them.
//
// The subpackage wire converts between the API's messages and root types, client
// is the way in for Go programs, for nodes and for servers among themselves.
package rpc
