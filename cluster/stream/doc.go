// Package stream carries any number of Raft groups and small internal
// protocols over one TCP listener.
//
// Each connection opens with a handshake that names its kind, the cluster, the
// dialling server and the server it means to reach. The acceptor refuses what
// is not meant for it: another cluster's peer, and a peer that means the
// server whose disk was wiped, which had another ID.
//
// Nothing here authenticates or encrypts: that is what [Config.Wrap] is for,
// the one place where TLS goes.
package stream
