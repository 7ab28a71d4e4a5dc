package meter_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

//go:generate sh -c "for f in testdata/*.wat; do wat2wasm --enable-tail-call --debug-names $f -o ${f%.wat}.wasm || exit 1; done"

// guest is an instance of a module, metered or not.
type guest struct {
	t    testing.TB
	host *host
	mod  api.Module
}

// metered rewrites and instantiates a module.
func metered(t testing.TB, src []byte, h *host, opts meter.Options) *guest {
	t.Helper()
	out, err := meter.Rewrite(src, opts)
	if err != nil {
		t.Fatal(err)
	}
	r := newRuntime(t)
	h.instantiate(t, r)
	g := start(t, r, out.Wasm, h)
	raiseDepth(g.mod, cmp.Or(h.stack, enoughStack))
	return g
}

// plain instantiates a module as it is.
func plain(t testing.TB, src []byte) *guest {
	t.Helper()
	return start(t, newRuntime(t), src, &host{})
}

func start(t testing.TB, r wazero.Runtime, wasm []byte, h *host) *guest {
	t.Helper()
	m, err := r.InstantiateWithConfig(t.Context(), wasm, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	return &guest{t: t, host: h, mod: m}
}

// call returns what a function returns, and the first line of its error.
func (g *guest) call(name string, args ...uint64) ([]uint64, string) {
	g.t.Helper()
	f := g.mod.ExportedFunction(name)
	if f == nil {
		g.t.Fatalf("no function %q", name)
	}
	results, err := f.Call(context.WithoutCancel(g.t.Context()), args...)
	if err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return nil, line
	}
	return results, ""
}

// fuel is what the guest has used up to now, to the last instruction.
func (g *guest) fuel() int64 {
	left := g.mod.ExportedGlobal(meter.ExportFuel)
	return g.host.given - int64(left.Get())
}

func TestEveryWayOutGivesTheDepthBack(t *testing.T) {
	src := read(t, "testdata/exits.wasm")
	want, trap := plain(t, src).call("all", 1)
	if trap != "" {
		t.Fatal(trap)
	}
	g := metered(t, src, &host{stack: 64 << 10}, meter.Options{})
	deepest := func() uint64 {
		lo, hi := uint64(1), uint64(10_000) // lo works, hi does not
		for lo+1 < hi {
			mid := (lo + hi) / 2
			if _, trap := metered(t, src, &host{stack: 64 << 10}, meter.Options{}).call("down", mid); trap == "" {
				lo = mid
			} else {
				hi = mid
			}
		}
		return lo
	}()
	const times = 10_000 // each leak of a frame would use up the stack many times over
	got, trap := g.call("all", times)
	if trap != "" || got[0] != want[0]*times {
		t.Fatalf("got %v %s, want %d", got, trap, want[0]*times)
	}
	// To the last frame: nothing was lost, and nothing won.
	if _, trap := g.call("down", deepest); trap != "" {
		t.Errorf("%d calls within one another do not fit any more: %s", deepest, trap)
	}
	if _, trap := g.call("down", deepest+1); !strings.Contains(trap, errStack.Error()) {
		t.Errorf("%d calls within one another fit now: %s", deepest+1, trap)
	}
}

func TestRecursionEnds(t *testing.T) {
	src := read(t, "testdata/exits.wasm")
	for name, args := range map[string]int{"deep": 0, "through": 1, "heavy": 10} {
		_, trap := metered(t, src, &host{}, meter.Options{}).call(name, make([]uint64, args)...)
		if !strings.Contains(trap, errStack.Error()) {
			t.Errorf("%s: %s", name, trap)
		}
	}
}

func TestRealisticRecursionFits(t *testing.T) {
	if _, trap := metered(t, read(t, "testdata/exits.wasm"), &host{}, meter.Options{}).call("down", 20_000); trap != "" {
		t.Error(trap)
	}
}

func TestTailCallsNeedNoStack(t *testing.T) {
	g := metered(t, read(t, "testdata/exits.wasm"), &host{stack: 4 << 10}, meter.Options{})
	if got, trap := g.call("hop", 1_000_000); trap != "" || got[0] != 7 {
		t.Error(got, trap)
	}
}

