package scheduler

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Failure explains why a request, or part of it, was not placed. Each node that
// took no more counts under the first thing that ruled it out, in the order of
// the fields.
type Failure struct {
	Wanted int // instances asked for
	Fit    int // how many of them would fit, or did
	// NotBefore is set where the request is held back; then nothing else was tried.
	NotBefore time.Time

	Nodes       int // all that are registered
	Down        int
	Draining    int
	Unmet       []Unmet // in the order of the Spec's constraints; those that ruled out none are left out
	TooSmall    int     // nodes whose whole memory is less than one instance needs
	Memory      int     // nodes with too little memory left
	Instances   int     // nodes with all places taken
	NeedsMemory uint64  // bytes for each instance
}

// Unmet counts the nodes that a constraint ruled out.
type Unmet struct {
	Constraint wasmatrix.Constraint
	Nodes      int
}

// String is one sentence in lower case, such as
//
//	no node has room for the instance (64MiB): of 7 nodes 1 is down, 2 are
//	draining, constraint "zone=a" excludes 2, memory is exhausted on 2
func (f *Failure) String() string {
	var b strings.Builder
	switch {
	case !f.NotBefore.IsZero():
		return "held back until the lease of the node that had it has run out"
	case f.Wanted == 1:
		fmt.Fprintf(&b, "no node has room for the instance (%s)", wasmatrix.FormatBytes(f.NeedsMemory))
	case f.Fit == 0:
		fmt.Fprintf(&b, "no node has room for any of %d instances (%s each)", f.Wanted, wasmatrix.FormatBytes(f.NeedsMemory))
	default:
		fmt.Fprintf(&b, "there is room for %d of %d instances only (%s each)", f.Fit, f.Wanted, wasmatrix.FormatBytes(f.NeedsMemory))
	}
	switch f.Nodes {
	case 0:
		b.WriteString(": no node has registered")
		return b.String()
	case 1:
		b.WriteString(": of 1 node ")
	default:
		fmt.Fprintf(&b, ": of %d nodes ", f.Nodes)
	}
	var parts []string
	for _, c := range []struct {
		n        int
		one, any string
	}{
		{f.Down, "%d is down", "%d are down"},
		{f.Draining, "%d is draining", "%d are draining"},
	} {
		switch {
		case c.n == 1:
			parts = append(parts, fmt.Sprintf(c.one, c.n))
		case c.n > 1:
			parts = append(parts, fmt.Sprintf(c.any, c.n))
		}
	}
	for _, u := range f.Unmet {
		parts = append(parts, fmt.Sprintf("constraint %q excludes %d", u.Constraint.String(), u.Nodes))
	}
	for _, c := range []struct {
		n    int
		text string
	}{
		{f.TooSmall, "memory is smaller than one instance on %d"},
		{f.Memory, "memory is exhausted on %d"},
		{f.Instances, "places are exhausted on %d"},
	} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf(c.text, c.n))
		}
	}
	b.WriteString(strings.Join(parts, ", "))
	return b.String()
}

// Err is the failure as users see it: RESOURCE_EXHAUSTED, with the counts as
// details.
func (f *Failure) Err() *wasmatrix.Error {
	e := wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "%s", f.String())
	e.Details = map[string]string{"nodes": strconv.Itoa(f.Nodes)}
	for _, c := range []struct {
		key string
		n   int
	}{
		{"nodes_down", f.Down}, {"nodes_draining", f.Draining}, {"nodes_too_small", f.TooSmall},
		{"nodes_memory_exhausted", f.Memory}, {"nodes_instances_exhausted", f.Instances},
	} {
		if c.n > 0 {
			e.Details[c.key] = strconv.Itoa(c.n)
		}
	}
	unmet := 0
	for _, u := range f.Unmet {
		unmet += u.Nodes
	}
	if unmet > 0 {
		e.Details["nodes_excluded"] = strconv.Itoa(unmet)
	}
	return e
}

// knownFull repeats the last failure without work where nothing can have
// changed since: capacity only shrinks while a plan is made.
func (c *class) knownFull(p *planner, wanted int, partial bool) *Failure {
	if c.full == nil {
		return nil
	}
	switch {
	case c.slots == 0:
	case !partial && wanted > c.slots && c.fullAt == len(p.touched):
	default:
		return nil
	}
	f := *c.full
	f.Wanted, f.Fit = wanted, c.slots
	return &f
}

// explain says why each node could take no more of the class.
func (c *class) explain(p *planner) *Failure {
	f := &Failure{Nodes: len(p.nodes), NeedsMemory: c.demand.Memory}
	unmet := make([]int, len(c.constraints))
	for i := range p.nodes {
		n := &p.nodes[i]
		switch k := c.unmet(n.node); {
		case n.node.Status != wasmatrix.NodeUp:
			f.Down++
		case n.node.Draining:
			f.Draining++
		case k >= 0:
			unmet[k]++
		case c.demand.Memory > n.node.Capacity.Memory:
			f.TooSmall++
		case n.used.Memory+c.demand.Memory > n.node.Capacity.Memory:
			f.Memory++
		default:
			f.Instances++
		}
	}
	for k, n := range unmet {
		if n > 0 {
			f.Unmet = append(f.Unmet, Unmet{Constraint: c.constraints[k], Nodes: n})
		}
	}
	return f
}
