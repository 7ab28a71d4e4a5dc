package scheduler

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// classKey is all of a Spec that decides which nodes could take it.
type classKey struct {
	demand      wasmatrix.Capacity
	constraints string
}

// class ranks the nodes for all requests that look the same to them.
type class struct {
	demand      wasmatrix.Capacity
	constraints []wasmatrix.Constraint
	members     []int32 // eligible nodes that satisfy the constraints, ascending
	ranking     ranking // the members that have room
	position    []int32 // of each member within ranking, or absent
	cursor      int     // how much of planner.touched has been taken in

	// full explains the last failure, when touched had the length fullAt: no
	// more than slots instances fitted then.
	full   *Failure
	slots  int
	fullAt int
}

const absent = -1

func (p *planner) classOf(spec *wasmatrix.Spec) *class {
	if c, ok := p.bySpec[spec]; ok {
		return c
	}
	key := classKey{demand: spec.Demand(), constraints: canonical(spec.Constraints)}
	c, ok := p.classes[key]
	if !ok {
		c = newClass(p, spec)
		p.classes[key] = c
	}
	p.bySpec[spec] = c
	return c
}

// canonical is the same for constraints that mean the same in another order.
// Neither keys nor values can hold a NUL.
func canonical(constraints []wasmatrix.Constraint) string {
	if len(constraints) == 0 {
		return ""
	}
	parts := make([]string, len(constraints))
	for i, c := range constraints {
		values := slices.Sorted(slices.Values(c.Values))
		parts[i] = string(rune('0'+c.Op)) + c.Key + "\x00" + strings.Join(values, "\x00")
	}
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), "\x00\x00")
}

func newClass(p *planner, spec *wasmatrix.Spec) *class {
	c := &class{demand: spec.Demand(), constraints: spec.Constraints}
	for i := range p.nodes {
		n := p.nodes[i].node
		if n.Eligible() && c.unmet(n) < 0 {
			c.members = append(c.members, int32(i))
		}
	}
	c.rebuild(p)
	return c
}

// unmet returns the index of the first constraint that n does not satisfy, or -1.
func (c *class) unmet(n *wasmatrix.Node) int {
	return slices.IndexFunc(c.constraints, func(k wasmatrix.Constraint) bool { return !k.Matches(n.Labels) })
}

// rebuild ranks all members anew.
func (c *class) rebuild(p *planner) {
	c.ranking = slices.Grow(c.ranking[:0], len(c.members))
	c.position = slices.Grow(c.position[:0], len(c.members))[:len(c.members)]
	for m, i := range c.members {
		c.position[m] = absent
		if s, ok := p.score(i, c.demand); ok {
			c.position[m] = int32(len(c.ranking))
			c.ranking = append(c.ranking, entry{base: s, node: i, member: int32(m)})
		}
	}
	for i := len(c.ranking)/2 - 1; i >= 0; i-- {
		c.down(i)
	}
	c.cursor = len(p.touched)
}

// sync takes in what has happened to nodes since the class was last used.
func (c *class) sync(p *planner) {
	news := p.touched[c.cursor:]
	if len(news) > len(c.members)/2+8 {
		c.rebuild(p)
		return
	}
	for _, i := range news {
		m, ok := c.member(p, i)
		if !ok {
			continue
		}
		at := int(c.position[m])
		s, fits := p.score(i, c.demand)
		switch {
		case fits && at == absent:
			at = len(c.ranking)
			c.ranking = append(c.ranking, entry{base: s, node: i, member: m})
			c.position[m] = int32(at)
			c.up(at)
		case fits:
			c.ranking[at].base = s
			if !c.down(at) {
				c.up(at)
			}
		case at != absent:
			c.remove(at)
		}
	}
	c.cursor = len(p.touched)
}

func (c *class) member(p *planner, node int32) (int32, bool) {
	if len(c.members) == len(p.nodes) {
		return node, true
	}
	m, ok := slices.BinarySearch(c.members, node)
	return int32(m), ok
}

// pop takes the best node out of the ranking.
func (c *class) pop() entry {
	e := c.ranking[0]
	c.remove(0)
	return e
}

func (c *class) remove(at int) {
	last := len(c.ranking) - 1
	c.position[c.ranking[at].member] = absent
	moved := c.ranking[last]
	c.ranking = c.ranking[:last]
	if at == last {
		return
	}
	c.ranking[at] = moved
	c.position[moved.member] = int32(at)
	if !c.down(at) {
		c.up(at)
	}
}

func (c *class) up(i int) {
	h := c.ranking
	e := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !e.less(h[parent]) {
			break
		}
		h[i] = h[parent]
		c.position[h[i].member] = int32(i)
		i = parent
	}
	h[i] = e
	c.position[e.member] = int32(i)
}

// down reports whether the entry moved.
func (c *class) down(i int) bool {
	h, start := c.ranking, i
	e := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].less(h[child]) {
			child++
		}
		if !h[child].less(e) {
			break
		}
		h[i] = h[child]
		c.position[h[i].member] = int32(i)
		i = child
	}
	h[i] = e
	c.position[e.member] = int32(i)
	return i != start
}

// entry is a node within a ranking.
type entry struct {
	base   int64 // from planner.score
	extra  int64 // what one request adds
	node   int32
	member int32
}

func (e entry) less(f entry) bool {
	if a, b := e.base+e.extra, f.base+f.extra; a != b {
		return a < b
	}
	return e.node < f.node
}

// ranking is a binary heap, best first.
type ranking []entry

func (h *ranking) push(e entry) {
	*h = append(*h, e)
	s := *h
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !e.less(s[parent]) {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = e
}

func (h *ranking) pop() entry {
	s := *h
	top, last := s[0], len(s)-1
	e := s[last]
	s = s[:last]
	*h = s
	for i := 0; last > 0; {
		child := 2*i + 1
		if child+1 < last && s[child+1].less(s[child]) {
			child++
		}
		if child >= last || !s[child].less(e) {
			s[i] = e
			break
		}
		s[i] = s[child]
		i = child
	}
	return top
}

// share is part/whole in units of one, for part ≤ whole.
func share(part, whole uint64) int64 {
	if whole == 0 {
		return 0
	}
	if part >= whole {
		return one
	}
	hi, lo := bits.Mul64(part, uint64(one))
	q, _ := bits.Div64(hi, lo, whole)
	return int64(q)
}