// TestFuelIsTheSameInAnySlices runs everything with refills of every size.
func TestFuelIsTheSameInAnySlices(t *testing.T) {
	kernel := read(t, "testdata/kernels.wasm")
	type result struct {
		value uint64
		fuel  int64
	}
	calls := map[string]uint64{
		"tight": 1000, "lcg": 1000, "nested": 20, "fib": 12, "calls": 300, "indirect": 300,
		"memory": 3, "sieve": 2000, "pressure": 300, "interpreter": 300,
	}
	for name, n := range calls {
		var first result
		want, _ := plain(t, kernel).call(name, n)
		for i, slice := range []int64{1 << 40, 1, 2, 7, 100, 9999} {
			g := metered(t, kernel, &host{slice: slice}, meter.Options{})
			got, trap := g.call(name, n)
			if trap != "" {
				t.Fatal(name, trap)
			}
			if got[0] != want[0] {
				t.Errorf("%s: %d, want %d", name, got[0], want[0])
			}
			r := result{got[0], g.fuel()}
			if i == 0 {
				first = r
				if r.fuel < int64(n) {
					t.Errorf("%s(%d) used %d", name, n, r.fuel)
				}
			} else if r != first {
				t.Errorf("%s in slices of %d: %v, want %v", name, slice, r, first)
			}
		}
	}
}

// TestEndlessLoopsAsk: whatever a guest does for ever, its host is asked.
func TestEndlessLoopsAsk(t *testing.T) {
	loop := func(body ...byte) []byte { return cat([]byte{0x03, 0x40}, body, []byte{0x0c, 0, 0x0b}) }
	memory := section(5, vec([]byte{0, 1}))
	module := func(body []byte, others ...[]byte) []byte {
		functions := [][]byte{{0}}
		codes := [][]byte{code(nil, body...)}
		for _, o := range others {
			functions = append(functions, []byte{0})
			codes = append(codes, code(nil, o...))
		}
		return wasm(
			section(1, vec(funcType(nil, nil))),
			section(3, vec(functions...)),
			section(4, vec([]byte{0x70, 0, 1})),
			memory,
			section(7, vec(cat(str("f"), []byte{0, 0}))),
			section(9, vec(cat([]byte{0, 0x41, 0, 0x0b}, vec([]byte{0})))),
			section(10, vec(codes...)),
		)
	}
	for name, src := range map[string][]byte{
		"empty":                 module(loop()),
		"loop in a loop":        module(loop(loop()...)),
		"branch if":             module([]byte{0x03, 0x40, 0x41, 1, 0x0d, 0, 0x0b}),
		"branch table":          module([]byte{0x03, 0x40, 0x41, 5, 0x0e, 1, 0, 0, 0x0b}),
		"from a block":          module([]byte{0x03, 0x40, 0x02, 0x40, 0x0c, 1, 0x0b, 0x0b}),
		"from a loop outwards":  module([]byte{0x03, 0x40, 0x03, 0x40, 0x0c, 1, 0x0b, 0x0b}),
		"tail call":             module([]byte{0x12, 0}),
		"tail calls in turn":    module([]byte{0x12, 1}, []byte{0x12, 0}),
		"tail call by table":    module([]byte{0x41, 0, 0x13, 0, 0}),
		"with a call":           module(loop(0x10, 1), nil),
		"memory.fill":           module(loop(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0)),
		"memory.copy":           module(loop(0x41, 0, 0x41, 0, 0x41, 0x80, 0x80, 4, 0xfc, 10, 0, 0)),
		"memory.grow":           module(loop(0x41, 0, 0x40, 0, 0x1a)),
		"in a start function":   nil,
		"table.fill of nothing": module(loop(0x41, 0, 0xd0, 0x70, 0x41, 0, 0xfc, 17, 0)),
	} {
		t.Run(name, func(t *testing.T) {
			h := &host{slice: 1000, limit: 100_000}
			if src == nil { // the start section stands before the elements
				out, err := meter.Rewrite(wasm(
					section(1, vec(funcType(nil, nil))), section(3, vec([]byte{0})), section(8, []byte{0}),
					section(10, vec(code(nil, loop()...))),
				), meter.Options{})
				if err != nil {
					t.Fatal(err)
				}
				r := newRuntime(t)
				h.instantiate(t, r)
				if _, err := r.Instantiate(t.Context(), out.Wasm); err == nil || !strings.Contains(err.Error(), errFuel.Error()) {
					t.Error(err)
				}
				return
			}
			if _, trap := metered(t, src, h, meter.Options{}).call("f"); !strings.Contains(trap, errFuel.Error()) {
				t.Error(trap)
			}
		})
	}
}

