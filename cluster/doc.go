// Package cluster makes a process one server of a cluster: it joins the gossip
// (cluster/gossip), the Raft group (cluster/group) over one listener
// (cluster/stream), and the identity of the data directory (cluster/identity)
// into one thing that replicates commands and knows who is there. What the
// commands mean is none of its business: the state machine is handed in.
//
// # How a cluster comes to be
//
// A server without a log waits until gossip shows bootstrap_expect servers like
// it. The one with the lowest ID then asks each of the others to promise itself
// to exactly this set, and only with all promises bootstraps its own log; the others get
// the configuration by replication. A server promises itself to one set at a
// time, so of two sets that share a server one at most comes to be. Where gossip
// shows any server with a log, nobody bootstraps.
//
// # How it changes
//
// A server that is not in the configuration asks the leader for admission. The
// leader adds it as a non-voter, unless it has the name of a server of the
// configuration and another disk; autopilot makes it a voter when it has kept up
// for a while. Servers leave when they say so, when an operator removes them,
// and when they have been dead for long, which autopilot decides: gossip alone
// never removes anyone.
package cluster
