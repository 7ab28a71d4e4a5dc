package scheduler_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler"
)

const page = wasmatrix.WasmPage

// drawCluster makes a few small nodes, so that capacity runs out often.
func drawCluster(t *rapid.T, least int) *cluster {
	c := newCluster()
	for i := range rapid.IntRange(least, 8).Draw(t, "nodes") {
		id := wasmatrix.NodeID(fmt.Sprintf("n%d", i))
		n := &wasmatrix.Node{
			ID: id, Status: rapid.SampledFrom([]wasmatrix.NodeStatus{wasmatrix.NodeUp, wasmatrix.NodeUp, wasmatrix.NodeUp, wasmatrix.NodeDown}).Draw(t, "status"),
			Draining: rapid.IntRange(0, 5).Draw(t, "draining") == 0,
			Labels:   map[string]string{wasmatrix.LabelNode: string(id), "zone": rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "zone")},
			Capacity: wasmatrix.Capacity{Memory: page * uint64(rapid.IntRange(4*least, 20+20*least).Draw(t, "memory")), Instances: uint32(rapid.IntRange(2*least, 8+20*least).Draw(t, "instances"))},
		}
		// A node may hold more than it offers, after it registered with less.
		c.add(n, wasmatrix.Capacity{
			Memory: page * uint64(rapid.IntRange(0, 8).Draw(t, "used memory")), Instances: uint32(rapid.IntRange(0, 4).Draw(t, "used instances")),
		})
	}
	return c
}

func drawSpec(t *rapid.T) *wasmatrix.Spec {
	s := &wasmatrix.Spec{Limits: wasmatrix.Limits{Memory: page * uint64(rapid.IntRange(1, 4).Draw(t, "limit"))}}
	for _, expr := range rapid.SliceOfN(rapid.SampledFrom([]string{"zone=a", "zone in (a,b)", "zone!=c", "!gpu", "node=n1"}), 0, 2).Draw(t, "constraints") {
		c, err := wasmatrix.ParseConstraint(expr)
		if err != nil {
			t.Fatal(err)
		}
		s.Constraints = append(s.Constraints, c)
	}
	return s
}

func drawRequests(t *rapid.T, least int) []scheduler.Request {
	specs := rapid.SliceOfN(rapid.Custom(drawSpec), min(least, 3), 4).Draw(t, "specs")
	ids := rapid.SampledFrom([]wasmatrix.NodeID{"n0", "n1", "n2", "n9"})
	requests := make([]scheduler.Request, rapid.IntRange(least, 2*least+13).Draw(t, "requests"))
	for r := range requests {
		requests[r] = scheduler.Request{
			Spec:    rapid.SampledFrom(specs).Draw(t, "spec"),
			Avoid:   rapid.SliceOfN(ids, 0, 2).Draw(t, "avoid"),
			Partial: rapid.Bool().Draw(t, "partial"),
		}
		for i := range rapid.IntRange(0, 6).Draw(t, "count") {
			requests[r].Instances = append(requests[r].Instances, wasmatrix.InstanceID(fmt.Sprintf("i%d-%d", r, i)))
		}
		if rapid.IntRange(0, 9).Draw(t, "held") == 0 {
			requests[r].NotBefore = planTime.Add(time.Second)
		}
	}
	return requests
}

func drawPolicy(t *rapid.T) scheduler.Policy {
	return scheduler.Policy{
		Strategy: rapid.SampledFrom([]scheduler.Strategy{scheduler.Spread, scheduler.BinPack}).Draw(t, "strategy"),
		Avoid:    rapid.SliceOfN(rapid.SampledFrom([]wasmatrix.NodeID{"n0", "n3"}), 0, 1).Draw(t, "avoid all"),
	}
}

// accepts is the obvious test of one node for one instance, against which the
// planner's rankings are held.
func accepts(n *wasmatrix.Node, used wasmatrix.Capacity, s *wasmatrix.Spec) bool {
	if !n.Eligible() || !used.Fits(s.Demand(), n.Capacity) {
		return false
	}
	return !slices.ContainsFunc(s.Constraints, func(c wasmatrix.Constraint) bool { return !c.Matches(n.Labels) })
}

