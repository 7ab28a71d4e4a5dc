package capability

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
)

// maxDenials bounds the kinds of denial that wait to be told. What comes beyond
// is counted by the gate and written to the audit log only.
const maxDenials = 4096

// denialKind is what makes denials alike.
type denialKind struct {
	instance   wasmatrix.InstanceID
	epoch      uint64
	capability wasmatrix.CapabilityID
	operation  string
	reason     string
}

// denials gathers refusals, so that a guest that is refused a million times a
// second costs a map's entry and not a log's.
type denials struct {
	log hclog.Logger

	mu    sync.Mutex
	kinds map[denialKind]*wasmatrix.Denial
	order []denialKind // the oldest first
}

func (d *denials) add(k denialKind) {
	d.mu.Lock()
	one := d.kinds[k]
	first := one == nil
	if first {
		if d.kinds == nil {
			d.kinds = make(map[denialKind]*wasmatrix.Denial)
		}
		one = &wasmatrix.Denial{Instance: k.instance, Epoch: k.epoch, Capability: k.capability, Operation: k.operation, Reason: k.reason}
		if len(d.kinds) < maxDenials {
			d.kinds[k] = one
			d.order = append(d.order, k)
		}
	}
	one.Count++
	one.At = wasmatrix.TimeOf(time.Now())
	d.mu.Unlock()
	if first {
		d.log.Warn("denied", "instance", k.instance, "epoch", k.epoch, "capability", k.capability, "operation", k.operation, "reason", k.reason)
	}
}

func (d *denials) take(n int) []wasmatrix.Denial {
	d.mu.Lock()
	defer d.mu.Unlock()
	n = min(n, len(d.order))
	taken := make([]wasmatrix.Denial, 0, n)
	for _, k := range d.order[:n] {
		one := d.kinds[k]
		delete(d.kinds, k)
		if one.Count > 1 {
			d.log.Warn("denied again", "instance", k.instance, "epoch", k.epoch, "capability", k.capability, "operation", k.operation, "times", one.Count)
		}
		taken = append(taken, *one)
	}
	d.order = append(d.order[:0], d.order[n:]...)
	return taken
}
