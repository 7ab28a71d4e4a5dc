package agent

import "testing"

func TestCollectionsArePacedUnderLoadOnly(t *testing.T) {
	const live = 10 << 20
	p := gcPace{percent: gcDefault}
	look := func(collections, want int) {
		t.Helper()
		if got := p.next(uint64(collections), live); got != want {
			t.Fatalf("after a look with %d collections: %d, not %d", collections, got, want)
		}
	}
	look(20*gcBusy, gcDefault) // a start
	for range 100 {
		look(1, gcDefault) // little to do
	}
	look(gcBusy, gcDefault)
	look(gcBusy, gcMost)
	for range 10 * gcCalm {
		look(1, gcMost) // as many as are left of the load, now that there is room
	}
	look(0, gcMost) // a pause
	for range 2 * gcCalm {
		p.next(0, live)
	}
	look(0, gcDefault)

	// A heap that is collected now and then is no load, with room or without.
	look(gcBusy, gcDefault)
	look(gcBusy, gcMost)
	for n := range 2 * gcCalm {
		p.next(uint64(n%gcCalm/(gcCalm-1)), live)
	}
	look(0, gcDefault)
}

// However large the live heap, what it may grow by beyond the default is bounded.
func TestRoomOfTheHeapIsBounded(t *testing.T) {
	for _, live := range []uint64{0, 1, 20 << 20, 100 << 20, 1 << 30, 8 << 30} {
		p := gcPace{percent: gcDefault}
		p.next(gcBusy, live)
		got := p.next(gcBusy, live)
		if got <= gcDefault || got > gcMost {
			t.Fatalf("%d live bytes: %d", live, got)
		}
		if more := uint64(got-gcDefault) * live / 100; more > gcRoom+live/100 {
			t.Fatalf("%d live bytes may grow by %d more", live, more)
		}
	}
}
