package engine

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

const wasmPage = wasmatrix.WasmPage

// TestP19_MemoriesOfAPoolAreDisjointAndBeginWithZeros: whatever guests do with
// their memories, in whatever order they come and go, each finds what it wrote
// itself, and zeros elsewhere.
func TestP19_MemoriesOfAPoolAreDisjointAndBeginWithZeros(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := &memoryPool{}
		type guest struct {
			mem    *memory
			linear *linear
			bytes  []byte // as the guest sees them
			mark   byte
			marked []int // where bytes is mark; elsewhere it is 0
		}
		var guests []*guest
		check := func(g *guest) {
			t.Helper()
			for _, at := range g.marked {
				if g.bytes[at] != g.mark {
					t.Fatalf("byte %d is %d, and %d was written", at, g.bytes[at], g.mark)
				}
			}
			if seen := len(g.bytes) - bytes.Count(g.bytes, []byte{0}); seen != len(g.marked) {
				t.Fatalf("%d bytes are not zero, and %d were written", seen, len(g.marked))
			}
		}
		end := func(i int) {
			check(guests[i])
			guests[i].mem.release()
			guests = slices.Delete(guests, i, i+1)
		}
		var mark byte
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				if len(guests) > 20 {
					t.Skip("enough")
				}
				mark = mark%250 + 1
				pages := uint64(rapid.SampledFrom([]int{0, 1, 1, 1, 2, 3, 31, 32, 33}).Draw(t, "pages"))
				g := &guest{mem: newMemory(pool, 64*wasmPage, 0), mark: mark}
				g.linear, _ = g.mem.Allocate(pages*wasmPage, 4<<30).(*linear)
				g.bytes = g.linear.Reallocate(pages * wasmPage)
				if uint64(len(g.bytes)) != pages*wasmPage || cap(g.bytes) != len(g.bytes) {
					t.Fatalf("%d bytes of %d, want %d pages", len(g.bytes), cap(g.bytes), pages)
				}
				guests = append(guests, g)
				check(g)
			},
			"write": func(t *rapid.T) {
				if len(guests) == 0 {
					t.Skip("nobody")
				}
				g := rapid.SampledFrom(guests).Draw(t, "guest")
				if len(g.bytes) == 0 {
					t.Skip("nothing to write to")
				}
				at := rapid.SampledFrom([]int{0, len(g.bytes) - 1, rapid.IntRange(0, len(g.bytes)-1).Draw(t, "at")}).Draw(t, "where")
				if g.bytes[at] == 0 {
					g.marked = append(g.marked, at)
				}
				g.bytes[at] = g.mark
			},
			"grow": func(t *rapid.T) {
				if len(guests) == 0 {
					t.Skip("nobody")
				}
				g := rapid.SampledFrom(guests).Draw(t, "guest")
				to := uint64(len(g.bytes)) + uint64(rapid.IntRange(1, 40).Draw(t, "by"))*wasmPage
				grown := g.linear.Reallocate(to)
				if to > 64*wasmPage {
					if grown != nil {
						t.Fatalf("grew to %d bytes, over its limit", to)
					}
					check(g)
					return
				}
				if uint64(len(grown)) != to {
					t.Fatalf("grew to %d bytes, want %d", len(grown), to)
				}
				g.bytes = grown
				check(g)
			},
			"end": func(t *rapid.T) {
				if len(guests) == 0 {
					t.Skip("nobody")
				}
				end(rapid.IntRange(0, len(guests)-1).Draw(t, "guest"))
			},
			"": func(t *rapid.T) {
				var sum uint64
				for _, g := range guests {
					sum += uint64(len(g.bytes))
				}
				if n := pool.present.Load(); uint64(n) != sum {
					t.Fatalf("%d bytes are counted, of %d", n, sum)
				}
			},
		})
		for len(guests) > 0 {
			end(len(guests) - 1)
		}
		for class := range pool.slabs {
			if c := &pool.slabs[class]; len(c.open) > 1 || len(c.open) == 1 && c.open[0] != c.spare {
				t.Fatalf("%d slabs are left of class %d", len(c.open), class)
			}
		}
		pool.close()
	})
}

func TestPoolUsesManySlabsAndGivesThemBack(t *testing.T) {
	t.Parallel()
	pool := &memoryPool{}
	var slots []slot
	seen := map[string]bool{}
	for range 3 * slabSize / minSlot {
		s := pool.take(minSlot)
		if s.slab == nil {
			t.Skip("this system reserves no memory")
		}
		key := fmt.Sprintf("%p", &s.bytes()[0])
		if seen[key] {
			t.Fatalf("slot %s was given twice", key)
		}
		seen[key] = true
		slots = append(slots, s)
	}
	for _, s := range slots {
		pool.give(s, 0)
	}
	if c := &pool.slabs[0]; len(c.open) != 1 || c.spare != c.open[0] {
		t.Errorf("%d slabs are left, want the spare one", len(c.open))
	}
	pool.close()
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	pool := &memoryPool{}
	m := newMemory(pool, 4*wasmPage, 2*wasmPage/tableElement) // two pages of tables
	if err := m.admit(); err != nil {
		t.Fatal(err)
	}
	l, _ := m.Allocate(wasmPage, 4<<30).(*linear)
	if b := l.Reallocate(2 * wasmPage); len(b) != 2*wasmPage {
		t.Errorf("%d bytes, and the limit leaves two pages", len(b))
	}
	if b := l.Reallocate(3 * wasmPage); b != nil {
		t.Errorf("%d bytes, beyond the limit", len(b))
	}
	if m.refused != 5*wasmPage || m.peak != 2*wasmPage {
		t.Errorf("refused %d, peak %d", m.refused, m.peak)
	}
	m.limit += wasmPage
	if !m.growTable(3, 100, 0) || !m.growTable(3, 100, 100) || m.growTable(5, 8000, 0) || m.tables != 2*wasmPage+200*tableElement {
		t.Errorf("tables take %d bytes", m.tables)
	}
	// The first growth of table 3 turns out to have failed.
	if m.limit -= wasmPage; m.growTable(3, 1, 100) || m.tables != 2*wasmPage+200*tableElement {
		t.Errorf("tables take %d bytes of a limit that is used up", m.tables)
	}
	m.release()
	if n := pool.present.Load(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}

	defer func() {
		if _, ok := recover().(initialMemoryError); !ok {
			t.Error("a module that begins beyond its limit was taken")
		}
	}()
	newMemory(pool, wasmPage, 0).Allocate(2*wasmPage, 4<<30)
}
