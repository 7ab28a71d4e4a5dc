package cpu

// Virtual time is nanoseconds on a slot at the weight of one core. It is an
// int64 that wraps after years, so that two of them are compared by their
// difference.

const (
	// core is the weight of one core.
	core = 1000
	// minWeight is the least weight in virtual time. A share of one thousandth
	// would otherwise wait a second for each of its competitors' milliseconds;
	// its quota still holds it to the thousandth.
	minWeight = 10
	// bonus is by how much, in virtual time, a share that was idle comes before
	// all others, and how far it may lag behind them: about two slices.
	bonus = 1_000_000
	// entry is the time on a slot that a new share is charged in advance, about
	// one slice: one that crashes and comes again for ever would otherwise
	// always come first, and have paid for nothing.
	entry = 500_000
	// maxCharge bounds what one slice costs in virtual time: after a pause of
	// the whole process, shares would otherwise be minutes apart.
	maxCharge = 100_000_000
)

// fair orders the shares of a scheduler. It is guarded by Scheduler.mu.
type fair struct {
	// clock is where the shares are that hold or want a slot: it goes on with
	// the service that they get, divided by their weights, and is never behind
	// who was granted a slot last. It stands still while nobody waits.
	clock  int64
	weight int64 // of those that hold or wait
}

// cost is what ns on a slot cost in virtual time.
func cost(ns, weight int64) int64 { return min(ns, maxCharge) * core / weight }

// joins places a new share.
func (f *fair) joins(sh *Share) { sh.virtual = f.clock + cost(entry, sh.weight) }

// comes places a share that was idle. It keeps what it is ahead of others and
// loses what it is behind, but for the bonus. first is the first waiter, or nil.
func (f *fair) comes(sh, first *Share) {
	f.weight += sh.weight
	least := f.clock
	if first != nil && first.virtual-least < 0 {
		// Before the first waiter, however low that is: between others of small
		// weight lie long slices. But no further than that one may lag, or an
		// endless stream of newcomers would keep it waiting for ever.
		least = latest(first.virtual, least-first.last-bonus)
	}
	sh.virtual = latest(sh.virtual, least-bonus)
}

// begins notes that a share is granted a slot.
func (f *fair) begins(sh *Share) { f.clock = latest(f.clock, sh.virtual) }

// charge counts ns on a slot. first is the first waiter, or nil.
func (f *fair) charge(sh *Share, ns int64, first *Share) {
	c := cost(ns, sh.weight)
	sh.last = c
	if first == nil {
		// Nobody wants the slot, so what was had beyond one's part took nothing
		// from anybody and is forgotten: shares of different weights that run
		// beside one another would come to lie hours apart.
		if sh.virtual-f.clock > 0 {
			sh.virtual = f.clock
		}
		sh.virtual += c
		return
	}
	f.clock += cost(ns, f.weight)
	sh.virtual += c
	// A holder of much weight is due more than the one core that it can use, and
	// must not save up the rest. The first waiter was not behind it before its
	// last slice, so that it may lag by that much, and a little for other slots.
	sh.virtual = latest(sh.virtual, first.virtual-2*first.last-bonus)
}

// latest is the later of two virtual times.
func latest(a, b int64) int64 {
	if a-b < 0 {
		return b
	}
	return a
}
