package kvtest

import (
	"strings"
	"testing"
	"time"
)

// step is one operation of a history that is written down: the times are those of
// a clock that ticks once for each.
type step struct {
	from, to int64
	op       Op
	out      Result
}

func check(steps ...step) error {
	h := NewHistory()
	for i, s := range steps {
		h.add(&Pending{h, i, s.op, s.from}, s.out, s.to)
	}
	return h.Check(10 * time.Second)
}

var (
	none = Result{unknown: true}
	get  = Op{Kind: OpGet, Key: "k"}
	del  = Op{Kind: OpDelete, Key: "k"}
)

func put(v string) Op                           { return Op{Kind: OpSet, Key: "k", Value: v} }
func swap(expect uint64, v string) Op           { return Op{Kind: OpSwap, Key: "k", Value: v, Expect: expect} }
func rev(n uint64) Result                       { return Result{Revision: n} }
func has(v string, n uint64) Result             { return Result{Found: true, Value: v, Revision: n} }
func conflict(n uint64) Result                  { return Result{Conflict: true, Revision: n} }
func at(from, to int64, op Op, out Result) step { return step{from, to, op, out} }

func TestHistoriesThatMayBe(t *testing.T) {
	for name, steps := range map[string][]step{
		"empty":      {},
		"one by one": {at(1, 2, get, Result{}), at(3, 4, put("a"), rev(5)), at(5, 6, get, has("a", 5)), at(7, 8, del, Result{Found: true}), at(9, 10, get, Result{}), at(11, 12, del, Result{})},
		"concurrent, either order": {
			at(1, 10, put("a"), rev(6)), at(1, 10, put("b"), rev(5)), at(11, 12, get, has("a", 6)),
		},
		"read during a write": {at(1, 2, put("a"), rev(1)), at(3, 8, put("b"), rev(2)), at(4, 5, get, has("a", 1)), at(6, 7, get, has("b", 2))},
		"swaps": {
			at(1, 2, swap(0, "a"), rev(1)), at(3, 4, swap(0, "b"), conflict(1)), at(5, 6, swap(1, "b"), rev(2)),
			at(7, 8, swap(1, "c"), conflict(2)), at(9, 10, del, Result{Found: true}), at(11, 12, swap(2, "c"), conflict(0)), at(13, 14, swap(0, "d"), rev(9)),
		},
		"unknown write is there":     {at(1, 2, put("a"), rev(1)), at(3, forEver, put("b"), none), at(5, 6, get, has("b", 4)), at(7, 8, swap(4, "c"), rev(5))},
		"unknown write is not there": {at(1, 2, put("a"), rev(1)), at(3, forEver, put("b"), none), at(5, 6, get, has("a", 1)), at(7, 8, get, has("a", 1))},
		"unknown write comes late":   {at(1, 2, put("a"), rev(1)), at(3, forEver, put("b"), none), at(5, 6, get, has("a", 1)), at(7, 8, get, has("b", 2))},
		"unknown swap":               {at(1, 2, put("a"), rev(1)), at(3, forEver, swap(1, "b"), none), at(5, 6, swap(1, "c"), conflict(3)), at(7, 8, get, has("b", 3))},
		"unknown swap after all":     {at(1, 2, put("a"), rev(1)), at(3, forEver, swap(1, "b"), none), at(5, 6, swap(1, "c"), rev(4)), at(7, 8, get, has("c", 4))},
		"unknown delete":             {at(1, 2, put("a"), rev(1)), at(3, forEver, del, none), at(5, 6, get, Result{}), at(7, 8, swap(0, "b"), rev(2))},
	} {
		if err := check(steps...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHistoriesThatCannotBe(t *testing.T) {
	for name, steps := range map[string][]step{
		"stale read":       {at(1, 2, put("a"), rev(1)), at(3, 4, put("b"), rev(2)), at(5, 6, get, has("a", 1))},
		"lost write":       {at(1, 2, put("a"), rev(1)), at(3, 4, get, Result{})},
		"never written":    {at(1, 2, get, has("a", 1))},
		"wrong revision":   {at(1, 2, put("a"), rev(1)), at(3, 4, get, has("a", 2))},
		"revisions fall":   {at(1, 2, put("a"), rev(2)), at(3, 4, put("b"), rev(1))},
		"revision again":   {at(1, 2, put("a"), rev(2)), at(3, 4, del, Result{Found: true}), at(5, 6, put("b"), rev(2))},
		"read goes back":   {at(1, 2, put("a"), rev(1)), at(3, 12, put("b"), rev(2)), at(4, 5, get, has("b", 2)), at(6, 7, get, has("a", 1))},
		"two swaps":        {at(1, 2, put("a"), rev(1)), at(3, 8, swap(1, "b"), rev(2)), at(3, 8, swap(1, "c"), rev(3))},
		"swap of nothing":  {at(1, 2, swap(7, "a"), rev(8))},
		"false conflict":   {at(1, 2, put("a"), rev(1)), at(3, 4, swap(1, "b"), conflict(1))},
		"other conflict":   {at(1, 2, put("a"), rev(1)), at(3, 4, swap(5, "b"), conflict(6))},
		"deleted comes":    {at(1, 2, put("a"), rev(1)), at(3, 4, del, Result{Found: true}), at(5, 6, get, has("a", 1))},
		"deleted nothing":  {at(1, 2, put("a"), rev(1)), at(3, 4, del, Result{})},
		"written twice":    {at(1, forEver, put("a"), none), at(2, 3, get, has("a", 1)), at(4, 5, put("b"), rev(2)), at(6, 7, get, has("a", 3))},
		"unknown too soon": {at(1, 2, get, has("a", 1)), at(3, forEver, put("a"), none)},
		"unknown swap done though it must not": {
			at(1, 2, put("a"), rev(5)), at(3, forEver, swap(4, "b"), none), at(6, 7, get, has("b", 6)),
		},
	} {
		err := check(steps...)
		if err == nil || !strings.Contains(err.Error(), "not linearizable") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysAreCheckedByThemselves(t *testing.T) {
	other := Op{Kind: OpGet, Key: "other"}
	if err := check(at(1, 2, put("a"), rev(1)), at(3, 4, other, Result{})); err != nil {
		t.Error(err)
	}
	if err := check(at(1, 2, put("a"), rev(1)), at(3, 4, other, has("a", 1))); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Error(err)
	}
}
