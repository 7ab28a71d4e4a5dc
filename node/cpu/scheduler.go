package cpu

import (
	"runtime"
	"slices"
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

const (
	defaultWindow = 100 * time.Millisecond
	// bonus is by how much a share that was idle comes before those that were not.
	bonus = time.Millisecond
	// core is the weight of a share of one core.
	core = 1000
)

// Scheduler gives slots to shares. All methods may be called concurrently.
type Scheduler struct {
	slots  int
	window time.Duration
	epoch  time.Time // that times are counted from

	mu      sync.Mutex // guards all below, and the fields of shares
	holders []*Share   // at most slots
	waiters []*Share   // a heap by virtual time
	// floor is the least virtual time among those that run or wait, and never
	// goes back. Who comes begins there.
	floor time.Duration
	used  time.Duration
}

// New makes a scheduler.
func New(cfg Config) *Scheduler {
	if cfg.Slots <= 0 {
		cfg.Slots = runtime.GOMAXPROCS(0)
	}
	if cfg.Window <= 0 {
		cfg.Window = defaultWindow
	}
	return &Scheduler{slots: cfg.Slots, window: cfg.Window, epoch: time.Now(), holders: make([]*Share, 0, cfg.Slots)}
}

// Stats is a moment of a scheduler.
type Stats struct {
	Slots   int
	Holding int           // shares that have a slot
	Waiting int           // shares that want one
	Used    time.Duration // on slots, by all shares so far
}

// Stats tells what goes on.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	st := Stats{Slots: s.slots, Holding: len(s.holders), Waiting: len(s.waiters), Used: s.used}
	for _, h := range s.holders {
		st.Used += now - h.since
	}
	return st
}

// now is the time since the scheduler was made.
func (s *Scheduler) now() time.Duration { return time.Since(s.epoch) }

// take gives sh a free slot. The caller holds mu.
func (s *Scheduler) take(sh *Share, now time.Duration) {
	sh.since = now
	s.holders = append(s.holders, sh)
}

// give takes the slot from sh, which has been charged, and hands it to the first
// waiter. The caller holds mu.
func (s *Scheduler) give(sh *Share, now time.Duration) {
	if i := slices.Index(s.holders, sh); i >= 0 {
		last := len(s.holders) - 1
		s.holders[i] = s.holders[last]
		s.holders[last] = nil
		s.holders = s.holders[:last]
	}
	for len(s.holders) < s.slots && len(s.waiters) > 0 {
		next := s.pop()
		s.take(next, now)
		next.ready <- struct{}{}
	}
	s.raise()
}

// raise moves the floor on. The caller holds mu.
func (s *Scheduler) raise() {
	if len(s.holders) == 0 && len(s.waiters) == 0 {
		return
	}
	least := time.Duration(1<<63 - 1)
	for _, h := range s.holders {
		least = min(least, h.virtual)
	}
	if len(s.waiters) > 0 {
		least = min(least, s.waiters[0].virtual)
	}
	s.floor = max(s.floor, least)
}