func TestBulkOperations(t *testing.T) {
	src := read(t, "testdata/bulk.wasm")
	const pages, page = 8, 64 << 10
	const all = pages * page
	h := &host{slice: 100}
	a, b := plain(t, src), metered(t, src, h, meter.Options{})
	step := func(name string, args ...uint64) {
		t.Helper()
		before := b.fuel()
		want, wantTrap := a.call(name, args...)
		got, trap := b.call(name, args...)
		if trap != wantTrap || !slices.Equal(got, want) {
			t.Errorf("%s%v: %v %q, want %v %q", name, args, got, trap, want, wantTrap)
		}
		if b.fuel() <= before && name != "is_null" { // small functions are charged to their callers
			t.Errorf("%s%v costs nothing", name, args)
		}
		am, bm := a.mod.Memory(), b.mod.Memory()
		x, _ := am.Read(0, am.Size())
		y, _ := bm.Read(0, bm.Size())
		if !slices.Equal(x, y) {
			t.Fatalf("%s%v: memories differ", name, args)
		}
	}
	// Something to copy that shows where it came from.
	for _, g := range []*guest{a, b} {
		for i := range uint32(all / 4) {
			g.mod.Memory().WriteUint32Le(i*4, i*2654435761)
		}
	}
	lengths := []uint64{0, 1, 15, page - 1, page, page + 1, 3*page + 5, 4 * page, all - 1, all, all + 1, 1<<32 - 1}
	for _, n := range lengths {
		for _, to := range []uint64{0, 1, 100, page, 2*page + 3, all - 1, all, all + 1, 1<<32 - 1} {
			step("fill", to, n&0xff, n)
			for _, from := range []uint64{0, 7, page + 1, 2 * page, all} {
				step("copy", to, from, n)
			}
		}
		step("init", 5, 3, min(n, 13))
		step("init", 5, 3, n)
		step("init", all-4, 0, n)
	}
	step("fill16", 100)
	step("fill16", all-15)
	step("copy16", 300, 290)
	step("copy16", 300, all-15)
	step("init16", 4)
	step("fill_all", 9)
	step("grow", 1)
	step("grow", 5)
	step("grow", 1<<32-1)
	step("grow", 1)
	step("fill", all, 3, 2*page)
	step("table_fill", 2, 3)
	step("table_fill", 8, 3)
	step("table_init", 0, 1, 3)
	step("table_init", 0, 1, 1<<32-1)
	step("table_copy", 4, 0, 4)
	step("table_copy", 4, 8, 4)
	for i := range uint64(11) {
		step("is_null", i)
	}
	step("table_grow", 5)
	step("is_null", 14)
	step("drop")
	step("init", 0, 0, 1)
	step("table_init", 0, 0, 1)
}

// TestBulkOperationsAskInBetween: filling eight pages in slices of a hundredth
// of that asks about as often as it costs.
func TestBulkOperationsAskInBetween(t *testing.T) {
	src := read(t, "testdata/bulk.wasm")
	for _, c := range []struct {
		name string
		args []uint64
	}{{"fill", []uint64{0, 1, 8 << 16}}, {"copy", []uint64{0, 1 << 16, 7 << 16}}, {"copy", []uint64{1 << 16, 0, 7 << 16}}} {
		h := &host{slice: 1000}
		g := metered(t, src, h, meter.Options{})
		if _, trap := g.call(c.name, c.args...); trap != "" {
			t.Fatal(trap)
		}
		if h.calls < 7 {
			t.Errorf("%s%v asked %d times", c.name, c.args, h.calls)
		}
		if perByte := float64(g.fuel()) / float64(c.args[2]); perByte < 1.0/16 || perByte > 1 {
			t.Errorf("%s%v costs %.3f a byte", c.name, c.args, perByte)
		}
	}
}

