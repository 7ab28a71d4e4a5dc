package group

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwakeTimerRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var over atomic.Bool
		p := newAwakeTimer(2*time.Second, func() { over.Store(true) })
		time.Sleep(2*time.Second - time.Millisecond)
		synctest.Wait()
		if over.Load() {
			t.Fatal("too early")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if !over.Load() || p.end() {
			t.Fatal("not run out")
		}
	})
}

func TestAwakeTimerEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newAwakeTimer(time.Second, func() { t.Error("called though it was ended") })
		time.Sleep(900 * time.Millisecond)
		if !p.end() {
			t.Error("ended late")
		}
		time.Sleep(time.Minute)
	})
}

// TestPauseIsNotWaiting: after a pause the timer fires at once, however long the
// pause was, as it does when a stopped process goes on. That uses up one slice.
func TestPauseIsNotWaiting(t *testing.T) {
	late := false
	p := newAwakeTimer(24*time.Hour, func() { late = true })
	for range awakeSlices - 1 {
		p.pass()
	}
	if late || !p.end() {
		t.Error("fewer pauses than slices were taken for waiting")
	}
	s := awakeStopwatch{interval: time.Second}
	now := time.Unix(0, 0)
	s.lap(now)
	s.lap(now.Add(time.Second))
	if got := s.lap(now.Add(time.Hour)); got != 3*time.Second {
		t.Errorf("awake for %s", got)
	}
	s.reset()
	if got := s.lap(now.Add(2 * time.Hour)); got != 0 {
		t.Errorf("awake for %s after a reset", got)
	}
}
