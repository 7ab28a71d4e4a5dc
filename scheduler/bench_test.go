package scheduler_test

import (
	"fmt"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler"
)

// BenchmarkPlan plans batches of requests for one instance each, all with specs
// of their own in one of four sizes and half of them with a constraint, on
// nodes that are partly used. It prints placements per second.
func BenchmarkPlan(b *testing.B) {
	for _, nodes := range []int{100, 1_000, 10_000} {
		for _, batch := range []int{1, 100, 1_000, 10_000} {
			b.Run(fmt.Sprintf("nodes=%d/batch=%d", nodes, batch), func(b *testing.B) {
				c := newCluster()
				for i := range nodes {
					id := wasmatrix.NodeID(fmt.Sprintf("node-%05d", i))
					c.nodes = append(c.nodes, &wasmatrix.Node{
						ID: id, Status: wasmatrix.NodeUp,
						Labels:   map[string]string{wasmatrix.LabelNode: string(id), "zone": string(rune('a' + i%3))},
						Capacity: wasmatrix.Capacity{Memory: 64 << 30, Instances: 100_000},
					})
					c.usage[id] = wasmatrix.Capacity{Memory: uint64(i*7919%1000) << 20, Instances: uint32(i * 7919 % 200)}
				}
				requests := make([]scheduler.Request, batch)
				for i := range requests {
					spec := &wasmatrix.Spec{Limits: wasmatrix.Limits{Memory: uint64(16<<20) << (i % 4)}}
					if i%2 == 0 {
						spec.Constraints = []wasmatrix.Constraint{{Key: "zone", Values: []string{"b"}}}
					}
					requests[i] = scheduler.Request{Instances: []wasmatrix.InstanceID{"i"}, Spec: spec}
				}
				b.ReportAllocs()
				for b.Loop() {
					for _, d := range scheduler.Plan(c, requests, planTime, scheduler.Policy{}) {
						if d.Failure != nil {
							b.Fatal(d.Failure)
						}
					}
				}
				b.ReportMetric(float64(batch)*float64(b.N)/b.Elapsed().Seconds(), "placements/s")
			})
		}
	}
}
