// Package cluster makes a process one server of a cluster: it joins the gossip
// (cluster/gossip), the Raft groups (cluster/group) over one listener
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
//
// # Several groups
//
// The control group is the one that the cluster is made of. Others can be hosted
// beside it ([Config.Groups]), each with a log, a state and a leader of its own,
// over the same listener and with the same timing. What holds of one group is
// code of [HostedGroup] (hosted.go); Cluster's methods of the same name are the
// control group's.
//
// How a hosted group begins, once and with which servers, the voters of the
// control group agree upon (founding.go has the protocol and the argument for its
// safety, found.go the servers that run it). It also works in a data directory
// that is older than the group. It waits until every voter hosts the group and
// answers; a voter that is gone for good is to be removed.
//
// From then on the group's leader has its servers follow those of the control
// group, one change at a time (mirror.go): new servers come in without a vote and
// get one once the control group gave them one and they have its log; those that
// the control group no longer has are removed. A server that leaves, or learns
// that it was removed, stays until the hosted groups have let it go: of two
// servers, the other could not do that alone.
//
// A hosted group whose disk fails, or whose machine panics, ends the process as
// the control group does. Where a group has lost its majority for good, an operator
// goes on with a survivor by a peers file, see [group.PeersFile]: one in the
// control group's directory counts for all.
package cluster
