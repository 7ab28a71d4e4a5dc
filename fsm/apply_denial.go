package fsm

import (
	"strconv"

	"github.com/wasmatrix/wasmatrix"
)

// maxDenials bounds the facts that one command makes.
const maxDenials = 64

func (t *tx) recordDenials(c wasmatrix.RecordDenials) any {
	if badID(c.Node) || len(c.Denials) > maxDenials {
		return malformed("denials")
	}
	dup, err := t.seen(c.Request)
	if err != nil {
		return err
	}
	n, ok := t.Node(c.Node)
	if dup != nil || !ok || n.Boot != c.Boot {
		return 0
	}
	facts := 0
	for k := range c.Denials {
		d := &c.Denials[k]
		i, ok := t.Instance(d.Instance)
		if !ok {
			continue
		}
		t.fact(wasmatrix.Fact{Kind: wasmatrix.FactDenied, Instance: i.ID, Node: n.ID, Epoch: d.Epoch, Reason: describeDenial(d)})
		facts++
	}
	t.remember(c.Request)
	return facts
}

// describeDenial tells people what was refused. How often stays readable, however
// long the rest is.
func describeDenial(d *wasmatrix.Denial) string {
	times := ""
	if d.Count > 1 {
		times = " (" + strconv.FormatUint(d.Count, 10) + " times)"
	}
	return truncate(string(d.Capability)+" "+d.Operation+": "+d.Reason, wasmatrix.MaxReason-len(times)) + times
}