// TestPlanIsSoundAndComplete replays every plan decision by decision: nothing
// goes where it must not, and nothing is refused that would fit.
func TestPlanIsSoundAndComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, requests, policy := drawCluster(t, 0), drawRequests(t, 1), drawPolicy(t)
		decisions := scheduler.Plan(c, requests, planTime, policy)
		if len(decisions) != len(requests) {
			t.Fatalf("%d decisions for %d requests", len(decisions), len(requests))
		}
		for r, d := range decisions {
			req := requests[r]
			if len(d.Nodes) != len(req.Instances) {
				t.Fatalf("request %d: %d nodes for %d instances", r, len(d.Nodes), len(req.Instances))
			}
			placed := 0
			for _, id := range d.Nodes {
				if id == "" {
					continue
				}
				if placed++; !req.NotBefore.IsZero() {
					t.Fatalf("request %d is held and was placed", r)
				}
				n := c.nodes[slices.IndexFunc(c.nodes, func(n *wasmatrix.Node) bool { return n.ID == id })]
				if !accepts(n, c.usage[id], req.Spec) {
					t.Fatalf("request %d on %s, which does not accept it: %+v with %+v", r, id, n, c.usage[id])
				}
				c.usage[id] = c.usage[id].Plus(req.Spec.Demand())
			}
			checkFailure(t, c, r, req, d, placed)
		}
	})
}

func checkFailure(t *rapid.T, c *cluster, r int, req scheduler.Request, d scheduler.Decision, placed int) {
	if d.Failure == nil {
		if placed != len(d.Nodes) {
			t.Fatalf("request %d: %d of %d placed without a reason", r, placed, len(d.Nodes))
		}
		return
	}
	if placed == len(d.Nodes) && placed > 0 {
		t.Fatalf("request %d: all placed, and yet %s", r, d.Failure)
	}
	if !req.NotBefore.IsZero() {
		return
	}
	if placed > 0 && !req.Partial {
		t.Fatalf("request %d: %d of %d placed, all or none was asked", r, placed, len(d.Nodes))
	}
	// What more would fit, counted the plain way.
	room := 0
	for _, n := range c.nodes {
		for used := c.usage[n.ID]; accepts(n, used, req.Spec); used = used.Plus(req.Spec.Demand()) {
			room++
		}
	}
	if room+placed >= len(d.Nodes) || (req.Partial && room > 0) {
		t.Fatalf("request %d: %d of %d placed though %d more fit", r, placed, len(d.Nodes), room)
	}
	f := d.Failure
	sum := f.Down + f.Draining + f.TooSmall + f.Memory + f.Instances
	for _, u := range f.Unmet {
		sum += u.Nodes
	}
	if sum != len(c.nodes) || f.Nodes != len(c.nodes) || f.Wanted != len(d.Nodes) || f.Fit != room+placed {
		t.Fatalf("request %d: %d nodes, %d+%d of %d fit, and the failure says %+v", r, len(c.nodes), placed, room, len(d.Nodes), f)
	}
	if e := f.Err(); e.Code != wasmatrix.CodeResourceExhausted || e.Message == "" {
		t.Fatalf("request %d: error %v", r, e)
	}
}

// TestPlanIsDeterministic also shows that the argument is left alone.
func TestPlanIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, requests, policy := drawCluster(t, 0), drawRequests(t, 1), drawPolicy(t)
		first := scheduler.Plan(c, requests, planTime, policy)
		// Equal specs at other addresses must not matter, nor their order in memory.
		for r := range requests {
			spec := *requests[r].Spec
			requests[r].Spec = &spec
		}
		if again := scheduler.Plan(c, requests, planTime, policy); !reflect.DeepEqual(first, again) {
			t.Fatalf("the same arguments gave\n%+v\nand\n%+v", first, again)
		}
	})
}

