package scheduler_test

import (
	"cmp"
	"iter"
	"slices"

	"github.com/wasmatrix/wasmatrix"
)

// cluster is a Snapshot of nodes and their use; a planner reads nothing else,
// and any other method panics.
type cluster struct {
	wasmatrix.Snapshot
	nodes []*wasmatrix.Node // by ID
	usage map[wasmatrix.NodeID]wasmatrix.Capacity
}

func newCluster(nodes ...*wasmatrix.Node) *cluster {
	c := &cluster{usage: make(map[wasmatrix.NodeID]wasmatrix.Capacity)}
	for _, n := range nodes {
		c.add(n, wasmatrix.Capacity{})
	}
	return c
}

func (c *cluster) add(n *wasmatrix.Node, used wasmatrix.Capacity) {
	i, _ := slices.BinarySearchFunc(c.nodes, n, func(a, b *wasmatrix.Node) int { return cmp.Compare(a.ID, b.ID) })
	c.nodes = slices.Insert(c.nodes, i, n)
	c.usage[n.ID] = used
}

func (c *cluster) Nodes() iter.Seq[*wasmatrix.Node] { return slices.Values(c.nodes) }

func (c *cluster) Usage(id wasmatrix.NodeID) wasmatrix.Capacity { return c.usage[id] }