func TestTablesGrowUpToTheLimit(t *testing.T) {
	src := read(t, "testdata/bulk.wasm")
	g := metered(t, src, &host{}, meter.Options{Limits: meter.Limits{TableElements: 25}})
	if got, trap := g.call("table_grow", 15); trap != "" || got[0] != 10 {
		t.Error(got, trap)
	}
	if got, trap := g.call("table_grow", 1); trap != "" || uint32(got[0]) != 1<<32-1 {
		t.Error(got, trap)
	}
}

func TestTheHostIsAskedBeforeTablesGrow(t *testing.T) {
	src := read(t, "testdata/bulk.wasm")
	h := &host{}
	g := metered(t, src, h, meter.Options{})
	for _, n := range []uint64{3, 4} {
		if got, trap := g.call("table_grow", n); trap != "" || int32(got[0]) < 0 {
			t.Error(got, trap)
		}
	}
	if len(h.tables) != 2 || h.tables[0] != [3]uint32{3, h.tables[0][1], 0} || h.tables[1] != [3]uint32{4, h.tables[0][1], 3} {
		t.Errorf("asked with %v", h.tables)
	}
	h.fixTables = true
	if got, trap := g.call("table_grow", 1); trap != "" || int32(got[0]) != -1 {
		t.Errorf("a table grew against the host's will: %v %s", got, trap)
	}
}

func TestRewriteIsDeterministicAndKeepsTheSource(t *testing.T) {
	for _, name := range []string{"exits", "bulk", "kernels"} {
		src := read(t, fmt.Sprintf("testdata/%s.wasm", name))
		before := slices.Clone(src)
		a, err := meter.Rewrite(src, meter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := meter.Rewrite(src, meter.Options{})
		if !slices.Equal(a.Wasm, b.Wasm) {
			t.Errorf("%s: outputs differ", name)
		}
		if !slices.Equal(src, before) {
			t.Errorf("%s: the source was changed", name)
		}
	}
}

func TestNamesOfTheMeterAreReserved(t *testing.T) {
	for _, name := range []string{meter.ExportFuel, meter.ExportDepth} {
		src := wasm(
			section(1, vec(funcType(nil, nil))), section(3, vec([]byte{0})),
			section(7, vec(cat(str(name), []byte{0, 0}))),
			section(10, vec(code(nil))),
		)
		if _, err := meter.Rewrite(src, meter.Options{}); err == nil || !strings.Contains(err.Error(), "reserved") {
			t.Error(name, err)
		}
	}
}

// TestAStartSectionHasLittleStack: nobody can raise its budget before it runs.
func TestAStartSectionHasLittleStack(t *testing.T) {
	r := newRuntime(t)
	(&host{}).instantiate(t, r)
	deep := func(depth int) error {
		// (func (param i32) (if (local.get 0) (then (call 0 (i32.sub (local.get 0) (i32.const 1))))))
		recurse := code(nil, 0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x10, 0, 0x0b)
		out, err := meter.Rewrite(wasm(
			section(1, vec(funcType([]byte{i32}, nil), funcType(nil, nil))), section(3, []byte{2, 0, 1}), section(8, []byte{1}),
			section(10, vec(recurse, code(nil, append(append([]byte{0x41}, leb(depth)...), 0x10, 0)...))),
		), meter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.InstantiateWithConfig(t.Context(), out.Wasm, wazero.NewModuleConfig().WithName(""))
		return err
	}
	if err := deep(20); err != nil {
		t.Error(err)
	}
	if err := deep(meter.MinStack / 100); !errors.Is(err, errStack) {
		t.Errorf("%d calls within one another: %v", meter.MinStack/100, err)
	}
}

func TestErrorsAreFound(t *testing.T) {
	_, err := meter.Rewrite(single(nil, nil, 0xfe, 0x03, 0), meter.Options{})
	if !errors.Is(err, meter.ErrUnsupported) || !strings.Contains(err.Error(), "0xfe") {
		t.Error(err)
	}
}
