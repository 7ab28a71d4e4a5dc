package wasmatrix_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestStatusIsReadAsItIsWritten(t *testing.T) {
	for s := wasmatrix.StatusPending; s <= wasmatrix.StatusCrashed; s++ {
		if got, err := wasmatrix.ParseStatus(s.String()); err != nil || got != s {
			t.Errorf("%s is read as %s, %v", s, got, err)
		}
		// Every status is exactly one of these.
		n := 0
		for _, is := range []bool{s.Final(), s.OnNode(), s.Unplaced()} {
			if is {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is final %v, on a node %v, unplaced %v", s, s.Final(), s.OnNode(), s.Unplaced())
		}
	}
	for _, s := range []string{"", "unknown", "Running", "status(9)"} {
		if _, err := wasmatrix.ParseStatus(s); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
			t.Errorf("%q: %v", s, err)
		}
	}
	if got := wasmatrix.Status(200).String(); got != "status(200)" {
		t.Errorf("%q", got)
	}
}

// TestP9_ReportsAreTotallyOrdered holds After to be a strict order, in which of
// two different reports one is always the later.
func TestP9_ReportsAreTotallyOrdered(t *testing.T) {
	type at struct {
		epoch   uint64
		attempt uint32
		seq     uint64
	}
	small := rapid.Custom(func(t *rapid.T) at {
		return at{rapid.Uint64Max(2).Draw(t, "epoch"), rapid.Uint32Max(2).Draw(t, "attempt"), rapid.Uint64Max(2).Draw(t, "seq")}
	})
	after := func(a, b at) bool {
		i := &wasmatrix.Instance{Epoch: b.epoch, Attempt: b.attempt, Seq: b.seq}
		return i.After(a.epoch, a.attempt, a.seq)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := small.Draw(t, "a"), small.Draw(t, "b"), small.Draw(t, "c")
		if (a == b) == (after(a, b) || after(b, a)) || after(a, b) && after(b, a) {
			t.Fatalf("%v after %v is %v, the other way %v", a, b, after(a, b), after(b, a))
		}
		if after(a, b) && after(b, c) && !after(a, c) {
			t.Fatalf("%v, %v and %v go round", a, b, c)
		}
	})
}

func TestCapacityFits(t *testing.T) {
	limit := wasmatrix.Capacity{Memory: 100, Instances: 2}
	for _, c := range []struct {
		used, more wasmatrix.Capacity
		want       bool
	}{
		{wasmatrix.Capacity{}, wasmatrix.Capacity{Memory: 100, Instances: 2}, true},
		{wasmatrix.Capacity{Memory: 60, Instances: 1}, wasmatrix.Capacity{Memory: 40, Instances: 1}, true},
		{wasmatrix.Capacity{Memory: 60, Instances: 1}, wasmatrix.Capacity{Memory: 41, Instances: 1}, false},
		{wasmatrix.Capacity{Memory: 60, Instances: 2}, wasmatrix.Capacity{Memory: 1, Instances: 1}, false},
		// Nothing that overflows fits, nor anything where too much is used already.
		{wasmatrix.Capacity{Memory: 60, Instances: 1}, wasmatrix.Capacity{Memory: math.MaxUint64, Instances: 1}, false},
		{wasmatrix.Capacity{Memory: 60, Instances: 1}, wasmatrix.Capacity{Memory: 1, Instances: math.MaxUint32}, false},
		{wasmatrix.Capacity{Memory: 101}, wasmatrix.Capacity{}, false},
		{wasmatrix.Capacity{Instances: 3}, wasmatrix.Capacity{}, false},
	} {
		if got := c.used.Fits(c.more, limit); got != c.want {
			t.Errorf("%+v and %+v within %+v: %v", c.used, c.more, limit, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string) wasmatrix.Capacity {
			return wasmatrix.Capacity{Memory: rapid.Uint64Max(1<<40).Draw(t, what), Instances: rapid.Uint32Max(1<<20).Draw(t, what)}
		}
		a, b := draw("a"), draw("b")
		if sum := a.Plus(b); !a.Fits(b, sum) || sum.Minus(b) != a || sum.Minus(a) != b {
			t.Fatalf("%+v and %+v are %+v", a, b, sum)
		}
	})
}
