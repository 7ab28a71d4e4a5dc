package group

import (
	"sync"
	"time"
)

// awakeSlices is into how many parts a wait is cut. A process that was
// paused, with its machine or by a signal, finds one part over when it goes on,
// and not all of them: its disk had no time to answer either.
const awakeSlices = 8

// awakeTimer runs out after a time of waiting in which the process was awake.
type awakeTimer struct {
	slice time.Duration
	over  func()

	mu     sync.Mutex
	timer  *time.Timer
	passed int
	ended  bool
}

// newAwakeTimer calls over once when after has passed without end being called.
func newAwakeTimer(after time.Duration, over func()) *awakeTimer {
	p := &awakeTimer{slice: after / awakeSlices, over: over}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(p.slice, p.pass)
	return p
}

func (p *awakeTimer) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if p.passed++; p.passed < awakeSlices {
		p.timer.Reset(p.slice)
		return
	}
	p.ended = true
	p.over()
}

// end stops the wait and reports whether it had not run out.
func (p *awakeTimer) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	inTime := !p.ended
	p.ended = true
	return inTime
}

// awakeStopwatch measures time in which the process was awake, by being asked at
// intervals: a longer pause between two questions counts as one interval.
type awakeStopwatch struct {
	interval time.Duration
	last     time.Time
	awake    time.Duration
}

// lap adds the time since the last question and returns the sum.
func (s *awakeStopwatch) lap(now time.Time) time.Duration {
	if !s.last.IsZero() {
		s.awake += min(now.Sub(s.last), 2*s.interval)
	}
	s.last = now
	return s.awake
}

// reset begins anew at the next question.
func (s *awakeStopwatch) reset() { s.last, s.awake = time.Time{}, 0 }
