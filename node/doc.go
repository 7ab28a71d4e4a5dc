// Package node is a worker: it takes orders from the leader, runs the guests
// under the engine, restarts them by their policies, and reports what became of
// them until the control plane has acknowledged it.
//
// A node decides nothing about placement and never asks what it should run: it
// carries out orders, which are idempotent by (instance, epoch), and states
// facts. While no server can be reached it goes on as it is.
//
// Reports of an instance are ordered, sent at least once, and kept until they
// are acknowledged. When the control plane is away for long while an instance
// crashes again and again, the oldest of its unacknowledged pairs of crash and
// restart are dropped. What remains is still right: every report carries its
// attempt, which counts up within an epoch, so that the number of restarts can
// be told from the newest alone.
package node
