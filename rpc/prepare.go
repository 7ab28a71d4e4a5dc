package rpc

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

const (
	// preparingNodes is to how many nodes a new module is offered.
	preparingNodes = 3
	// prepareTimeout bounds one offer: nodes answer at once.
	prepareTimeout = 2 * time.Second
	// maxPreparing is how many modules are being offered at a time; more are not.
	maxPreparing = 4
)

// prepare offers a module to the nodes that are likely to run it, so that they
// have compiled it when they are asked to. It does not wait, and nothing comes of
// a failure but a slower first start.
func (s *Server) prepare(d wasmatrix.Digest) {
	select {
	case s.preparing <- struct{}{}:
	default:
		return
	}
	begun := s.begin(func() {
		defer func() { <-s.preparing }()
		ctx, cancel := context.WithTimeout(s.closing, prepareTimeout)
		defer cancel()
		var offers sync.WaitGroup
		for _, n := range likelyNodes(s.cfg.State.Snapshot(), preparingNodes) {
			offers.Go(func() {
				if _, err := s.agents.Prepare(ctx, n.Addr, d); err != nil {
					s.cfg.Logger.Debug("a node was not told of a new module", "module", d.Short(), "node", n.ID, "error", err)
				}
			})
		}
		offers.Wait()
	})
	if !begun {
		<-s.preparing
	}
}

// likelyNodes are those that may be given instances, with the most memory to
// spare first, at most n.
func likelyNodes(snap wasmatrix.Snapshot, n int) []*wasmatrix.Node {
	type candidate struct {
		node *wasmatrix.Node
		free uint64
	}
	var all []candidate
	for node := range snap.Nodes() {
		if !node.Eligible() {
			continue
		}
		if used := snap.Usage(node.ID); used.Memory < node.Capacity.Memory && used.Instances < node.Capacity.Instances {
			all = append(all, candidate{node, node.Capacity.Memory - used.Memory})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.free, a.free) })
	out := make([]*wasmatrix.Node, 0, n)
	for _, c := range all[:min(n, len(all))] {
		out = append(out, c.node)
	}
	return out
}
