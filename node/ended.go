package node

import (
	"container/list"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

const (
	// maxGraves bounds what is remembered of ended instances.
	maxGraves = 1 << 14
	// lateOrder is how long after the end of an instance an order may arrive that
	// was sent before it. A start that comes later is meant, whatever epoch it
	// has: the cluster has forgotten the instance and uses its ID again, or was
	// set back to an older state.
	lateOrder = 30 * time.Second
)

// grave is what is left of an instance that this node has ended, or was told
// to end before it began.
type grave struct {
	id      wasmatrix.InstanceID
	epoch   uint64
	attempt uint32
	seq     uint64
	final   *wasmatrix.Report // nil where it was ended without a report
	done    <-chan struct{}   // closed when its guest has ended; nil where it had none
	logs    *logRing          // nil where there is none any more
	crashes *crashLog         // nil where there is none any more
	dug     time.Time         // when it was put

	place, logged *list.Element
}

// graveyard keeps the newest graves, and the output of fewer of them. Without
// it an order that was repeated late would run an instance a second time.
type graveyard struct {
	byID     map[wasmatrix.InstanceID]*grave
	order    *list.List // of *grave, oldest first
	logged   *list.List // those with output, oldest first
	keepLogs int
}

func newGraveyard(keepLogs int) graveyard {
	return graveyard{
		byID: make(map[wasmatrix.InstanceID]*grave), order: list.New(), logged: list.New(), keepLogs: keepLogs,
	}
}

func (y *graveyard) put(g *grave) {
	if old := y.byID[g.id]; old != nil && old.logs != g.logs {
		old.discardLogs()
	}
	y.remove(g.id)
	g.dug = time.Now()
	y.byID[g.id] = g
	g.place = y.order.PushBack(g)
	if g.logs != nil {
		g.logged = y.logged.PushBack(g)
	}
	if y.logged.Len() > y.keepLogs {
		old, _ := y.logged.Remove(y.logged.Front()).(*grave)
		old.discardLogs()
		old.logged, old.logs, old.crashes = nil, nil, nil
	}
	if y.order.Len() > maxGraves {
		old, _ := y.order.Front().Value.(*grave)
		old.discardLogs()
		y.remove(old.id)
	}
}

// discardLogs forgets the output, if there is some.
func (g *grave) discardLogs() {
	if g.logs != nil {
		g.logs.discard()
	}
}

// remove takes a grave out. What it has, such as output, is the caller's to keep
// or to discard.
func (y *graveyard) remove(id wasmatrix.InstanceID) {
	g, ok := y.byID[id]
	if !ok {
		return
	}
	delete(y.byID, id)
	y.order.Remove(g.place)
	if g.logged != nil {
		y.logged.Remove(g.logged)
	}
}
