// Package dispatch is the work of the leader: it gathers start requests, plans
// and proposes them together, pushes orders to nodes, grants leases to them,
// notices their loss, and places what they held anew.
//
// What a node was told, it has acknowledged or is told again: orders, the
// assignments of its instances, the providers. All of that goes through one
// sender for each node, so that whatever is said later is newer. A revocation is
// answered when no node can act on what was revoked; an exclusive instance begins
// anew when no earlier epoch of it can act; and a node gets no lease before it has
// given up what the state does not know that it has.
//
// It acts in answer to requests and to facts: it follows the facts of the
// replicated state from the index at which its term began, and what to tell a
// node about an instance is read from the state when it is told. So nothing
// that was committed is forgotten, whoever proposed it and whatever became of
// the proposer. What it knows beyond the state (leases, queues of orders,
// streams) begins empty with every term and ends with it.
package dispatch
