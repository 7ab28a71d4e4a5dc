package cpu

import (
	"context"
	"time"
)

// Share is one guest's part of the cores. Its methods but Used are called by one
// goroutine at a time, that of the guest.
type Share struct {
	s      *Scheduler
	weight int64         // thousandths of a core
	quota  time.Duration // of each window; 0 is none
	ready  chan struct{} // one element: a slot was given

	// Guarded by Scheduler.mu.
	place   int           // among the waiters, or absent
	since   time.Duration // when the time on the slot was last charged
	virtual time.Duration // time on slots, by weight
	used    time.Duration
	window  int64         // number of the window that spent is of
	spent   time.Duration // of the quota; more than that is owed to the next windows
}

// Join makes a share of so many thousandths of a core, at least 1. It is its
// weight among others and, below 1000, its quota; a guest has one thread, so
// that above it weighs only. The share costs nothing while it does not run.
func (s *Scheduler) Join(millis uint32) *Share {
	millis = max(millis, 1)
	sh := &Share{s: s, weight: int64(millis), ready: make(chan struct{}, 1), place: absent}
	if millis < core {
		sh.quota = s.window * time.Duration(millis) / core
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Behind those that wait: an instance that crashes and comes back all the
	// time would always be first.
	sh.virtual = s.floor + bonus
	return sh
}

// Acquire waits for a slot. It returns the cause of ctx, without a slot, when
// that ends first.
func (sh *Share) Acquire(ctx context.Context) error {
	return sh.acquire(ctx, true)
}

// acquire waits for a slot. A share that was idle saves up no more than the bonus.
func (sh *Share) acquire(ctx context.Context, idle bool) error {
	s := sh.s
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.mu.Lock()
		now := s.now()
		if idle {
			sh.virtual = max(sh.virtual, s.floor-bonus)
		}
		rest := sh.exhausted(now)
		if rest == 0 {
			if len(s.holders) < s.slots {
				s.take(sh, now)
				s.raise()
				s.mu.Unlock()
				return nil
			}
			s.push(sh)
			s.mu.Unlock()
			return sh.wait(ctx)
		}
		s.mu.Unlock()
		if err := sleep(ctx, rest); err != nil {
			return err
		}
	}
}

// wait is for a share among the waiters.
func (sh *Share) wait(ctx context.Context) error {
	select {
	case <-sh.ready:
		return nil
	case <-ctx.Done():
	}
	s := sh.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.place != absent {
		s.remove(sh)
	} else { // it was given one just now
		<-sh.ready
		now := s.now()
		sh.charge(now)
		s.give(sh, now)
	}
	return context.Cause(ctx)
}

// Yield is called at a safe point by who has a slot. It charges the time since
// the last, and goes on at once unless the slot is due to another or the quota
// is used up; then it waits. It returns with a slot, or without one and the
// cause of ctx when that has ended.
func (sh *Share) Yield(ctx context.Context) error {
	s := sh.s
	s.mu.Lock()
	now := s.now()
	sh.charge(now)
	switch {
	case ctx.Err() != nil:
		s.give(sh, now)
		s.mu.Unlock()
		return context.Cause(ctx)
	case sh.exhausted(now) > 0:
		s.give(sh, now)
		s.mu.Unlock()
		return sh.acquire(ctx, false)
	case len(s.waiters) > 0 && s.waiters[0].virtual < sh.virtual:
		s.push(sh)
		s.give(sh, now)
		s.mu.Unlock()
		return sh.wait(ctx)
	}
	s.raise()
	s.mu.Unlock()
	return nil
}

// Release gives the slot back.
func (sh *Share) Release() {
	s := sh.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	sh.charge(now)
	s.give(sh, now)
}

// Used is the time on slots so far, up to the last safe point.
func (sh *Share) Used() time.Duration {
	sh.s.mu.Lock()
	defer sh.s.mu.Unlock()
	return sh.used
}

// charge counts the time since the last charge. The caller holds mu.
func (sh *Share) charge(now time.Duration) {
	d := now - sh.since
	sh.since = now
	sh.used += d
	sh.s.used += d
	sh.virtual += d * core / time.Duration(sh.weight)
	if sh.quota > 0 {
		sh.refresh(now)
		sh.spent += d
	}
}

// refresh lets the windows that have passed pay for what was spent.
func (sh *Share) refresh(now time.Duration) {
	n := int64(now / sh.s.window)
	if passed := n - sh.window; passed > 0 {
		sh.window = n
		if owed := int64(sh.spent / sh.quota); passed > owed {
			sh.spent = 0
		} else {
			sh.spent -= time.Duration(passed) * sh.quota
		}
	}
}

// exhausted returns how long the quota is used up for, or 0. The caller holds mu.
func (sh *Share) exhausted(now time.Duration) time.Duration {
	if sh.quota == 0 {
		return 0
	}
	sh.refresh(now)
	if sh.spent < sh.quota {
		return 0
	}
	owed := int64(sh.spent / sh.quota) // whole windows
	return time.Duration(sh.window+owed)*sh.s.window - now
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
