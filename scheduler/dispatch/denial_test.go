package dispatch_test

import (
	"fmt"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler/dispatch"
)

func TestDenialsAreFacts(t *testing.T) {
	inWorld(t, dispatch.Config{}, []uint32{10}, func(t *testing.T, w *world, nodes []*process) {
		id := w.mustStart(item("a", 1, w.spec()))[0]
		p := nodes[0]
		denied := func() (reasons []string) {
			for f := range w.state().Facts(0) {
				if f.Kind == wasmatrix.FactDenied {
					if f.Instance != id || f.Node != p.node || f.Epoch != 1 {
						t.Errorf("%+v", f)
					}
					reasons = append(reasons, f.Reason)
				}
			}
			return reasons
		}
		var many []wasmatrix.Denial
		for n := range 130 {
			many = append(many, wasmatrix.Denial{Instance: id, Epoch: 1, Capability: "c", Operation: "kv.get", Reason: fmt.Sprint("key ", n), Count: 2})
		}
		report := func(seq uint64, boot wasmatrix.BootID, node wasmatrix.NodeID) error {
			return w.d().ReportDenials(t.Context(), node, boot, seq, many)
		}
		// The answer is lost, and so the node reports again.
		w.set(func() { w.loseNext = 1 })
		if err := report(1, p.boot, p.node); err == nil || len(denied()) != 64 {
			t.Errorf("%v, %d facts", err, len(denied()))
		}
		if err := report(1, p.boot, p.node); err != nil {
			t.Error(err)
		}
		facts := denied()
		if len(facts) != 130 || facts[129] != "c kv.get: key 129 (2 times)" {
			t.Errorf("%d facts, %q", len(facts), facts)
		}
		if err := report(2, p.boot, p.node); err != nil || len(denied()) != 260 {
			t.Errorf("the next: %v, %d facts", err, len(denied()))
		}
		if err := report(3, "other", p.node); wasmatrix.CodeOf(err) != wasmatrix.CodeConflict {
			t.Errorf("of another process: %v", err)
		}
		if err := report(3, p.boot, "nobody"); wasmatrix.CodeOf(err) != wasmatrix.CodeNodeNotFound {
			t.Errorf("of an unknown node: %v", err)
		}
		if n := len(denied()); n != 260 {
			t.Errorf("%d facts", n)
		}
	})
}
