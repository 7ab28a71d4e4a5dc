// Package scheduler chooses nodes for instances. It is pure: a plan follows
// from its arguments alone, without clock, randomness, goroutines or I/O, so
// that the same state and requests give the same plan everywhere.
//
// A plan is a proposal. The state machine checks capacity and health again when
// it applies the command that carries it.
package scheduler

import (
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Strategy ranks the nodes that could take an instance.
type Strategy uint8

// The strategies. Of nodes that rank alike the one with the lowest ID wins.
const (
	// Spread takes the node whose dominant share of memory and places would be
	// lowest afterwards, and spreads the instances of one request over nodes: a
	// node that has its fair share of them ranks as if it were full.
	Spread Strategy = iota
	// BinPack takes the node whose dominant share would be highest afterwards,
	// so that other nodes stay free for large instances or can be removed.
	BinPack
)

// String returns the name in configuration.
func (s Strategy) String() string {
	if s == BinPack {
		return "binpack"
	}
	return "spread"
}

// ParseStrategy reads spread or binpack; "" is spread. Errors are E6.
func ParseStrategy(s string) (Strategy, error) {
	switch s {
	case "", "spread":
		return Spread, nil
	case "binpack":
		return BinPack, nil
	default:
		return Spread, wasmatrix.Errorf(wasmatrix.CodeValidation, "unknown placement strategy %q: spread or binpack", s)
	}
}

// Policy is how a whole plan chooses.
type Policy struct {
	Strategy Strategy
	// Avoid lists nodes that are taken only where no other node fits, such as
	// those that do not answer just now.
	Avoid []wasmatrix.NodeID
}

// Request asks for nodes for one or more instances of one Spec.
type Request struct {
	Instances []wasmatrix.InstanceID
	Spec      *wasmatrix.Spec
	// Avoid is as in [Policy], for this request alone.
	Avoid []wasmatrix.NodeID
	// Partial places as many of the instances as fit, in their order, rather
	// than all or none.
	Partial bool
	// NotBefore holds the request back: before then it is not placed.
	NotBefore time.Time
}

// Decision answers a [Request].
type Decision struct {
	// Nodes has one entry for each instance of the request, in its order; ""
	// where it was not placed.
	Nodes []wasmatrix.NodeID
	// Failure says why not all were placed; nil where they were.
	Failure *Failure
}

// Plan decides about all requests, in their order; what earlier ones take
// counts for later ones. It places instances on nodes that are up, not
// draining, satisfy all constraints of the Spec and have room.
//
// With n nodes and c distinct pairs of constraints and demand among the
// requests it costs O(n·c), and O(log n) for each instance.
func Plan(snap wasmatrix.Snapshot, requests []Request, now time.Time, policy Policy) []Decision {
	if len(requests) == 0 {
		return nil
	}
	total := 0
	for i := range requests {
		total += len(requests[i].Instances)
	}
	p := newPlanner(snap, policy)
	decisions := make([]Decision, len(requests))
	places := make([]wasmatrix.NodeID, total)
	for i := range requests {
		r := &requests[i]
		n := len(r.Instances)
		decisions[i].Nodes, places = places[:n:n], places[n:]
		if now.Before(r.NotBefore) {
			decisions[i].Failure = &Failure{Wanted: n, NotBefore: r.NotBefore}
			continue
		}
		decisions[i].Failure = p.place(r, decisions[i].Nodes)
	}
	return decisions
}

// planner is the state of one Plan call.
type planner struct {
	strategy Strategy
	nodes    []candidate // by ID, and so are indexes into it
	classes  map[classKey]*class
	bySpec   map[*wasmatrix.Spec]*class
	// touched lists the nodes whose use has changed, oldest first. Each class
	// catches up with it when it is next used.
	touched []int32
	local   ranking // scratch of place
	chosen  []int32 // scratch of place
}

type candidate struct {
	node  *wasmatrix.Node
	used  wasmatrix.Capacity
	avoid bool
}

func newPlanner(snap wasmatrix.Snapshot, policy Policy) *planner {
	p := &planner{
		strategy: policy.Strategy,
		classes:  make(map[classKey]*class),
		bySpec:   make(map[*wasmatrix.Spec]*class),
	}
	for n := range snap.Nodes() {
		c := candidate{node: n}
		if n.Eligible() {
			c.used = snap.Usage(n.ID)
		}
		p.nodes = append(p.nodes, c)
	}
	for _, id := range policy.Avoid {
		if i, ok := p.index(id); ok {
			p.nodes[i].avoid = true
		}
	}
	return p
}

func (p *planner) index(id wasmatrix.NodeID) (int, bool) {
	return slices.BinarySearchFunc(p.nodes, id, func(c candidate, id wasmatrix.NodeID) int {
		switch {
		case c.node.ID < id:
			return -1
		case c.node.ID > id:
			return 1
		default:
			return 0
		}
	})
}

// Scores are fixed-point numbers, lower is better, so that no rounding of
// floating point can make two machines differ.
const (
	one          = int64(1) << 30 // a whole: a node that is full, a fair share
	avoidPenalty = one << 20      // beyond any sum of the others
)

// score ranks placing one more instance of a demand on node i, and reports
// whether it fits at all.
func (p *planner) score(i int32, demand wasmatrix.Capacity) (int64, bool) {
	c := &p.nodes[i]
	after := c.used.Plus(demand)
	limit := c.node.Capacity
	if !c.used.Fits(demand, limit) {
		return 0, false
	}
	s := max(share(after.Memory, limit.Memory), share(uint64(after.Instances), uint64(limit.Instances)))
	if p.strategy == BinPack {
		s = one - s
	}
	if c.avoid {
		s += avoidPenalty
	}
	return s, true
}

// place fills nodes for r, or explains. What it takes stays taken unless it is
// all or none and not all fit.
func (p *planner) place(r *Request, nodes []wasmatrix.NodeID) *Failure {
	if len(nodes) == 0 {
		return nil
	}
	c := p.classOf(r.Spec)
	if f := c.knownFull(p, len(nodes), r.Partial); f != nil {
		return f
	}
	c.sync(p)
	// The class ranks nodes as they were before the request. Those that this
	// request has a reason to rank otherwise move into local meanwhile.
	p.local, p.chosen = p.local[:0], p.chosen[:0]
	penalty := p.penalty(c, len(nodes))
	var avoid []int32
	for _, id := range r.Avoid {
		if i, ok := p.index(id); ok {
			avoid = append(avoid, int32(i))
		}
	}
	for k := range nodes {
		for len(avoid) > 0 && len(c.ranking) > 0 && slices.Contains(avoid, c.ranking[0].node) {
			e := c.pop()
			e.extra = avoidPenalty
			p.local.push(e)
		}
		var e entry
		switch {
		case len(p.local) > 0 && (len(c.ranking) == 0 || p.local[0].less(c.ranking[0])):
			e = p.local.pop()
		case len(c.ranking) > 0:
			e = c.pop()
		default:
			return p.fail(c, r, nodes, k)
		}
		n := &p.nodes[e.node]
		n.used = n.used.Plus(c.demand)
		nodes[k] = n.node.ID
		p.chosen = append(p.chosen, e.node)
		if k+1 == len(nodes) {
			break
		}
		e.extra += penalty
		if s, ok := p.score(e.node, c.demand); ok {
			e.base = s
			p.local.push(e)
		}
	}
	p.settle()
	return nil
}

// penalty is what each instance of a request that a node already has adds to
// its score.
func (p *planner) penalty(c *class, count int) int64 {
	if p.strategy == BinPack || len(c.members) == 0 {
		return 0
	}
	fair := (count + len(c.members) - 1) / len(c.members)
	return one / int64(fair)
}

// fail ends a request of which k instances were placed and no more fit.
func (p *planner) fail(c *class, r *Request, nodes []wasmatrix.NodeID, k int) *Failure {
	f := c.explain(p)
	f.Wanted, f.Fit = len(nodes), k
	slots := 0
	if !r.Partial {
		for _, i := range p.chosen {
			n := &p.nodes[i]
			n.used = n.used.Minus(c.demand)
		}
		clear(nodes)
		slots = k
	}
	p.settle()
	c.full, c.slots, c.fullAt = f, slots, len(p.touched)
	return f
}

// settle tells the classes which nodes a request has changed or taken out of
// the ranking of its class.
func (p *planner) settle() {
	p.touched = append(p.touched, p.chosen...)
	for _, e := range p.local {
		p.touched = append(p.touched, e.node)
	}
}
