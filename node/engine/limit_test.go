package engine

import (
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestModulesThatBeginBeyondTheirLimit do not begin, and it is said why.
func TestModulesThatBeginBeyondTheirLimit(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for _, tt := range []struct {
		name, module string
		limit        uint64
		kind         Kind
		message      string
	}{
		{"memory", "big", 20<<20 - wasmPage, Memory, "the module begins with 20MiB of memory, over its limit of"},
		{"memory that fits just", "big", 20 << 20, OK, ""},
		// 100,000 elements of 8 bytes, without memory and with a page of it.
		{"only tables", "tables_only", 12 * wasmPage, Memory, "the module begins with 781.3KiB of tables, over its limit of 768KiB"},
		{"only tables, that fit", "tables_only", 13 * wasmPage, OK, ""},
		{"tables", "tables", 512 << 10, Memory, "of tables, over its limit of 512KiB"},
		{"tables that fit, and memory that does not then", "tables", 13 * wasmPage, Memory, "64KiB of memory and 781.3KiB of tables, over its limit of 832KiB"},
		{"both", "tables", 14 * wasmPage, OK, ""},
	} {
		ran := false
		exit := load(t, e, nodetest.Module(t, tt.module)).Run(t.Context(), RunConfig{MemoryLimit: tt.limit, OnRunning: func() { ran = true }})
		if exit.Kind != tt.kind || !strings.Contains(exit.Message, tt.message) || exit.Code != nil {
			t.Errorf("%s: exit %+v, want %s with %q", tt.name, exit, tt.kind, tt.message)
		}
		if ran != (tt.kind == OK) {
			t.Errorf("%s: it ran: %v", tt.name, ran)
		}
		if exit.MemoryPeak > tt.limit {
			t.Errorf("%s: %d bytes of memory, over the limit of %d", tt.name, exit.MemoryPeak, tt.limit)
		}
	}
	if n := e.Usage().GuestMemory; n != 0 {
		t.Errorf("%d bytes of memory are left", n)
	}
}

// TestMemoryPeak is the most that a run had at a time, whatever came of it.
func TestMemoryPeak(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for _, tt := range []struct {
		module string
		limit  uint64
		want   uint64
	}{
		{"return", 0, 0}, // has none
		{"exit", 0, wasmPage},
		{"big", 0, 20 << 20},
		{"grow", 3 << 20, 3 << 20},
		{"grow_cope", 1 << 20, 1 << 20},
	} {
		exit := load(t, e, nodetest.Module(t, tt.module)).Run(t.Context(), RunConfig{MemoryLimit: tt.limit})
		if tt.module == "grow_cope" { // how far it comes is its own
			if exit.MemoryPeak == 0 || exit.MemoryPeak > tt.want {
				t.Errorf("%s: %+v", tt.module, exit)
			}
		} else if exit.MemoryPeak != tt.want {
			t.Errorf("%s: %+v, want a peak of %d", tt.module, exit, tt.want)
		}
	}
	r := runReactor(t, e, "callee", RunConfig{})
	if n := e.Usage().GuestMemory; n != 2*wasmPage {
		t.Errorf("guests have %d bytes, want two pages", n)
	}
	if exit := r.end(errTest); exit.MemoryPeak != 2*wasmPage {
		t.Errorf("exit %+v", exit)
	}
}

func TestTheDefaultLimitIsThatOfSpecs(t *testing.T) {
	t.Parallel()
	exit := load(t, newEngine(t, Config{}), nodetest.Module(t, "grow")).Run(t.Context(), RunConfig{})
	if exit.Kind != Memory || exit.MemoryPeak != wasmatrix.DefaultLimits.Memory {
		t.Errorf("exit %+v", exit)
	}
}
