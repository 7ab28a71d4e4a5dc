package cpu

import (
	"context"
	"time"
)

// Share is one guest's part of the cores. Its methods are called by one
// goroutine at a time, that of the guest; only Used may be called by any.
type Share struct {
	s       *Scheduler
	weight  int64
	usual   int64         // virtual time of a usual slice
	granted chan struct{} // one element: a slot was handed over
	timer   *time.Timer   // of sleeps; made when first needed

	// Guarded by Scheduler.mu.
	state   state
	start   int64  // while holding: when what has not been charged began
	used    int64  // charged, in nanoseconds
	quota   *quota // nil is none
	virtual int64  // virtual time, see fair
	last    int64  // virtual time of the last charge
	arrival int64  // when it began to wait
	place   int    // in the heap, while waiting
}

type state uint8

const (
	idle state = iota
	waiting
	holding
	left
)

// Join makes a share of so many thousandths of a core; 0 means 1000. They are
// its weight among others and, below 1000, its quota. A guest has one thread, so
// that from 1000 on they weigh only. A share that does not run costs a few
// hundred bytes and no time. The caller calls Leave at the end.
func (s *Scheduler) Join(millis uint32) *Share {
	if millis == 0 {
		millis = core
	}
	weight := max(minWeight, int64(millis))
	sh := &Share{s: s, weight: weight, usual: cost(usual, weight), granted: make(chan struct{}, 1)}
	if millis < core {
		sh.quota = newQuota(s.window, int64(millis))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fair.joins(sh)
	return sh
}

// Acquire waits for a slot, and for the quota before that. It returns the cause
// of ctx, without a slot, when that ends first. It panics if the share has a
// slot or has left.
func (sh *Share) Acquire(ctx context.Context) error {
	s := sh.s
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.mu.Lock()
		if sh.state != idle {
			s.mu.Unlock()
			panic("cpu: Acquire of a share that has a slot, or has left")
		}
		now := s.now()
		if until := sh.next(now); until > now {
			s.mu.Unlock()
			if err := sh.sleep(ctx, until-now); err != nil {
				return err
			}
			continue
		}
		s.fair.comes(sh)
		if s.holding < s.slots {
			s.hold(sh, now)
			s.mu.Unlock()
			return nil
		}
		s.enqueue(sh, now)
		s.mu.Unlock()
		return sh.wait(ctx)
	}
}

// Yield is called at a safe point while holding a slot. It charges the time
// since the last call and returns at once, unless the slot is due to another or
// the quota is used up; then it waits. It returns with a slot, or with the cause
// of ctx and without one when that has ended. It panics without a slot.
func (sh *Share) Yield(ctx context.Context) error {
	ended := ctx.Err() != nil
	s := sh.s
	s.mu.Lock()
	if sh.state != holding {
		s.mu.Unlock()
		panic("cpu: Yield of a share that has no slot")
	}
	now := s.now()
	first := s.waiters.first()
	sh.charge(now, first)
	if ended {
		s.free(sh, now)
		s.mu.Unlock()
		return context.Cause(ctx)
	}
	if sh.quota != nil && sh.next(now) > now {
		s.free(sh, now)
		s.mu.Unlock()
		return sh.Acquire(ctx)
	}
	if first == nil || first.tag()-sh.tag() >= 0 {
		s.mu.Unlock()
		return nil
	}
	s.swap(sh, now)
	s.mu.Unlock()
	return sh.wait(ctx)
}

// Release gives the slot back. Without one it does nothing.
func (sh *Share) Release() {
	s := sh.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.state == holding {
		now := s.now()
		sh.charge(now, s.waiters.first())
		s.free(sh, now)
	}
}

// Leave gives the slot back, if there is one, and ends the share. It may be
// called more than once.
func (sh *Share) Leave() {
	sh.Release()
	sh.s.mu.Lock()
	defer sh.s.mu.Unlock()
	sh.state = left
}

// Used is the wall time on slots so far, up to now.
func (sh *Share) Used() time.Duration {
	s := sh.s
	s.mu.Lock()
	defer s.mu.Unlock()
	used := sh.used
	if sh.state == holding {
		used += s.now() - sh.start
	}
	return time.Duration(used)
}

// charge counts what a holder has used since it was charged last. The caller
// holds mu.
func (sh *Share) charge(now int64, first *Share) {
	ns := now - sh.start
	sh.used += ns
	sh.s.used += ns
	sh.s.fair.charge(sh, ns, first)
	if sh.quota != nil {
		sh.quota.charge(sh.start, now)
	}
	sh.s.restart(sh, now)
}

// next is when the quota allows to hold a slot. The caller holds mu.
func (sh *Share) next(now int64) int64 {
	if sh.quota == nil {
		return now
	}
	return sh.quota.next(now)
}

// wait waits for the grant of a slot.
func (sh *Share) wait(ctx context.Context) error {
	s := sh.s
	select {
	case <-sh.granted:
		s.mu.Lock()
	case <-ctx.Done():
		s.mu.Lock()
		if sh.state == waiting {
			s.waiters.remove(sh)
			sh.state = idle
			s.mu.Unlock()
			return context.Cause(ctx)
		}
		<-sh.granted // in the meantime
	}
	// What it took to wake up is not the guest's time.
	now := s.now()
	s.restart(sh, now)
	if ctx.Err() != nil {
		s.free(sh, now)
		s.mu.Unlock()
		return context.Cause(ctx)
	}
	s.mu.Unlock()
	return nil
}

// sleep waits for ns, or returns the cause of ctx when that ends first.
func (sh *Share) sleep(ctx context.Context, ns int64) error {
	if sh.timer == nil {
		sh.timer = time.NewTimer(time.Duration(ns))
	} else {
		sh.timer.Reset(time.Duration(ns))
	}
	select {
	case <-sh.timer.C:
		return nil
	case <-ctx.Done():
		sh.timer.Stop()
		return context.Cause(ctx)
	}
}
