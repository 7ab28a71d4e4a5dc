package agent

import "testing"

func TestCollectionsArePacedUnderLoadOnly(t *testing.T) {
	p := gcPace{percent: gcDefault}
	for range 100 {
		if got := p.next(1, 10<<20); got != gcDefault {
			t.Fatalf("a server that does little collects at %d", got)
		}
	}
	if got := p.next(gcBusy, 10<<20); got != gcMost {
		t.Fatalf("a small heap under load: %d", got)
	}
	if got := p.next(0, 10<<20); got != gcMost {
		t.Fatalf("a pause of one look ends the load: %d", got)
	}
	// However large the live heap, what it may grow by beyond the default is bounded.
	for _, live := range []uint64{0, 1, 20 << 20, 100 << 20, 1 << 30, 8 << 30} {
		got := p.next(gcBusy, live)
		if got < gcDefault || got > gcMost {
			t.Fatalf("%d live bytes: %d", live, got)
		}
		if more := uint64(got-gcDefault) * live / 100; more > gcRoom {
			t.Fatalf("%d live bytes may grow by %d more", live, more)
		}
	}
	p.next(gcBusy, 10<<20)
	for range gcCalm - 1 {
		p.next(0, 10<<20)
	}
	if got := p.next(0, 10<<20); got != gcDefault {
		t.Fatalf("an idle server collects at %d", got)
	}
}