// TestPlanChoosesTheBest holds every single placement against a scan of all
// nodes, so that the heaps cannot be out of date unnoticed.
func TestPlanChoosesTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Many requests of a few kinds, since what one kind takes must be seen by
		// the others.
		c, requests, policy := drawCluster(t, 2), drawRequests(t, 12), drawPolicy(t)
		for r := range requests {
			requests[r].Instances = []wasmatrix.InstanceID{"i"}
		}
		for r, d := range scheduler.Plan(c, requests, planTime, policy) {
			req := requests[r]
			if !req.NotBefore.IsZero() {
				continue
			}
			want := wasmatrix.NodeID("")
			var best [2]float64
			for _, n := range c.nodes {
				used := c.usage[n.ID]
				if !accepts(n, used, req.Spec) {
					continue
				}
				after := used.Plus(req.Spec.Demand())
				score := max(float64(after.Memory)/float64(n.Capacity.Memory), float64(after.Instances)/float64(n.Capacity.Instances))
				if policy.Strategy == scheduler.BinPack {
					score = -score
				}
				rank := [2]float64{0, score}
				for _, avoid := range [][]wasmatrix.NodeID{policy.Avoid, req.Avoid} {
					if slices.Contains(avoid, n.ID) {
						rank[0]++
					}
				}
				// Fixed-point and floating-point numbers may order near ties differently.
				const epsilon = 1e-8
				if want == "" || rank[0] < best[0] || rank[0] == best[0] && rank[1] < best[1]-epsilon {
					want, best = n.ID, rank
				}
			}
			if d.Nodes[0] != want {
				t.Fatalf("request %d went to %q, not %q", r, d.Nodes[0], want)
			}
			if want != "" {
				c.usage[want] = c.usage[want].Plus(req.Spec.Demand())
			}
		}
	})
}

// TestSpreadIsEven: equal empty nodes differ by one instance at most, both in
// all and for each request.
func TestSpreadIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster()
		nodes := rapid.IntRange(1, 12).Draw(t, "nodes")
		for i := range nodes {
			c.add(&wasmatrix.Node{
				ID: wasmatrix.NodeID(fmt.Sprintf("n%02d", i)), Status: wasmatrix.NodeUp,
				Capacity: wasmatrix.Capacity{Memory: 1 << 40, Instances: 1 << 20},
			}, wasmatrix.Capacity{})
		}
		spec := &wasmatrix.Spec{Limits: wasmatrix.DefaultLimits}
		var requests []scheduler.Request
		for range rapid.IntRange(1, 6).Draw(t, "requests") {
			requests = append(requests, scheduler.Request{Spec: spec, Instances: make([]wasmatrix.InstanceID, rapid.IntRange(1, 40).Draw(t, "count"))})
		}
		total := make(map[wasmatrix.NodeID]int)
		even := func(what string, counts map[wasmatrix.NodeID]int) {
			low, high := 1<<30, 0
			for _, n := range c.nodes {
				low, high = min(low, counts[n.ID]), max(high, counts[n.ID])
			}
			if high-low > 1 {
				t.Fatalf("%s: from %d to %d instances on a node: %v", what, low, high, counts)
			}
		}
		for r, d := range scheduler.Plan(c, requests, planTime, scheduler.Policy{}) {
			own := make(map[wasmatrix.NodeID]int)
			for _, id := range d.Nodes {
				own[id]++
				total[id]++
			}
			even(fmt.Sprintf("request %d", r), own)
		}
		even("all", total)
	})
}

func TestPlanOfNothing(t *testing.T) {
	if d := scheduler.Plan(newCluster(), nil, planTime, scheduler.Policy{}); d != nil {
		t.Errorf("no requests gave %v", d)
	}
}

func TestParseStrategy(t *testing.T) {
	for _, s := range []scheduler.Strategy{scheduler.Spread, scheduler.BinPack} {
		if got, err := scheduler.ParseStrategy(s.String()); err != nil || got != s {
			t.Errorf("%s parsed as %v, %v", s, got, err)
		}
	}
	if _, err := scheduler.ParseStrategy("random"); wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
		t.Errorf("random: %v", err)
	}
}
