package cpu

import (
	"runtime"
	"sync"
	"time"
)

// Config says what a [Scheduler] shares out. The zero value works.
type Config struct {
	// Slots is how many guests run at a time; 0 means [runtime.GOMAXPROCS].
	Slots int
	// Window is the time over which quotas are enforced; 0 means 100 ms.
	Window time.Duration
}

const defaultWindow = 100 * time.Millisecond

// Scheduler gives slots to shares. All methods may be called concurrently.
type Scheduler struct {
	slots  int
	window int64     // of quotas, in nanoseconds
	epoch  time.Time // what times are counted from

	mu      sync.Mutex // guards all below, and what shares say it guards
	holding int        // shares that hold a slot
	// starts is the sum of when those began what they have not been charged
	// for, so that what is used can be told without a list of them.
	starts  int64
	used    int64 // charged to all shares, in nanoseconds
	waiters heap  // empty unless all slots are held
	fair    fair
}

// New makes a scheduler.
func New(cfg Config) *Scheduler {
	if cfg.Slots <= 0 {
		cfg.Slots = runtime.GOMAXPROCS(0)
	}
	if cfg.Window <= 0 {
		cfg.Window = defaultWindow
	}
	return &Scheduler{slots: cfg.Slots, window: int64(cfg.Window), epoch: time.Now()}
}

// Stats is a moment of a scheduler.
type Stats struct {
	Slots   int
	Holding int           // shares that hold a slot
	Waiting int           // shares that want one; not those whose quota is used up
	Used    time.Duration // wall time on slots, by all shares so far
}

// Stats tells what goes on.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Slots:   s.slots,
		Holding: s.holding,
		Waiting: len(s.waiters),
		Used:    time.Duration(s.used + int64(s.holding)*s.now() - s.starts),
	}
}

// now is the time since the scheduler was made, in nanoseconds.
func (s *Scheduler) now() int64 { return int64(time.Since(s.epoch)) }

// hold gives a slot to sh, which has none. The caller holds mu.
func (s *Scheduler) hold(sh *Share, now int64) {
	sh.state = holding
	sh.start = now
	s.holding++
	s.starts += now
}

// restart sets the time from which on a holder is charged. The caller holds mu.
func (s *Scheduler) restart(sh *Share, now int64) {
	s.starts += now - sh.start
	sh.start = now
}

// enqueue lets sh, which is idle, wait for a slot. The caller holds mu.
func (s *Scheduler) enqueue(sh *Share, now int64) {
	sh.state, sh.arrival = waiting, now
	s.waiters.push(sh)
}

// free takes the slot from sh and hands it to who is due. The caller holds mu,
// and has charged sh.
func (s *Scheduler) free(sh *Share, now int64) {
	sh.state = idle
	s.starts -= sh.start
	s.holding--
	if len(s.waiters) > 0 {
		s.grant(s.waiters.pop(), now)
	}
}

// swap takes the slot from sh, which goes on to wait, and hands it to the first
// waiter. The caller holds mu, and has charged sh.
func (s *Scheduler) swap(sh *Share, now int64) {
	s.starts -= sh.start
	s.holding--
	sh.state, sh.arrival = waiting, now
	s.grant(s.waiters.replace(sh), now)
}

// grant hands a slot to a share that has left the waiters. The caller holds mu.
func (s *Scheduler) grant(sh *Share, now int64) {
	s.fair.begins(sh)
	s.hold(sh, now)
	sh.granted <- struct{}{} // never blocks: one grant for each wait
}
