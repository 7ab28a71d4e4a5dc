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
	// usual is how long slices are expected to be.
	usual = 500_000
	// maxCharge bounds what one slice costs in virtual time: after a pause of
	// the whole process, shares would otherwise be minutes apart.
	maxCharge = 100_000_000
)

// fair orders the shares of a scheduler. It is guarded by Scheduler.mu.
//
// Next is who would be the first to have paid for a usual slice: who has the
// least virtual time among shares of the same weight. Those of less weight come
// a little later, since what they get costs them more (which is the difference
// between fair queueing by start tags and by finish tags): one that wakes up for
// a moment would else wait for a slice of each of them.
type fair struct {
	// clock is the virtual time of who was granted a slot last, and never goes
	// back. It stands still while nobody waits.
	clock int64
}

// cost is what ns on a slot cost in virtual time.
func cost(ns, weight int64) int64 { return min(ns, maxCharge) * core / weight }

// tag is what shares are ordered by.
func (sh *Share) tag() int64 { return sh.virtual + sh.usual }

// joins places a new share. It is charged a usual slice in advance: one that
// crashes and comes again for ever would otherwise always come first, and have
// paid for nothing.
func (f *fair) joins(sh *Share) { sh.virtual = f.clock + sh.usual }

// comes places a share that was idle. It keeps what it is ahead of others and
// loses what it is behind, but for the bonus, which it has once: guests that
// sleep by turns delay one that never sleeps by a few slices each, not for ever.
func (f *fair) comes(sh *Share) { sh.virtual = latest(sh.virtual, f.clock-bonus) }

// begins notes that a share is granted a slot.
func (f *fair) begins(sh *Share) { f.clock = latest(f.clock, sh.virtual) }

// charge counts ns on a slot.
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
	sh.virtual += c
	// A holder of much weight is due more than the one core that it can use, and
	// must not save up the rest. The first waiter was not before it until its last
	// slice, so that the holder may be behind by that, and a little for other slots.
	behind := 2*max(first.last, first.usual) + bonus
	sh.virtual = latest(sh.virtual, first.tag()-behind-sh.usual)
}

// latest is the later of two virtual times.
func latest(a, b int64) int64 {
	if a-b < 0 {
		return b
	}
	return a
}
